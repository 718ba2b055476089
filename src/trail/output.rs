//! Standard output of the own chain.

use std::io::{self, Write};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::line_writer::LineWriter;

/// Time that lines wait for others: none, because there are few.
const LINGER: Duration = Duration::ZERO;

/// Time limit of writing the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Output that durable lines are written to, by a thread of its own. Clones write to the same output.
#[derive(Clone, Debug)]
pub struct TrailOutput {
    out: LineWriter,
    written: Counter,
}

impl TrailOutput {
    /// Starts the thread, and registers the metrics of the output.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, registry: &mut Registry) -> io::Result<Self> {
        let report = |lines| {
            tracing::error!(
                lines,
                "lines of the audit trail were not written: standard output was not read fast enough"
            );
        };
        let out = LineWriter::start("audit-stdout", LINGER, out, report)?;
        let written = Counter::default();
        registry.register(
            "audit_records_written",
            "Lines of the audit trail that were written",
            written.clone(),
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
        Ok(Self { out, written })
    }

    pub(super) fn send(&self, lines: Vec<u8>, count: u64) {
        self.written.inc_by(count);
        self.out.send(lines, count);
    }

    /// Waits until all lines are written. A reader that has stopped is not waited for.
    pub(super) async fn flush(&self) {
        let out = self.out.clone();
        // The flush blocks its thread.
        let flush = tokio::task::spawn_blocking(move || out.flush(FLUSH_TIMEOUT));
        drop(flush.await);
    }
}
