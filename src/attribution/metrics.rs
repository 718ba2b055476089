//! Metric of attribution.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::resolver::Resolution;
use crate::store::AskedBy;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttributedLabels {
    result: &'static str,
}

/// Secrets of records by what was found out about who asked.
#[derive(Clone, Debug, Default)]
pub struct AttributionMetrics(Family<AttributedLabels, Counter>);

impl AttributionMetrics {
    /// Creates the metric and registers it.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for result in ["known", "requester", "unknown"] {
            // From the start, so that a rate has a first value.
            drop(metrics.0.get_or_create(&AttributedLabels { result }));
        }
        registry.register(
            "audit_attributed",
            "Secrets of records with an owner or defaults, by whether it is known who asked",
            metrics.0.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, resolution: &Resolution) {
        for asked_by in &resolution.targets {
            let result = match asked_by {
                None => "requester",
                Some(AskedBy::Requester { .. }) => "known",
                Some(AskedBy::Unknown(_)) => "unknown",
            };
            self.0.get_or_create(&AttributedLabels { result }).inc();
        }
    }
}
