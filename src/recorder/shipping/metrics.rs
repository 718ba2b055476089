//! Metrics of shipping.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::failure::ShippingFailureReason;
use crate::recorder::link::SpoolLink;
use crate::telemetry::metrics::label_enum;

label_enum! {
    /// Reason for which lines never get to the collector.
    UnshippableReason {
        /// They were not in the spool; standard output may have them.
        NotInSpool => "not_in_spool",
        /// The collector has other lines with their numbers.
        SecondHistory => "second_history",
        /// They are not as they were written.
        Unreadable => "unreadable",
    }
}

/// `{reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FailureLabels {
    pub reason: ShippingFailureReason,
}

/// `{reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UnshippableLabels {
    pub reason: UnshippableReason,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ShippingMetrics {
    pub shipped: Counter,
    pub unshippable: Family<UnshippableLabels, Counter>,
    pub failures: Family<FailureLabels, Counter>,
    pub oldest: Gauge<i64, AtomicI64>,
}

impl ShippingMetrics {
    /// Creates the metrics and registers them, with those of the spool.
    pub(super) fn register(registry: &mut Registry, link: &SpoolLink) -> Self {
        let metrics = Self::default();
        registry.register(
            "audit_shipped_lines",
            "Lines of the audit trail that the collector has stored",
            metrics.shipped.clone(),
        );
        registry.register(
            "audit_unshipped_lines",
            "Lines in the spool that the collector has not stored yet",
            link.unshipped_lines.clone(),
        );
        registry.register_with_unit(
            "audit_oldest_unshipped",
            "Age of the oldest line that the collector has not stored yet",
            Unit::Seconds,
            metrics.oldest.clone(),
        );
        registry.register_with_unit(
            "audit_spool",
            "Size of the spool",
            Unit::Bytes,
            link.spool_bytes.clone(),
        );
        registry.register(
            "audit_shipping_failures",
            "Batches that the collector did not store, by reason",
            metrics.failures.clone(),
        );
        registry.register(
            "audit_unshippable_lines",
            "Lines that the collector will never get from this replica, by reason",
            metrics.unshippable.clone(),
        );
        metrics
    }

    pub(super) fn count_failure(&self, reason: ShippingFailureReason) {
        self.failures.get_or_create(&FailureLabels { reason }).inc();
    }

    pub(super) fn count_unshippable(&self, reason: UnshippableReason, lines: u64) {
        let labels = UnshippableLabels { reason };
        self.unshippable.get_or_create(&labels).inc_by(lines);
    }
}
