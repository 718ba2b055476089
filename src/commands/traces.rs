//! Traces, as configured on the command line.

use anyhow::Context as _;

use crate::cli::TraceArgs;
use crate::cli::values::Collector;
use crate::telemetry::traces::metrics::TraceMetrics;
use crate::telemetry::traces::{Flush, TraceSettings, Traces};

/// Starts traces if a collector is configured.
pub(super) async fn start(
    args: TraceArgs,
    service: &'static str,
    namespace: Option<String>,
    metrics: &TraceMetrics,
) -> anyhow::Result<(Traces, Flush)> {
    let TraceArgs {
        otlp_endpoint: Collector(endpoint),
        otlp_ca,
        trace_ratio,
        pod_name,
    } = args;
    let Some(endpoint) = endpoint else {
        return Ok((Traces::off(), Flush::default()));
    };
    tracing::info!(%endpoint, ratio = trace_ratio, "exporting traces");
    let settings = TraceSettings {
        endpoint,
        ca: otlp_ca,
        ratio: trace_ratio,
        service,
        pod: pod_name,
        namespace,
    };
    Traces::start(settings, metrics.clone())
        .await
        .context("traces could not be started")
}
