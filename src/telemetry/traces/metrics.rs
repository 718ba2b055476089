//! Metrics of exported spans.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::label_enum;

label_enum! {
    /// What became of a span.
    SpanResult {
        /// The collector has it.
        Exported => "exported",
        /// The collector was away or refused it.
        Failed => "failed",
        /// Too many waited.
        Dropped => "dropped",
    }
}

/// `{result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraceSpans {
    /// What became of them.
    pub result: SpanResult,
}

/// Spans by their result. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct TraceMetrics {
    /// Spans, when traces are on.
    pub spans: Family<TraceSpans, Counter>,
}

impl TraceMetrics {
    /// Makes the metrics and registers them.
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
