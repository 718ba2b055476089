//! Log on standard output for servers, written by its own thread, so that a log that is not read does not block
//! requests. Lines that do not fit into its buffer are dropped, counted, and reported in the log.

use std::io::{self, Write};
use std::time::Duration;

use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::line_writer::{LineWriter, SharedStdout};

/// Time limit of writing the last lines at the end of the program.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Log that is written by its own thread. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    writer: LineWriter,
    stdout: SharedStdout,
}

impl Log {
    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// Standard output is closed, or the thread cannot be started.
    pub fn stdout() -> io::Result<Self> {
        let stdout = SharedStdout::open()?;
        let report = |lines| {
            tracing::warn!(
                lines,
                "log lines were dropped: the log was not read fast enough"
            );
        };
        let writer = LineWriter::start("log", Duration::ZERO, stdout.clone(), report)?;
        Ok(Self { writer, stdout })
    }

    /// Standard output, for other lines than those of the log.
    #[must_use]
    pub fn output(&self) -> SharedStdout {
        self.stdout.clone()
    }

    /// Registers the metrics of waiting bytes and dropped lines.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "log_waiting",
            "Bytes of log lines not written yet",
            Unit::Bytes,
            self.writer.waiting(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because nobody read the log",
            self.writer.dropped(),
        );
    }

    /// Waits until all lines are written, up to [`FLUSH_TIMEOUT`].
    pub fn flush(&self) {
        self.writer.flush(FLUSH_TIMEOUT);
    }
}

/// Each call is one line, because the subscriber writes line by line.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.send(line.to_vec(), 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
