//! Errors of logins and of token sources.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use super::limits::{MAX_REFRESH_BEFORE, MIN_REFRESH_BEFORE};
use crate::refresh::FetchFailure;

/// Error of a login. A reason has no credential, and no text of a body.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The service does not accept the credential, or does not let this client log in.
    #[error("the login is refused: {reason}")]
    Refused { reason: String },
    /// The service does not respond, or not with a token.
    #[error("no login at the moment: {reason}")]
    Unavailable {
        reason: String,
        retry_after: Option<Duration>,
    },
}

/// Reason why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenSourceError {
    #[error(
        "{name} refuses the login: {reason}. Correct the credential; it is tried again when it changes, or in {retry_in:.0?}"
    )]
    Refused {
        name: String,
        reason: String,
        retry_in: Duration,
    },
    #[error("no token of {name} at the moment: {reason}. It is tried again in {retry_in:.1?}")]
    Unavailable {
        name: String,
        reason: String,
        retry_in: Duration,
    },
    #[error(
        "{name} rejects a token that it issued a moment ago: check the rights of the client. It is tried again in {retry_in:.0?}"
    )]
    RejectedAgain { name: String, retry_in: Duration },
}

/// Error for a time before the end of a token that cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a time between {MIN_REFRESH_BEFORE:?} and {MAX_REFRESH_BEFORE:?}, as in 30s")]
pub struct InvalidRefreshBefore;

/// Failed login, with the pause after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoginFailure {
    pub error: LoginError,
    pub pause: Option<Duration>,
    /// Version of the credential before the login.
    pub credential: u64,
}

impl FetchFailure for LoginFailure {
    fn requested_pause(&self) -> Option<Duration> {
        self.pause
    }
}

/// Reports the first failure after a success, and the first success after a failure.
pub(super) fn report(name: &str, failure: Option<&LoginFailure>, is_failing: &AtomicBool) {
    let was_failing = is_failing.swap(failure.is_some(), Ordering::Relaxed);
    match failure {
        Some(LoginFailure { error, .. }) if !was_failing => {
            tracing::warn!(service = name, %error, "a login failed");
        }
        None if was_failing => tracing::info!(service = name, "logins succeed again"),
        _ => {}
    }
}
