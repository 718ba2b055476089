//! Metrics of the recorder.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::line_writer::LineWriter;

#[derive(Clone, Debug, Default)]
pub(super) struct RecorderMetrics {
    pub written: Counter,
    /// Refusals that a record with `repeat` counts.
    pub repeated: Counter,
    pub late: Counter,
    pub dropped: Counter,
}

impl RecorderMetrics {
    /// Creates the metrics and registers them, with those of standard output.
    pub(super) fn register(registry: &mut Registry, out: &LineWriter) -> Self {
        let metrics = Self::default();
        registry.register(
            "audit_records_written",
            "Lines of the audit trail that were written",
            metrics.written.clone(),
        );
        registry.register(
            "audit_refusals_repeated",
            "Refusals that a record counts instead of having one of their own",
            metrics.repeated.clone(),
        );
        registry.register(
            "audit_records_late",
            "Admissions that went on before their record was written",
            metrics.late.clone(),
        );
        registry.register(
            "audit_records_dropped",
            "Records that were not kept, because nothing took them",
            metrics.dropped.clone(),
        );
        registry.register(
            "audit_stdout_lines_dropped",
            "Lines of the audit trail that standard output did not take",
            out.dropped(),
        );
        registry.register_with_unit(
            "audit_stdout_waiting",
            "Bytes of the audit trail not written to standard output yet",
            Unit::Bytes,
            out.waiting(),
        );
        metrics
    }
}
