//! What is told about an admission: one log line, one count, one duration. Names only.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::error::{AdmissionError, Kind};
use super::mutator::{Injection, Outcome, Preparation, Surface};
use super::response::{reason, sentences};
use super::review::Operation;
use crate::injection::SkipReason;
use crate::metrics::{Durations, label, seconds};
use crate::redact::ErrorChain;

label!(Surface);
label!(Operation);
label!(Decision);
label!(Reason);

/// The verdict, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Admitted with a patch.
    Injected,
    /// A workload, admitted with what its pods and its restart need.
    Prepared,
    /// Admitted as it was.
    Skipped,
    /// Admitted, being well formed.
    Validated,
    /// Admitted without a verdict of the backend.
    Degraded,
    /// Refused.
    Denied,
}

impl Decision {
    /// As labels and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Prepared => "prepared",
            Self::Skipped => "skipped",
            Self::Validated => "validated",
            Self::Degraded => "degraded",
            Self::Denied => "denied",
        }
    }
}

/// Why, as a label: the rows of the error table and the reasons to skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing to add.
    Ok,
    /// A skip's.
    Skip(SkipReason),
    /// An error's.
    Error(Kind),
}

impl Reason {
    /// As labels and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip(skip) => skip.as_str(),
            Self::Error(kind) => reason(kind),
        }
    }
}

/// `{surface,operation,decision,reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AdmissionLabels {
    /// Which entry called.
    pub surface: Surface,
    /// What was done to the object.
    pub operation: Operation,
    /// The verdict.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
}

/// `{decision}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// The verdict.
    pub decision: Decision,
}

/// Who and what a review is about, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The request's uid: our event id, and in the API server's audit log.
    pub uid: &'a str,
    /// The resource, as in `pods`.
    pub resource: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The object's name; empty when it is still to be made.
    pub name: &'a str,
    /// What it will be made from.
    pub generate_name: &'a str,
    /// `Kind/name` of the first owner, as the object says.
    pub owner: &'a str,
    /// Who makes the request.
    pub user: &'a str,
    /// Nothing will be stored.
    pub dry_run: bool,
}

/// The verdict and its reason, by which metrics, log and audit agree.
#[must_use]
pub fn verdict(outcome: &Result<Outcome, AdmissionError>) -> (Decision, Reason) {
    match outcome {
        Ok(Outcome::Skipped(skip)) => (Decision::Skipped, Reason::Skip(*skip)),
        Ok(Outcome::Injected(injection)) if injection.plan.is_empty() => {
            (Decision::Skipped, Reason::Skip(SkipReason::AlreadyInjected))
        }
        Ok(Outcome::Injected(_)) => (Decision::Injected, Reason::Ok),
        Ok(Outcome::Prepared(preparation)) if preparation.plan.is_empty() => {
            (Decision::Skipped, Reason::Skip(SkipReason::AlreadyInjected))
        }
        Ok(Outcome::Prepared(_)) => (Decision::Prepared, Reason::Ok),
        Ok(Outcome::Validated) => (Decision::Validated, Reason::Ok),
        Ok(Outcome::Degraded(error)) => (Decision::Degraded, Reason::Error(error.kind())),
        Err(error) => (Decision::Denied, Reason::Error(error.kind())),
    }
}

/// The families of the admission path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    requests: Family<AdmissionLabels, Counter>,
    duration: Durations<DecisionLabels>,
}

impl AdmissionMetrics {
    /// Makes the families and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { requests: Family::default(), duration: Family::new_with_constructor(seconds) };
        registry.register("admission_requests", "Admissions by verdict and reason", metrics.requests.clone());
        let duration = metrics.duration.clone();
        registry.register_with_unit(
            "admission_duration",
            "From a review's arrival to its answer",
            Unit::Seconds,
            duration,
        );
        metrics
    }
}

/// Counts and logs one admission.
pub fn observe(
    metrics: &AdmissionMetrics,
    surface: Surface,
    operation: Operation,
    subject: Subject<'_>,
    outcome: &Result<Outcome, AdmissionError>,
    took: Duration,
) {
    let (decision, reason) = verdict(outcome);
    metrics.requests.get_or_create(&AdmissionLabels { surface, operation, decision, reason }).inc();
    metrics.duration.get_or_create(&DecisionLabels { decision }).observe(took.as_secs_f64());
    log(surface, operation, subject, outcome, decision, reason, took);
}

/// One line; its level says who must act: error a human, warn somebody soon, info nobody, debug is a skip.
fn log(
    surface: Surface,
    operation: Operation,
    subject: Subject<'_>,
    outcome: &Result<Outcome, AdmissionError>,
    decision: Decision,
    reason: Reason,
    took: Duration,
) {
    let secrets = match outcome {
        Ok(Outcome::Injected(Injection { secrets, .. }) | Outcome::Prepared(Preparation { secrets, .. })) => {
            secrets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    };
    let said = match outcome {
        Ok(Outcome::Degraded(error)) | Err(error) => sentences(error).join(" "),
        Ok(_) => String::new(),
    };
    let cause = match outcome {
        Ok(Outcome::Degraded(AdmissionError::Backend(unbound))) | Err(AdmissionError::Backend(unbound)) => {
            unbound.iter().map(|u| ErrorChain(&u.error).to_string()).collect::<Vec<_>>().join("; ")
        }
        _ => String::new(),
    };
    let Subject { uid, resource, namespace, name, generate_name, owner, user, dry_run } = subject;
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                uid,
                surface = surface.as_str(),
                operation = operation.as_str(),
                resource,
                namespace,
                name,
                generate_name,
                owner,
                user,
                dry_run,
                decision = decision.as_str(),
                reason = reason.as_str(),
                secrets,
                said,
                cause,
                took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                "admission"
            )
        };
    }
    match reason {
        Reason::Skip(_) => line!(debug),
        Reason::Ok => line!(info),
        Reason::Error(kind) => match kind {
            Kind::Invalid | Kind::Conflict | Kind::NotFound | Kind::PermissionDenied => line!(info),
            Kind::Unavailable | Kind::Timeout | Kind::Unreadable => line!(warn),
            Kind::Unauthenticated | Kind::Protocol => line!(error),
        },
    }
}
