//! Metrics of checkpoints and retention.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Default)]
pub(super) struct UpkeepMetrics {
    pub checkpoint_time: Gauge,
    pub deleted: Counter,
    pub is_blocked: Gauge,
}

impl UpkeepMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "audit_checkpoint_time",
            "Unix time at which all stored lines were confirmed by signed checkpoints",
            Unit::Seconds,
            metrics.checkpoint_time.clone(),
        );
        registry.register(
            "audit_lines_deleted",
            "Lines of the audit trail that retention has deleted",
            metrics.deleted.clone(),
        );
        registry.register(
            "audit_retention_blocked",
            "1 if the store of the audit trail is over 90 % of its size and no line may be deleted",
            metrics.is_blocked.clone(),
        );
        metrics
    }
}
