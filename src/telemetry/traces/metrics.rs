//! Metrics of exported spans.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::label_enum;

label_enum! {
    /// Result of exporting a span.
    SpanResult {
        Exported => "exported",
        /// The collector was unavailable or rejected the span.
        Failed => "failed",
        /// The queue was full.
        Dropped => "dropped",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraceSpans {
    pub result: SpanResult,
}

/// Metrics of exported spans. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct TraceMetrics {
    /// Spans by result; none while traces are off.
    pub spans: Family<TraceSpans, Counter>,
}

impl TraceMetrics {
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "trace_spans",
            "Spans by what became of them",
            metrics.spans.clone(),
        );
        metrics
    }
}
