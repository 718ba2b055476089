//! Trait of engines that decide about access.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use super::question::AccessQuestion;
use super::subject::AccessSubject;

/// Answer of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessVerdict {
    Allowed,
    Denied,
}

impl AccessVerdict {
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

/// Error if nothing is known about an access. The caller gets neither a yes nor a no.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("permissions cannot be checked at the moment: {reason}. Retry")]
pub struct AccessUnavailable {
    pub reason: String,
}

/// Engine that decides whether a subject has the access of a question.
///
/// # Contract
/// - The answer depends on the subject and the question alone, and on the rules of the engine.
/// - What no rule allows is denied.
/// - An engine that cannot decide returns [`AccessUnavailable`], never a verdict.
#[async_trait]
pub trait AccessReviewer: fmt::Debug + Send + Sync + 'static {
    /// Decides about one access.
    ///
    /// # Errors
    /// Nothing is known about the access.
    async fn review(
        &self,
        subject: &AccessSubject,
        question: &AccessQuestion,
    ) -> Result<AccessVerdict, AccessUnavailable>;
}
