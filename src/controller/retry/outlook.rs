//! Outlook of an owner's pods: the decision of admission, reduced to what retries need.

use std::collections::BTreeSet;

use crate::admission::error::AdmissionError;
use crate::admission::outcome::Outcome;
use injection::{PlanError, SecretId};

/// Decision that admission would make about an owner's pods now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Refused because these secrets, or keys of them, are missing.
    Awaits(BTreeSet<SecretId>),
    /// Injected with these secrets.
    Ready(BTreeSet<SecretId>),
    /// Refused for another reason, or nothing is injected.
    NotInjectable,
    /// A backend could not be read.
    Unknown,
}

impl Outlook {
    /// Value of the span attribute `result`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Awaits(_) => "awaits",
            Self::Ready(_) => "ready",
            Self::NotInjectable => "not_injectable",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Result<Outcome, AdmissionError>> for Outlook {
    fn from(outcome: Result<Outcome, AdmissionError>) -> Self {
        match outcome {
            Ok(Outcome::Injected(injection)) => {
                Outlook::Ready(injection.secrets.into_iter().collect())
            }
            Err(AdmissionError::Plan(errors)) => {
                let missing = errors.iter().map(|error| match error {
                    PlanError::MissingSecret { secret, .. }
                    | PlanError::MissingKey { secret, .. } => Some(secret.clone()),
                    PlanError::Collision { .. }
                    | PlanError::NoSuchContainer { .. }
                    | PlanError::OnlySidecars { .. }
                    | PlanError::UnknownKeys { .. }
                    | PlanError::ContainerName { .. }
                    | PlanError::PatchTooLarge { .. }
                    | PlanError::TooMany { .. }
                    | PlanError::NameConvention { .. } => None,
                });
                missing
                    .collect::<Option<BTreeSet<SecretId>>>()
                    .map_or(Outlook::NotInjectable, Outlook::Awaits)
            }
            Ok(Outcome::Skipped(_) | Outcome::Validated { .. } | Outcome::Mutated(_))
            | Err(
                AdmissionError::Annotations(_)
                | AdmissionError::Forbidden(_)
                | AdmissionError::Unreadable(_)
                | AdmissionError::PatchTooLong
                | AdmissionError::NotRecorded,
            ) => Outlook::NotInjectable,
            Ok(Outcome::Degraded(_)) | Err(AdmissionError::Backend(_)) => Outlook::Unknown,
        }
    }
}
