//! Errors of an admission by meaning, and their sentences.

use crate::backend::{BackendError, ErrorKind};
use injection::{self, AnnotationRef, InvalidAnnotation, PREFIX, PlanError, SecretId};

/// Limit of sentences in one refusal, so that a person can read all of them.
const MAX_SENTENCES: usize = 50;

/// Limit of their bytes in total. A response has each sentence twice: kubectl prints the causes, controllers the
/// message.
const MAX_SENTENCES_BYTES: usize = 32 << 10;

/// Reasons for which an admission has no plan.
#[derive(Clone, Debug, PartialEq)]
pub enum AdmissionError {
    /// Annotations that do not parse, or that name a source which is not configured.
    Annotations(Vec<InvalidAnnotation>),
    /// Requests that cannot be planned: missing secrets, collisions, unknown containers.
    Plan(Vec<PlanError>),
    /// Failures of backends. At least one.
    Backend(Vec<BindFailure>),
    /// Bytes that are not a review.
    Unreadable(String),
    /// Secrets that the pod may not use. At least one.
    Forbidden(Vec<ForbiddenSecret>),
    /// The patch would be longer than a response may be.
    PatchTooLong,
    /// The audit trail did not take the record, and the operator admits nothing without one.
    NotRecorded,
}

/// A secret that could not be bound because its backend failed.
#[derive(Clone, Debug)]
pub struct BindFailure {
    pub error: BackendError,
    /// Annotation that requests it; `None` if the defaults could not be read.
    pub site: Option<AnnotationRef>,
}

impl PartialEq for BindFailure {
    fn eq(&self, other: &Self) -> bool {
        self.error.to_string() == other.error.to_string() && self.site == other.site
    }
}

impl AdmissionError {
    /// Whether [`super::policy::OnUnavailable`] applies.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Backend(failures) => failures
                .iter()
                .all(|failure| failure.error.kind.is_unavailable()),
            Self::Annotations(_)
            | Self::Plan(_)
            | Self::Forbidden(_)
            | Self::Unreadable(_)
            | Self::PatchTooLong
            | Self::NotRecorded => false,
        }
    }

    /// Kind of the error. If there are several, refusals take precedence over failures, and failures of the webhook's
    /// own credentials over outages.
    #[must_use]
    pub fn kind(&self) -> AdmissionErrorKind {
        match self {
            Self::Annotations(_) => AdmissionErrorKind::Invalid,
            Self::Plan(errors) => {
                let missing = |error: &PlanError| {
                    matches!(
                        error,
                        PlanError::MissingSecret { .. } | PlanError::MissingKey { .. }
                    )
                };
                let misnamed =
                    |error: &PlanError| matches!(error, PlanError::NameConvention { .. });
                if errors.iter().any(misnamed) {
                    AdmissionErrorKind::Invalid
                } else if errors.iter().any(missing) {
                    AdmissionErrorKind::NotFound
                } else {
                    AdmissionErrorKind::Conflict
                }
            }
            Self::Backend(failures) => failures
                .iter()
                .map(|failure| AdmissionErrorKind::from(failure.error.kind))
                .min()
                .unwrap_or(AdmissionErrorKind::Unavailable),
            Self::Forbidden(_) => AdmissionErrorKind::PermissionDenied,
            Self::Unreadable(_) => AdmissionErrorKind::Unreadable,
            Self::PatchTooLong => AdmissionErrorKind::Conflict,
            Self::NotRecorded => AdmissionErrorKind::NotRecorded,
        }
    }
}

/// Rows of the error table, in order of precedence if several apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdmissionErrorKind {
    /// Malformed, unknown source, or a name against the convention.
    Invalid,
    /// Collision, or no such container.
    Conflict,
    /// No such secret or key.
    NotFound,
    /// The backend refuses this reader.
    PermissionDenied,
    /// The backend refuses the webhook's credential.
    Unauthenticated,
    /// The backend's response cannot be read.
    Protocol,
    /// No connection, or a request to retry later.
    Unavailable,
    /// No response in time.
    Timeout,
    /// The audit trail did not take the record.
    NotRecorded,
    /// Not a review.
    Unreadable,
}

