//! Errors of backends, by meaning.

use std::sync::Arc;
use std::time::Duration;

use super::{BackendKind, BindQuery, MAX_KEY_BYTES, MAX_KEYS};
use injection::SecretName;

/// Meaning of a failure for the caller. `PermissionError` of the floe spec is `PermissionDenied`; its `ConnectionError`
/// is `Unavailable`, `RateLimited`, `Deadline`, `Unauthenticated` or `Protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The secret, or its key, does not exist in that namespace.
    NotFound,
    /// The backend denies access to this reader.
    PermissionDenied,
    /// No connection, or a response that means "not now" (5xx).
    Unavailable,
    /// The backend limits the rate of requests (429).
    RateLimited,
    /// No response within the deadline of the caller.
    Deadline,
    /// The backend refuses the credential of this program (401): the operator must act.
    Unauthenticated,
    /// Unreadable response.
    Protocol,
    /// The backend rejects the request itself (400, 422).
    Invalid,
    /// Another writer wrote at the same time, or the secret is not managed by this program.
    Conflict,
    /// The secret has more keys than are read of one.
    TooManyKeys,
}

impl ErrorKind {
    /// Whether the same request may succeed a moment later.
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

    /// Whether the backend gave no verdict about the secret, so that a stale binding may be used.
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

/// Failed call to a backend. `Display` is fit for a user: the subject and the namespace, never text that the backend
/// sent.
///
/// The cause is for the log of the operator ([`crate::telemetry::error_chain::ErrorChain`]). Code that sets it ensures
/// that it has no text of the response. `serde_json` errors quote their input: never set one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct BackendError {
    /// Meaning of the failure.
    pub kind: ErrorKind,
    /// Backend that failed.
    pub backend: BackendKind,
    /// Namespace of the request.
    pub namespace: String,
    /// Secret of the request; `None` for calls about no single secret.
    pub secret: Option<SecretName>,
    /// Retry-After of the response.
    pub retry_after: Option<Duration>,
    /// Cause, for the log.
    #[source]
    pub cause: Option<ErrorCause>,
}

/// Cause that the callers of one read share.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ErrorCause(pub Arc<str>);

impl BackendError {
    /// Creates an error without cause or Retry-After.
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

    /// Creates an error about the secret of a query.
    #[must_use]
    pub fn about(kind: ErrorKind, backend: BackendKind, query: &BindQuery) -> Self {
        Self::new(kind, backend, &query.namespace, Some(&query.secret.name))
    }

    /// Adds a cause, in fixed words of this program.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(ErrorCause(Arc::from(cause.into())));
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

/// "Missing is None" of the floe spec.
pub trait OptionalSecret<T> {
    /// Turns [`ErrorKind::NotFound`] into `None`.
    ///
    /// # Errors
    /// Every other error.
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
