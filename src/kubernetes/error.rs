//! Errors of calls to the API server, by their meaning.

use http::StatusCode;
use http_body_util::LengthLimitError;
use serde::Deserialize;

/// Limit of the API server's message in an error, in characters.
const MAX_MESSAGE_CHARS: usize = 400;

/// Meaning of a failed call. [`ApiErrorKind::from_status`] is the only table from HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// 404.
    NotFound,
    /// 401, or no credential could be obtained.
    Unauthenticated,
    /// 403.
    Forbidden,
    /// 409: the object changed since it was read, or exists already.
    Conflict,
    /// 410: the list or watch has to restart.
    Gone,
    /// 400, 413 or 422: the API server rejects the request itself.
    Invalid,
    /// 429.
    RateLimited,
    /// 408 or 5xx, no connection, or no response in time.
    Unavailable,
    /// The response is longer than the limit for one page or one object.
    TooLong,
    /// Any other status, or a body that cannot be read.
    Unexpected,
}

impl ApiErrorKind {
    /// Kind of a response's status; `None` for a success.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Option<Self> {
        Some(match status.as_u16() {
            200..=299 => return None,
            400 | 413 | 422 => Self::Invalid,
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            410 => Self::Gone,
            429 => Self::RateLimited,
            408 | 500..=599 => Self::Unavailable,
            _ => Self::Unexpected,
        })
    }

    /// Whether the caller lacks a credential or a permission.
    #[must_use]
    pub fn is_denied(self) -> bool {
        matches!(self, Self::Unauthenticated | Self::Forbidden)
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable)
    }
}

/// A failed call, with the request and the reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{request}: {reason}")]
pub struct ApiError {
    pub kind: ApiErrorKind,
    request: String,
    reason: String,
}

impl ApiError {
    pub(super) fn new(kind: ApiErrorKind, request: &str, reason: impl Into<String>) -> Self {
        Self {
            kind,
            request: request.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Error of a response that could not be read to its end.
pub(super) fn incomplete(request: &str, error: &(dyn std::error::Error + 'static)) -> ApiError {
    if error.is::<LengthLimitError>() {
        ApiError::new(ApiErrorKind::TooLong, request, "the response is too long")
    } else {
        ApiError::new(
            ApiErrorKind::Unavailable,
            request,
            "the connection closed during the response",
        )
    }
}

/// Error of a response whose status is not a success.
pub(super) fn status_error(request: &str, status: StatusCode, body: &[u8]) -> ApiError {
    #[derive(Deserialize)]
    struct StatusMessage {
        message: String,
    }
    let kind = ApiErrorKind::from_status(status).unwrap_or(ApiErrorKind::Unexpected);
    // The API server's message names the missing permission, and has no values.
    let status_object = serde_json::from_slice::<StatusMessage>(body)
        .ok()
        .filter(|_| kind.is_denied());
    let reason = match status_object {
        Some(StatusMessage { message }) => message.chars().take(MAX_MESSAGE_CHARS).collect(),
        None => format!("the API server responded with HTTP {}", status.as_u16()),
    };
    ApiError::new(kind, request, reason)
}

/// Parses a response without quoting it in the error, as `serde_json` would.
pub(crate) fn parse<'a, T: Deserialize<'a>>(request: &str, body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| {
        ApiError::new(
            ApiErrorKind::Unexpected,
            request,
            "the response is not an object of the requested kind",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_error_names_the_request() {
        let body = br#"{"kind":"Status","message":"pods is forbidden: User \"u\" cannot list"}"#;
        let error = status_error("GET /api/v1/pods", StatusCode::FORBIDDEN, body);
        assert_eq!(
            error.to_string(),
            "GET /api/v1/pods: pods is forbidden: User \"u\" cannot list"
        );
        let gone = status_error("GET /api/v1/pods", StatusCode::GONE, b"{}");
        assert_eq!(gone.kind, ApiErrorKind::Gone);
    }
}
