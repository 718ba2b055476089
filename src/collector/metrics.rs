//! Metrics of the collector.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::audit::delivery::Rejection;
use crate::telemetry::metrics::label;

label!(Rejection);

/// `{reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RejectionLabels {
    pub reason: Rejection,
}

/// `{pod}`: a replica of the webhook. Their number is limited.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReplicaLabels {
    pub pod: String,
}

/// Metrics of the collector. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct CollectorMetrics {
    /// Lines that were stored.
    pub collected: Counter,
    /// Batches that were not stored.
    pub rejected: Family<RejectionLabels, Counter>,
    /// Batches with a second history.
    pub conflicts: Counter,
    /// Lines of a replica that were not acknowledged when it last sent its state.
    pub unshipped: Family<ReplicaLabels, Gauge>,
}

impl CollectorMetrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "audit_collected_lines",
            "Lines of the audit trail that were received and stored",
            metrics.collected.clone(),
        );
        registry.register(
            "audit_rejected_batches",
            "Batches of lines that were not stored",
            metrics.rejected.clone(),
        );
        registry.register(
            "audit_chain_conflicts",
            "Batches with another line for a number that is stored",
            metrics.conflicts.clone(),
        );
        registry.register(
            "audit_replica_unshipped_lines",
            "Lines of a replica that the collector has not stored, as the replica reported last",
            metrics.unshipped.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, reason: Rejection) {
        self.rejected
            .get_or_create(&RejectionLabels { reason })
            .inc();
        if reason == Rejection::SecondHistory {
            self.conflicts.inc();
        }
    }
}
