//! What can go wrong at a backend, by meaning.

use std::sync::Arc;
use std::time::Duration;

use super::{BackendKind, BindQuery, MAX_KEY_BYTES, MAX_KEYS};
use crate::kubernetes::ApiErrorKind;
use injection::SecretName;

/// What a failure means to the caller. The floe spec's `PermissionError` is `PermissionDenied`; its
/// `ConnectionError` is `Unavailable`, `RateLimited`, `Deadline`, `Unauthenticated` or `Protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such secret, or no such key, in that namespace.
    NotFound,
    /// The backend refuses this reader.
    PermissionDenied,
    /// No connection, or an answer that says "not now" (5xx).
    Unavailable,
    /// The backend asks us to slow down (429).
    RateLimited,
    /// No answer within the caller's deadline.
    Deadline,
    /// The backend refuses *our* credential (401): the operator must act.
    Unauthenticated,
    /// An answer that cannot be read.
    Protocol,
    /// The backend refuses the question itself (400, 422).
    Invalid,
    /// The write met another writer, or a secret that is not ours to write.
    Conflict,
    /// The secret has more keys than are read of one.
    TooManyKeys,
}

impl From<ApiErrorKind> for ErrorKind {
    fn from(kind: ApiErrorKind) -> Self {
        match kind {
            ApiErrorKind::NotFound => Self::NotFound,
            ApiErrorKind::Unauthenticated => Self::Unauthenticated,
            ApiErrorKind::Forbidden => Self::PermissionDenied,
            ApiErrorKind::Conflict => Self::Conflict,
            ApiErrorKind::Invalid => Self::Invalid,
            ApiErrorKind::RateLimited => Self::RateLimited,
            // Gone: the snapshot of a list has expired; a new list succeeds.
            ApiErrorKind::Unavailable | ApiErrorKind::Gone => Self::Unavailable,
            ApiErrorKind::TooLong | ApiErrorKind::Unexpected => Self::Protocol,
        }
    }
}

impl ErrorKind {
    /// Whether the same question may get another answer a moment later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unavailable | Self::RateLimited => true,
            Self::NotFound
            | Self::PermissionDenied
            | Self::Deadline
            | Self::Unauthenticated
            | Self::Protocol
            | Self::Invalid
            | Self::Conflict
            | Self::TooManyKeys => false,
        }
    }

    /// Whether the backend gave no verdict about the secret, so that an older answer may stand in.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        match self {
            Self::Unavailable | Self::RateLimited | Self::Deadline | Self::Unauthenticated => true,
            Self::NotFound
            | Self::PermissionDenied
            | Self::Protocol
            | Self::Invalid
            | Self::Conflict
            | Self::TooManyKeys => false,
        }
    }
}

/// A failed call to a backend. `Display` is fit for a user: what and where, never the backend's text.
///
/// The cause is for the operator's log ([`crate::telemetry::error_chain::ErrorChain`]); whoever sets it vouches that it
/// carries no text from the backend's answer. `serde_json` errors quote what they met: never set one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct BackendError {
    /// What it means.
    pub kind: ErrorKind,
    /// Which backend.
    pub backend: BackendKind,
    /// The namespace that was asked.
    pub namespace: String,
    /// The secret that was asked for; `None` for calls about no single secret.
    pub secret: Option<SecretName>,
    /// How long the backend asked us to wait.
    pub retry_after: Option<Duration>,
    /// Why, for the log.
    #[source]
    pub cause: Option<Cause>,
}

/// A cause that can be shared among the callers of one read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(pub Arc<str>);

impl BackendError {
    /// An error without cause or Retry-After.
    #[must_use]
    pub fn new(
        kind: ErrorKind,
        backend: BackendKind,
        namespace: &str,
        secret: Option<&SecretName>,
    ) -> Self {
        Self {
            kind,
            backend,
            namespace: namespace.to_owned(),
            secret: secret.cloned(),
            retry_after: None,
            cause: None,
        }
    }

    /// The error for a query's secret.
    #[must_use]
    pub fn about(kind: ErrorKind, backend: BackendKind, query: &BindQuery) -> Self {
        Self::new(kind, backend, &query.namespace, Some(&query.secret.name))
    }

    /// The same with a cause, in words that this program chose.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(Cause(Arc::from(cause.into())));
        self
    }

    fn sentence(&self) -> String {
        let Self {
            kind,
            backend,
            namespace,
            secret,
            ..
        } = self;
        let what = secret
            .as_ref()
            .map_or_else(|| "secrets".to_owned(), |name| format!("secret \"{name}\""));
        match kind {
            ErrorKind::NotFound => {
                format!("{what} not found in namespace \"{namespace}\" (backend {backend})")
            }
            ErrorKind::PermissionDenied => {
                format!(
                    "the secrets backend {backend} does not allow reading {what} in namespace \"{namespace}\""
                )
            }
            ErrorKind::Unavailable | ErrorKind::Unauthenticated => {
                format!(
                    "the secrets backend {backend} is unavailable; {what} in namespace \"{namespace}\" could not be checked"
                )
            }
            ErrorKind::RateLimited => {
                format!(
                    "the secrets backend {backend} is overloaded; {what} in namespace \"{namespace}\" could not be checked"
                )
            }
            ErrorKind::Deadline => {
                format!(
                    "the secrets backend {backend} did not answer in time; {what} in namespace \"{namespace}\" could not be checked"
                )
            }
            ErrorKind::Protocol => {
                format!(
                    "the secrets backend {backend} gave an unreadable answer about {what} in namespace \"{namespace}\""
                )
            }
            ErrorKind::Invalid => {
                format!(
                    "the secrets backend {backend} refused the request for {what} in namespace \"{namespace}\""
                )
            }
            ErrorKind::TooManyKeys => {
                format!(
                    "{what} in namespace \"{namespace}\" has too many keys to be referred to one by one: more than {MAX_KEYS}, or more than {MAX_KEY_BYTES} bytes of their names"
                )
            }
            ErrorKind::Conflict => {
                format!(
                    "{what} in namespace \"{namespace}\" is not managed by this program, or was changed at the same time (backend {backend})"
                )
            }
        }
    }
}

/// The spec's "missing is None", from the errors that say it.
pub trait OptionalSecret<T> {
    /// `None` for [`ErrorKind::NotFound`]; every other error stays one.
    ///
    /// # Errors
    /// All but not-found.
    fn optional(self) -> Result<Option<T>, BackendError>;
}

impl<T> OptionalSecret<T> for Result<T, BackendError> {
    fn optional(self) -> Result<Option<T>, BackendError> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
