//! Events: the report about each admission, written once to every sink. It has names, never a value.
//!
//! Sinks are the log ([`log`]), the metrics ([`metrics`]), the trace ([`span`]) and the audit trail (`audit`), the only
//! one that the response waits for.

#[cfg(feature = "cluster")]
pub mod audit;
pub mod log;
pub mod metrics;
pub mod span;

use std::time::Duration;

use super::caller::Caller;
use super::error::{AdmissionError, AdmissionErrorKind, sentences};
use super::outcome::{Outcome, PodMutation, WorkloadMutation};
use super::requested::RequestedSecret;
use super::review::Operation;
use super::status::reason;
use super::surface::Surface;
use crate::telemetry::error_chain::{ErrorChain, excerpt};
use injection::{OwnerView, SkipReason};

/// Limits of an event's texts, in bytes. Container logs are rotated after some megabytes: events of any length would
/// displace earlier ones.
const MAX_ERROR: usize = 8 << 10;
const MAX_CAUSE: usize = 2 << 10;
const MAX_SECRETS: usize = 4 << 10;

/// Decision of an admission, as in metrics, logs and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Admitted with a patch.
    Injected,
    /// A workload, admitted with a patch.
    Mutated,
    /// Admitted unchanged.
    Skipped,
    /// Well-formed defaults, admitted unchanged.
    Validated,
    /// Admitted without an answer of the backend.
    Degraded,
    /// Refused.
    Denied,
}

impl Decision {
    /// Value of the label in metrics, and of the field in logs and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Mutated => "mutated",
            Self::Skipped => "skipped",
            Self::Validated => "validated",
            Self::Degraded => "degraded",
            Self::Denied => "denied",
        }
    }
}

/// Reason of a decision: a row of the error table, or a reason to skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecisionReason {
    /// Nothing went wrong.
    Ok,
    Skip(SkipReason),
    Error(AdmissionErrorKind),
}

impl DecisionReason {
    /// Value of the label in metrics, and of the field in logs and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip(skip) => skip.as_str(),
            Self::Error(kind) => reason(kind),
        }
    }
}

/// Fields of an event that come from the review.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmissionFields<'a> {
    /// Uid of the request: the id of this event, also in the audit log of the API server.
    pub uid: &'a str,
    /// Resource, as in `pods`.
    pub resource: &'a str,
    pub namespace: &'a str,
    /// Name of the object; empty if the API server generates it.
    pub name: &'a str,
    pub generate_name: &'a str,
    /// `Kind/name` of the first owner reference. Anybody may write one.
    pub owner: &'a str,
    /// User that made the request.
    pub user: &'a str,
    pub dry_run: bool,
    pub caller: Option<Caller>,
    /// Trace of this admission, if it is recorded.
    pub trace_id: Option<&'a str>,
    pub audit: AuditFields<'a>,
}

/// Fields of an event for the audit trail alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFields<'a> {
    /// Uid of the user that made the request.
    pub user_uid: &'a str,
    /// Id of the user's credential.
    pub credential_id: &'a str,
    /// Owner reference of the object's controller. Anybody may write one.
    pub controller: Option<&'a OwnerView<'a>>,
    /// Value of the pod's `audit.floe.dev/event`, of an earlier pass or written by anybody.
    pub found_event: &'a str,
    /// Requested secrets; `None` if the review requests none.
    pub requested: Option<&'a [RequestedSecret]>,
}

/// One admission.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionEvent<'a> {
    /// Entry that sent the review.
    pub surface: Surface,
    pub operation: Operation,
    pub fields: AdmissionFields<'a>,
    pub decision: Decision,
    pub reason: DecisionReason,
    /// Time from the review's first byte to the decision.
    pub duration: Duration,
    outcome: &'a Result<Outcome, AdmissionError>,
}

impl<'a> AdmissionEvent<'a> {
    /// Event of an outcome.
    #[must_use]
    pub fn new(
        surface: Surface,
        operation: Operation,
        fields: AdmissionFields<'a>,
        outcome: &'a Result<Outcome, AdmissionError>,
        duration: Duration,
    ) -> Self {
        let (decision, reason) = decision(outcome);
        Self {
            surface,
            operation,
            fields,
            decision,
            reason,
            duration,
            outcome,
        }
    }

