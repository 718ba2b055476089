//! Recorder of the audit trail: the one place of a process that numbers records and writes them.
//!
//! Admissions hand their records to one thread by a bounded queue, and wait at most [`MAX_WAIT`]. The thread takes
//! whatever waits, leaves out refusals that repeat (`refusals`), links the records to its chain, and hands the lines
//! to a second thread for standard output, behind a bounded buffer. So a reader that stops blocks neither the chain nor
//! an admission. Records for which there is no room get no number: they are counted, and a `system.gap` record reports
//! them as soon as there is room again.

mod chain_id;
mod metrics;
mod refusals;
pub mod spool;
mod writer;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use self::chain_id::record_id;
use self::metrics::RecorderMetrics;
use self::writer::{RecordWriter, write_records};
use crate::audit::emitter::Emitter;
use crate::audit::record::{Interval, Record, Service};
use crate::audit::text::Text;
use crate::clock::Clock;
use crate::telemetry::line_writer::LineWriter;

pub use self::chain_id::chain_of_process;
pub use self::refusals::{MAX_KEYS, MAX_NAMESPACES, MAX_REFUSED_RECORDS, REPEAT_INTERVAL};
pub use crate::audit::link::ChainId;

/// Limit of records that wait for the writer.
pub const QUEUE_CAPACITY: usize = 4_096;

/// Time limit of waiting until a record is written. An admission goes on without it then, and the record is written
/// later.
pub const MAX_WAIT: Duration = Duration::from_millis(50);

/// Names of the process in its records.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// Name of the cluster; may be empty.
    pub cluster: Text<128>,
    pub service: Service,
    pub chain: ChainId,
}

/// Result of handing over a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The record is in the chain, or counted by a record that covers several refusals.
    Written,
    /// The record is written later.
    Late,
    /// There was no room. A gap record will report the number of such records.
    Dropped,
}

/// Recorder of one process. Clones write to the same chain.
#[derive(Clone, Debug)]
pub struct AuditRecorder {
    queue: SyncSender<RecorderMessage>,
    shared: Arc<RecorderState>,
}

/// State that the handles and the writer share.
#[derive(Debug)]
struct RecorderState {
    settings: RecorderSettings,
    clock: Clock,
    metrics: RecorderMetrics,
    /// Records without room that no gap record has reported.
    lost: Mutex<Option<Interval>>,
    is_stopping: AtomicBool,
    /// Set when the last record is written.
    has_ended: watch::Sender<bool>,
}

enum RecorderMessage {
    Record(QueuedRecord),
    /// The stop flag is set.
    Wake,
}

struct QueuedRecord {
    record: Box<Record>,
    arrived: Instant,
    done: oneshot::Sender<Recorded>,
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
        let shared = Arc::new(RecorderState {
            settings,
            clock,
            metrics,
            lost: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            has_ended: watch::Sender::default(),
        });
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

impl RecorderState {
    fn emitter(&self) -> Emitter {
        let time = self.clock.now();
        Emitter {
            cluster: self.settings.cluster.clone(),
            service: self.settings.service.clone(),
            time,
            id: Text::new(&record_id(time)),
        }
    }

    fn count_lost(&self, time: Timestamp) {
        self.count_all_lost(Interval {
            count: 1,
            from: time,
            to: time,
        });
    }

    fn count_all_lost(&self, records: Interval) {
        self.metrics.dropped.inc_by(records.count);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = Some(merged(*lost, records));
    }

    fn take_lost(&self) -> Option<Interval> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.take()
    }

    fn has_lost(&self) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_some()
    }
}

/// Interval with more records. Times of a clock that was set back count as well.
fn merged(interval: Option<Interval>, more: Interval) -> Interval {
    let Some(before) = interval else { return more };
    Interval {
        count: before.count.saturating_add(more.count),
        from: before.from.min(more.from),
        to: before.to.max(more.to),
    }
}

#[cfg(test)]
mod tests;
