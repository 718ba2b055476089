//! Metrics of a store that is written.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::StoreCounts;

/// Metrics of a store. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct StoreMetrics {
    bytes: Gauge<i64, AtomicI64>,
    max_bytes: Gauge<i64, AtomicI64>,
    ready: Gauge,
}

impl StoreMetrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "audit_store",
            "Bytes of the audit store in use",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register_with_unit(
            "audit_store_max",
            "Bytes at which the audit store is full, 0 if there is no limit",
            Unit::Bytes,
            metrics.max_bytes.clone(),
        );
        registry.register(
            "audit_store_ready",
            "Whether the audit store is open and took the last lines",
            metrics.ready.clone(),
        );
        metrics
    }

    /// Records whether the store can be written.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// Whether the store could be written last.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.get() == 1
    }

    pub(super) fn set_size(&self, counts: &StoreCounts) {
        let gauge = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.bytes.set(gauge(counts.bytes));
        self.max_bytes
            .set(gauge(counts.max_bytes.unwrap_or_default()));
    }
}
