//! Rejections of request bodies and responses by a limit.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use thiserror::Error;

use crate::server::metrics::ShedReason;

/// Reason for which a body was not read. Responded to with an HTTP error, so that the `failurePolicy` applies.
///
/// The response never has `Retry-After`: client-go would wait for it in the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyRejection {
    #[error("request body is larger than allowed")]
    TooLarge,
    /// All bodies and responses together would exceed their limit of bytes.
    #[error("too many bytes of requests and answers in flight")]
    Overloaded,
    /// Incomplete at its deadline.
    #[error("request body was not complete in time")]
    TooSlow,
    /// The sender closed the connection, or sent malformed chunks.
    #[error("request body could not be read")]
    Broken,
}

impl BodyRejection {
    /// Status of the response. Overload is 503, not 429, because all callers together cause it, not this one.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// Value of the metric's label; `None` if no limit of the server was reached.
    pub(super) fn shed_reason(self) -> Option<ShedReason> {
        match self {
            Self::TooLarge => Some(ShedReason::BodyTooLarge),
            Self::Overloaded => Some(ShedReason::BytesInFlight),
            Self::TooSlow => Some(ShedReason::BodyDeadline),
            Self::Broken => None,
        }
    }
}

impl IntoResponse for BodyRejection {
    fn into_response(self) -> Response {
        (self.status(), format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    #[test]
    fn rejection_never_has_retry_after() {
        for rejection in [
            BodyRejection::TooLarge,
            BodyRejection::Overloaded,
            BodyRejection::TooSlow,
            BodyRejection::Broken,
        ] {
            assert!(
                !rejection
                    .into_response()
                    .headers()
                    .contains_key(header::RETRY_AFTER)
            );
        }
    }
}