    #[must_use]
    pub fn severity(&self) -> Severity {
        severity(self.reason)
    }

    /// Requested secrets with their sources, separated by commas.
    #[must_use]
    pub fn secrets(&self) -> String {
        match self.outcome {
            Ok(
                Outcome::Injected(PodMutation { secrets, .. })
                | Outcome::Mutated(WorkloadMutation { secrets, .. }),
            ) => {
                let secrets = secrets
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",");
                excerpt(&secrets, MAX_SECRETS).into_owned()
            }
            _ => String::new(),
        }
    }

    /// Sentences of the error; empty if there is none.
    #[must_use]
    pub fn error(&self) -> String {
        match self.outcome {
            Ok(Outcome::Degraded(error)) | Err(error) => {
                excerpt(&sentences(error).join(" "), MAX_ERROR).into_owned()
            }
            Ok(_) => String::new(),
        }
    }

    /// Causes of backend failures, for operators; empty if there are none.
    #[must_use]
    pub fn cause(&self) -> String {
        match self.outcome {
            Ok(Outcome::Degraded(AdmissionError::Backend(failures)))
            | Err(AdmissionError::Backend(failures)) => {
                let causes = failures
                    .iter()
                    .map(|failure| ErrorChain(&failure.error).to_string());
                excerpt(&causes.collect::<Vec<_>>().join("; "), MAX_CAUSE).into_owned()
            }
            _ => String::new(),
        }
    }

    /// Address of the sender; empty for callers in this process.
    #[must_use]
    pub fn peer(&self) -> String {
        let address = self.fields.caller.and_then(|caller| caller.address);
        address
            .map(|address| address.to_string())
            .unwrap_or_default()
    }
}

/// Decision and reason of an outcome.
#[must_use]
fn decision(outcome: &Result<Outcome, AdmissionError>) -> (Decision, DecisionReason) {
    match outcome {
        Ok(Outcome::Skipped(skip)) => (Decision::Skipped, DecisionReason::Skip(*skip)),
        Ok(Outcome::Injected(mutation)) if mutation.plan.is_empty() => (
            Decision::Skipped,
            DecisionReason::Skip(SkipReason::AlreadyInjected),
        ),
        Ok(Outcome::Injected(_)) => (Decision::Injected, DecisionReason::Ok),
        Ok(Outcome::Mutated(mutation)) if mutation.plan.is_empty() => (
            Decision::Skipped,
            DecisionReason::Skip(SkipReason::AlreadyInjected),
        ),
        Ok(Outcome::Mutated(_)) => (Decision::Mutated, DecisionReason::Ok),
        Ok(Outcome::Validated { .. }) => (Decision::Validated, DecisionReason::Ok),
        Ok(Outcome::Degraded(error)) => (Decision::Degraded, DecisionReason::Error(error.kind())),
        Err(error) => (Decision::Denied, DecisionReason::Error(error.kind())),
    }
}

/// Severity of an event; selects the log level and the span status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Debug,
    /// A decision, including a refusal that the author can fix.
    Info,
    /// A backend was unavailable, or a review could not be read.
    Warn,
    /// An operator has to act.
    Error,
}

fn severity(reason: DecisionReason) -> Severity {
    match reason {
        DecisionReason::Skip(_) => Severity::Debug,
        DecisionReason::Ok => Severity::Info,
        DecisionReason::Error(kind) => match kind {
            AdmissionErrorKind::Invalid
            | AdmissionErrorKind::Conflict
            | AdmissionErrorKind::NotFound
            | AdmissionErrorKind::PermissionDenied => Severity::Info,
            AdmissionErrorKind::Unavailable
            | AdmissionErrorKind::Timeout
            | AdmissionErrorKind::NotRecorded
            | AdmissionErrorKind::Unreadable => Severity::Warn,
            AdmissionErrorKind::Unauthenticated | AdmissionErrorKind::Protocol => Severity::Error,
        },
    }
}
