//! Metrics of the admission path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{AdmissionEvent, Decision, DecisionReason};
use crate::admission::caller::{Caller, Channel};
use crate::admission::review::Operation;
use crate::admission::surface::Surface;
use crate::telemetry::metrics::{Durations, label, seconds};

label!(Surface);
label!(Operation);
label!(Decision);
label!(DecisionReason);
label!(Channel);

/// `{surface,operation,decision,reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AdmissionLabels {
    pub surface: Surface,
    pub operation: Operation,
    pub decision: Decision,
    pub reason: DecisionReason,
}

/// `{channel}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabels {
    pub channel: Channel,
}

/// `{decision}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    pub decision: Decision,
}

/// Metrics of the admission path. Clones share their values.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    requests: Family<AdmissionLabels, Counter>,
    duration: Durations<DecisionLabels>,
    callers: Family<ChannelLabels, Counter>,
    totals: Arc<AdmissionTotals>,
}

/// Admissions since the start, over all labels.
#[derive(Debug, Default)]
pub struct AdmissionTotals {
    admissions: AtomicU64,
    refusals: AtomicU64,
}

impl AdmissionTotals {
    #[must_use]
    pub fn admissions(&self) -> u64 {
        self.admissions.load(Ordering::Relaxed)
    }

    /// Admissions that were denied.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

impl AdmissionMetrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            callers: Family::default(),
            totals: Arc::default(),
        };
        registry.register(
            "admission_requests",
            "Admissions by verdict and reason",
            metrics.requests.clone(),
        );
        registry.register(
            "admission_callers",
            "Reviews by what is known about their sender",
            metrics.callers.clone(),
        );
        let duration = metrics.duration.clone();
        registry.register_with_unit(
            "admission_duration",
            "From a review's arrival to its answer",
            Unit::Seconds,
            duration,
        );
        metrics
    }

    #[must_use]
    pub fn totals(&self) -> Arc<AdmissionTotals> {
        Arc::clone(&self.totals)
    }

    pub fn record(&self, event: &AdmissionEvent<'_>) {
        let AdmissionEvent {
            surface,
            operation,
            decision,
            reason,
            duration,
            ..
        } = *event;
        self.totals.admissions.fetch_add(1, Ordering::Relaxed);
        if decision == Decision::Denied {
            self.totals.refusals.fetch_add(1, Ordering::Relaxed);
        }
        self.requests
            .get_or_create(&AdmissionLabels {
                surface,
                operation,
                decision,
                reason,
            })
            .inc();
        if let Some(Caller { channel, .. }) = event.fields.caller {
            self.callers.get_or_create(&ChannelLabels { channel }).inc();
        }
        self.duration
            .get_or_create(&DecisionLabels { decision })
            .observe(duration.as_secs_f64());
    }
}