impl From<ErrorKind> for AdmissionErrorKind {
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

/// Sentences of an error, one for each mistake. If there are too many, the last one has the number of those left out.
#[must_use]
pub fn sentences(error: &AdmissionError) -> Vec<String> {
    match error {
        AdmissionError::Annotations(mistakes) => bounded(mistakes, |mistake| format!("{mistake}.")),
        AdmissionError::Plan(errors) => bounded(errors, ToString::to_string),
        AdmissionError::Backend(failures) => bounded(failures, backend_sentence),
        AdmissionError::Forbidden(forbidden) => bounded(forbidden, forbidden_sentence),
        AdmissionError::Unreadable(problem) => vec![format!("{problem}.")],
        AdmissionError::PatchTooLong => vec![patch_too_long()],
        AdmissionError::NotRecorded => vec![NOT_RECORDED.to_owned()],
    }
}

const NOT_RECORDED: &str = "the audit trail of the secrets webhook cannot be written, and this installation admits \
    nothing that asks for secrets without a record. Try again in a moment; controllers do so by themselves.";

fn patch_too_long() -> String {
    format!(
        "the changes that the annotations under {PREFIX} ask for are longer than {} bytes. Shorten the annotations, or select fewer containers.",
        injection::MAX_PATCH_BYTES
    )
}

/// First sentences within [`MAX_SENTENCES`] and [`MAX_SENTENCES_BYTES`]; the others are not even formatted.
fn bounded<T>(all: &[T], sentence: impl Fn(&T) -> String) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut bytes = 0;
    for one in all {
        let text = sentence(one);
        bytes += text.len();
        if sentences.len() == MAX_SENTENCES || bytes > MAX_SENTENCES_BYTES {
            sentences.push(format!(
                "There are {} more mistakes.",
                all.len() - sentences.len()
            ));
            break;
        }
        sentences.push(text);
    }
    sentences
}

/// Sentences about a pod that is admitted without its secrets. They have no advice, because no action is needed.
pub(super) fn degraded(error: &AdmissionError) -> Vec<String> {
    match error {
        AdmissionError::Backend(failures) => failures.iter().map(backend_problem).collect(),
        AdmissionError::Annotations(_)
        | AdmissionError::Plan(_)
        | AdmissionError::Forbidden(_)
        | AdmissionError::Unreadable(_)
        | AdmissionError::PatchTooLong
        | AdmissionError::NotRecorded => sentences(error),
    }
}

fn backend_problem(BindFailure { error, site }: &BindFailure) -> String {
    match site {
        Some(site) => format!("{error} (asked for by {site})"),
        None => {
            format!("{error} (the defaults of the namespace and service account could not be read)")
        }
    }
}

fn backend_sentence(failure: &BindFailure) -> String {
    let advice = match AdmissionErrorKind::from(failure.error.kind) {
        AdmissionErrorKind::PermissionDenied => {
            "Ask the platform operator to let the webhook read it."
        }
        AdmissionErrorKind::Protocol => "Tell the platform operator; the webhook's log says more.",
        // Backends have only one error of this kind: too many keys.
        AdmissionErrorKind::Conflict => "Bring it in whole with secrets.floe.dev/env-from.",
        AdmissionErrorKind::Invalid
        | AdmissionErrorKind::NotFound
        | AdmissionErrorKind::Unauthenticated
        | AdmissionErrorKind::Unavailable
        | AdmissionErrorKind::Timeout
        | AdmissionErrorKind::NotRecorded
        | AdmissionErrorKind::Unreadable => {
            "Try again in a moment; controllers do so by themselves."
        }
    };
    format!("{}. {advice}", backend_problem(failure))
}

fn forbidden_sentence(ForbiddenSecret { secret, who, site }: &ForbiddenSecret) -> String {
    let annotation = site
        .as_ref()
        .map(|site| format!(" (asked for by {site})"))
        .unwrap_or_default();
    format!(
        "{who} may not use secret \"{}\"{annotation}. Ask the platform operator to allow it, or correct the annotation.",
        secret.name
    )
}

/// A secret that may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForbiddenSecret {
    /// Secret, whether or not it exists.
    pub secret: SecretId,
    /// Subject that may not use it, as in `service account "loader"`.
    pub who: String,
    /// Annotation that requests it.
    pub site: Option<AnnotationRef>,
}
