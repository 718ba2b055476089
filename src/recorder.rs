//! Recorder of the audit trail: the one place of a process that numbers records and writes them.
//!
//! Admissions hand their records to one thread by a bounded queue, and wait at most [`MAX_WAIT`]. The thread takes
//! whatever waits, leaves out refusals that repeat (`refusals`), links the records to its chain, writes the lines to the
//! [`spool`] if there is one, and hands them to a second thread for standard output, behind a bounded buffer (`sinks`).
//! So a reader that stops blocks neither the chain nor an admission. Records for which there is no room are counted, and
//! a `system.gap` record reports them as soon as there is room again. [`shipping`] sends the spool to the collector.

mod account;
mod chain_id;
mod interval;
mod link;
mod metrics;
mod refusals;
pub mod shipping;
mod sinks;
pub mod spool;
mod state;
mod writer;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::link::SpoolLink;
use self::metrics::RecorderMetrics;
use self::sinks::RecordSinks;
use self::state::{QueuedRecord, RecordForm, RecorderState};
use self::writer::{RecordWriter, write_records};
use crate::audit::emitter::Emitter;
use crate::audit::record::Record;
use crate::clock::Clock;
use crate::telemetry::line_writer::LineWriter;
use crate::telemetry::mailbox::{MailboxSender, mailbox};

pub use self::chain_id::{UNKNOWN_POD, chain_of_process, record_id};
pub use self::refusals::{MAX_KEYS, MAX_NAMESPACES, MAX_REFUSED_RECORDS, REPEAT_INTERVAL};
pub use self::state::{QUEUE_CAPACITY, Recorded, RecorderSettings};
pub use crate::audit::link::ChainId;

/// Time limit of waiting until a record is written. An admission goes on without it then, and the record is written
/// later.
pub const MAX_WAIT: Duration = Duration::from_millis(50);

/// Least time between two groups of records. A record that comes sooner waits for others: to wake the writer costs more
/// than to write a record.
const GROUP_INTERVAL: Duration = Duration::from_micros(250);

/// Least time between two groups of lines for standard output.
const STDOUT_INTERVAL: Duration = Duration::from_millis(5);

/// Recorder of one process. Clones write to the same chain.
#[derive(Clone, Debug)]
pub struct AuditRecorder {
    queue: MailboxSender<QueuedRecord>,
    shared: Arc<RecorderState>,
    link: Arc<SpoolLink>,
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
        Self::start_with_spool(settings, None, out, clock, registry)
    }

    /// Like [`Self::start`], and keeps the lines in the spool of a folder until they are shipped
    /// ([`Self::ship`]). A spool that cannot be used at the moment does not keep the program from starting.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start_with_spool(
        settings: RecorderSettings,
        spool: Option<PathBuf>,
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
        let out = LineWriter::start("audit-stdout", STDOUT_INTERVAL, out, report)?;
        let metrics = RecorderMetrics::register(registry, &out);
        let shared = Arc::new(RecorderState::new(settings, clock, metrics));
        let (queue, records) = mailbox(QUEUE_CAPACITY, GROUP_INTERVAL);
        let link = Arc::new(SpoolLink::default());
        let spool = spool.map(|folder| (folder, Arc::clone(&link)));
        let writing = Arc::clone(&shared);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                // The spool is opened by the thread that writes it.
                let writer = RecordWriter::new(writing, RecordSinks::open(out, spool));
                write_records(writer, records);
            })?;
        Ok(Self {
            queue,
            shared,
            link,
        })
    }

    /// Maker of records with the names of this process, the time, and a new id.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.shared.emitter()
    }

    /// Writes a record. Returns after [`MAX_WAIT`] at the latest. It is in the queue when this function returns, so that
    /// the future has no room for it.
    pub fn record(&self, record: Record) -> impl Future<Output = Recorded> + Send + use<'_> {
        let time = record.time;
        self.wait(self.enqueue(record), time)
    }

    /// Puts a record into the queue. `None`: there is no room.
    fn enqueue(&self, record: Record) -> Option<oneshot::Receiver<Recorded>> {
        // The queue may outlive the writer for a moment: what it took then would be lost without being counted.
        if self.has_ended() {
            return None;
        }
        let (done, written) = oneshot::channel();
        let queued = QueuedRecord {
            record: RecordForm::of(record),
            done,
        };
        self.queue.send(queued).ok().map(|()| written)
    }

    async fn wait(
        &self,
        written: Option<oneshot::Receiver<Recorded>>,
        time: Timestamp,
    ) -> Recorded {
        let Some(written) = written else {
            self.shared.count_lost(time);
            return Recorded::Dropped;
        };
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
        self.queue.wake();
        let mut ended = self.shared.has_ended.subscribe();
        // After the limit, standard output is not being read.
        let _ = timeout(limit, ended.wait_for(|has_ended| *has_ended)).await;
    }
}

#[cfg(test)]
mod tests;
