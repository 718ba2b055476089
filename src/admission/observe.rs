//! What is told about an admission: one log line, one count, one duration. Names only.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::caller::{Caller, Channel};
use super::error::{AdmissionError, Kind};
use super::mutator::{Injection, Outcome, Preparation, Surface};
use super::response::{reason, sentences};
use super::review::Operation;
use crate::injection::SkipReason;
use crate::metrics::{Durations, label, seconds};
use crate::redact::{ErrorChain, excerpt};
use crate::traces::Span;

label!(Surface);
label!(Operation);
label!(Decision);
label!(Reason);
label!(Channel);

/// The verdict, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Admitted with a patch.
    Injected,
    /// A workload, admitted with what its pods and its restart need.
    Mutated,
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
            Self::Mutated => "mutated",
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

/// `{channel}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabels {
    /// The caller's trust level.
    pub channel: Channel,
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
    /// The review's sender.
    pub caller: Option<Caller>,
    /// The trace that this admission is a part of, when it is recorded.
    pub trace_id: Option<&'a str>,
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
        Ok(Outcome::Prepared(_)) => (Decision::Mutated, Reason::Ok),
        Ok(Outcome::Validated { .. }) => (Decision::Validated, Reason::Ok),
        Ok(Outcome::Degraded(error)) => (Decision::Degraded, Reason::Error(error.kind())),
        Err(error) => (Decision::Denied, Reason::Error(error.kind())),
    }
}

/// The families of the admission path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    requests: Family<AdmissionLabels, Counter>,
    duration: Durations<DecisionLabels>,
    callers: Family<ChannelLabels, Counter>,
}

impl AdmissionMetrics {
    /// Makes the families and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            callers: Family::default(),
        };
        registry.register("admission_requests", "Admissions by verdict and reason", metrics.requests.clone());
        registry.register("admission_callers", "Reviews by what is known about their sender", metrics.callers.clone());
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
    if let Some(Caller { channel, .. }) = subject.caller {
        metrics.callers.get_or_create(&ChannelLabels { channel }).inc();
    }
    metrics.duration.get_or_create(&DecisionLabels { decision }).observe(took.as_secs_f64());
    log(surface, operation, subject, outcome, decision, reason, took);
}

/// Says on the span what the log says, by the same names, but for the user and whole sentences.
pub fn describe(
    span: &mut Span,
    surface: Surface,
    operation: Operation,
    subject: Subject<'_>,
    outcome: &Result<Outcome, AdmissionError>,
) {
    if !span.is_on() {
        return;
    }
    let (decision, reason) = verdict(outcome);
    let Subject { uid, resource, namespace, name, generate_name, owner, user: _, dry_run, caller, trace_id: _ } =
        subject;
    let peer = address(caller);
    let texts = [
        ("uid", uid),
        ("resource", resource),
        ("namespace", namespace),
        ("name", name),
        ("generate_name", generate_name),
        ("owner", owner),
        ("secrets", &secrets(outcome)),
        ("peer", &peer),
    ];
    for (key, text) in texts {
        span.text(key, text);
    }
    span.word("surface", surface.as_str());
    span.word("operation", operation.as_str());
    span.word("decision", decision.as_str());
    span.word("reason", reason.as_str());
    if let Some(caller) = caller {
        span.word("channel", caller.channel.as_str());
    }
    span.flag("dry_run", dry_run);
    if weight(reason) > Weight::Decision {
        span.failed(reason.as_str());
    }
}

/// The longest texts of a log line, in bytes. Container logs are cut into files of some megabytes: lines of any length
/// would push out what was logged before.
const MAX_SENTENCES: usize = 8 << 10;
const MAX_CAUSES: usize = 2 << 10;
const MAX_SECRETS: usize = 4 << 10;

/// The secrets that were bound, with their sources.
fn secrets(outcome: &Result<Outcome, AdmissionError>) -> String {
    match outcome {
        Ok(Outcome::Injected(Injection { secrets, .. }) | Outcome::Prepared(Preparation { secrets, .. })) => {
            let secrets = secrets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            excerpt(&secrets, MAX_SECRETS).into_owned()
        }
        _ => String::new(),
    }
}

/// Where a review came from; empty for callers inside the process.
fn address(caller: Option<Caller>) -> String {
    caller.and_then(|caller| caller.address).map(|address| address.to_string()).unwrap_or_default()
}

/// Who must act: a human, somebody soon, nobody; least of all about a skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Skip,
    Decision,
    Trouble,
    Fault,
}

fn weight(reason: Reason) -> Weight {
    match reason {
        Reason::Skip(_) => Weight::Skip,
        Reason::Ok => Weight::Decision,
        Reason::Error(kind) => match kind {
            Kind::Invalid | Kind::Conflict | Kind::NotFound | Kind::PermissionDenied => Weight::Decision,
            Kind::Unavailable | Kind::Timeout | Kind::Unreadable => Weight::Trouble,
            Kind::Unauthenticated | Kind::Protocol => Weight::Fault,
        },
    }
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
    let secrets = secrets(outcome);
    let error = match outcome {
        Ok(Outcome::Degraded(error)) | Err(error) => sentences(error).join(" "),
        Ok(_) => String::new(),
    };
    let error = &*excerpt(&error, MAX_SENTENCES);
    let cause = match outcome {
        Ok(Outcome::Degraded(AdmissionError::Backend(unbound))) | Err(AdmissionError::Backend(unbound)) => {
            unbound.iter().map(|u| ErrorChain(&u.error).to_string()).collect::<Vec<_>>().join("; ")
        }
        _ => String::new(),
    };
    let cause = &*excerpt(&cause, MAX_CAUSES);
    let Subject { uid, resource, namespace, name, generate_name, owner, user, dry_run, caller, trace_id } = subject;
    let (peer, channel) = (address(caller), caller.map(|caller| caller.channel.as_str()));
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
                peer,
                channel,
                dry_run,
                decision = decision.as_str(),
                reason = reason.as_str(),
                secrets,
                error,
                cause,
                duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                trace_id,
                "admission"
            )
        };
    }
    match weight(reason) {
        Weight::Skip => line!(debug),
        Weight::Decision => line!(info),
        Weight::Trouble => line!(warn),
        Weight::Fault => line!(error),
    }
}
