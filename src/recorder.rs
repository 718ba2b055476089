//! Recorder of the audit trail: the one place of a process that numbers records and writes them.
//!
//! Admissions hand their records to one thread by a bounded queue, and wait at most [`MAX_WAIT`]. The thread takes
//! whatever waits, leaves out refusals that repeat (`refusals`), links the records to its chain, and hands the lines
//! to a second thread for standard output, behind a bounded buffer. So a reader that stops blocks neither the chain nor
//! an admission. Records for which there is no room get no number: they are counted, and a `system.gap` record reports
//! them as soon as there is room again.

mod chain_id;
mod interval;
mod metrics;
mod refusals;
pub mod spool;
mod state;
mod writer;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::metrics::RecorderMetrics;
use self::state::{QueuedRecord, RecorderMessage, RecorderState};
use self::writer::{RecordWriter, write_records};
use crate::audit::emitter::Emitter;
use crate::audit::record::Record;
use crate::clock::Clock;
use crate::telemetry::line_writer::LineWriter;

pub use self::chain_id::chain_of_process;
pub use self::refusals::{MAX_KEYS, MAX_NAMESPACES, MAX_REFUSED_RECORDS, REPEAT_INTERVAL};
pub use self::state::{QUEUE_CAPACITY, Recorded, RecorderSettings};
pub use crate::audit::link::ChainId;

/// Time limit of waiting until a record is written. An admission goes on without it then, and the record is written
/// later.
pub const MAX_WAIT: Duration = Duration::from_millis(50);

/// Recorder of one process. Clones write to the same chain.
#[derive(Clone, Debug)]
pub struct AuditRecorder {
    queue: SyncSender<RecorderMessage>,
    shared: Arc<RecorderState>,
}

impl AuditRecorder {
    /// Starts the chain, and the threads that write it to `out`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        settings: RecorderSettings,
        out: impl Write + Send + 'static,
        clock: Clock,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        let report = |lines| {
            tracing::error!(
                lines,
                "lines of the audit trail were not written: standard output was not read fast enough"
            );
        };
        let out = LineWriter::start("audit-stdout", out, report)?;
        let metrics = RecorderMetrics::register(registry, &out);
        let shared = Arc::new(RecorderState::new(settings, clock, metrics));
        let (queue, messages) = sync_channel(QUEUE_CAPACITY);
        let writer = RecordWriter::new(Arc::clone(&shared), out);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_records(writer, &messages))?;
        Ok(Self { queue, shared })
    }

    /// Maker of records with the names of this process, the time, and a new id.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.shared.emitter()
    }

    /// Writes a record. Returns after [`MAX_WAIT`] at the latest.
    pub async fn record(&self, record: Record) -> Recorded {
        let time = record.time;
        // The queue may outlive the writer for a moment: what it took then would be lost without being counted.
        if self.has_ended() {
            self.shared.count_lost(time);
            return Recorded::Dropped;
        }
        let (done, written) = oneshot::channel();
        let queued = QueuedRecord {
            record: Box::new(record),
            arrived: Instant::now(),
            done,
        };
        let sent = self.queue.try_send(RecorderMessage::Record(queued));
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sent {
            self.shared.count_lost(time);
            return Recorded::Dropped;
        }
        match timeout(MAX_WAIT, written).await {
            Ok(Ok(recorded)) => recorded,
            // The writer has ended, after the drain or by a panic.
            Ok(Err(_)) => {
                self.shared.count_lost(time);
                Recorded::Dropped
            }
            Err(_) => {
                self.shared.metrics.late.inc();
                Recorded::Late
            }
        }
    }

    /// Whether the last record is written.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.shared.has_ended.borrow()
    }

    /// Ends the chain with its last record, within `limit`. Later records are dropped and counted.
    pub async fn stop(&self, limit: Duration) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // A full queue wakes the writer as well.
        let _ = self.queue.try_send(RecorderMessage::Wake);
        let mut ended = self.shared.has_ended.subscribe();
        // After the limit, standard output is not being read.
        let _ = timeout(limit, ended.wait_for(|has_ended| *has_ended)).await;
    }
}

#[cfg(test)]
mod tests;
