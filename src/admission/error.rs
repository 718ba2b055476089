//! What can go wrong in an admission, by meaning.

use crate::backend::{BackendError, ErrorKind};
use crate::injection::{InvalidAnnotation, PlanError, Site};

/// Why a review is not answered with a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum AdmissionError {
    /// Annotations that do not parse, or ask for a source that this webhook does not have.
    Annotations(Vec<InvalidAnnotation>),
    /// What was asked for cannot be planned: missing secrets, collisions, unknown containers.
    Plan(Vec<PlanError>),
    /// A backend gave no verdict, or refused us. At least one.
    Backend(Vec<Unbound>),
    /// The bytes were no review.
    Unreadable(String),
    /// The patch would be longer than an answer may carry.
    PatchTooLong,
}

/// A secret about which no verdict could be had, and who asked for it.
#[derive(Clone, Debug)]
pub struct Unbound {
    /// What happened.
    pub error: BackendError,
    /// The annotation; `None` when it was the defaults that could not be read.
    pub site: Option<Site>,
}

impl PartialEq for Unbound {
    fn eq(&self, other: &Self) -> bool {
        self.error.to_string() == other.error.to_string() && self.site == other.site
    }
}

impl AdmissionError {
    /// Whether the backend gave no verdict, so that the operator's `onUnavailable` decides.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Backend(unbound) => unbound.iter().all(|unbound| unbound.error.kind.is_unavailable()),
            Self::Annotations(_) | Self::Plan(_) | Self::Unreadable(_) | Self::PatchTooLong => false,
        }
    }

    /// What was met, worst first: a refusal before a fault, our own credential before a passing outage.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Annotations(_) => Kind::Invalid,
            Self::Plan(errors) => {
                let missing =
                    |error: &PlanError| matches!(error, PlanError::MissingSecret { .. } | PlanError::MissingKey { .. });
                if errors.iter().any(missing) { Kind::NotFound } else { Kind::Conflict }
            }
            Self::Backend(unbound) => {
                unbound.iter().map(|unbound| Kind::from(unbound.error.kind)).min().unwrap_or(Kind::Unavailable)
            }
            Self::Unreadable(_) => Kind::Unreadable,
            Self::PatchTooLong => Kind::Conflict,
        }
    }
}

/// The rows of the error table, in order of precedence when several apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Malformed, or unknown source.
    Invalid,
    /// Collision, or no such container.
    Conflict,
    /// No such secret or key.
    NotFound,
    /// The backend refuses this reader.
    PermissionDenied,
    /// The backend refuses our credential.
    Unauthenticated,
    /// The backend's answer cannot be read.
    Protocol,
    /// No connection, or "not now".
    Unavailable,
    /// No answer in time.
    Timeout,
    /// Not a review.
    Unreadable,
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::PermissionDenied,
            ErrorKind::Unavailable | ErrorKind::RateLimited => Self::Unavailable,
            ErrorKind::Deadline => Self::Timeout,
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::TooManyKeys => Self::Conflict,
            ErrorKind::Protocol | ErrorKind::Invalid | ErrorKind::Conflict => Self::Protocol,
        }
    }
}
