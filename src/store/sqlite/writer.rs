//! Thread that writes: one transaction for all jobs that wait, so that a commit's synchronization is shared. Deletions come
//! after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::file::{failed, name, sqlite_error};
use super::lock::StoreLock;
use super::maintenance::{Maintenance, ReserveKeeper};
use super::open::OpenedStore;
use super::page_limit::PageLimit;
use super::reserve::Reserve;
use super::settings::SqliteSettings;
use super::{append, attribution, import, retain};
use crate::audit::link::Tip;
use crate::store::{
    AppendError, Appended, AttributedRecord, Batch, ImportOutcome, ImportRange, LinePosition,
    StoreError,
};

/// Jobs that wait. A sender of more waits itself.
pub(super) const QUEUE: usize = 256;

/// Jobs of one transaction.
const MAX_GROUP: usize = 64;

/// Lines of one transaction, after which no further job is added to it.
const MAX_GROUP_LINES: usize = 1_024;

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Change of the store.
#[derive(Debug)]
pub(super) enum Job {
    Append(Batch, Reply<Result<Appended, AppendError>>),
    Import(ImportRange, Reply<ImportOutcome>),
    /// Writes who asked for the secrets of records, as found at a time.
    Attribute(Vec<AttributedRecord>, Timestamp, Reply<()>),
    /// Deletes some of a chain's lines up to this one, and returns how many.
    Delete(Tip, Reply<u64>),
    /// Returns free pages to the volume, and returns how many.
    Shrink(Reply<u64>),
}

/// Reports the result of a job to its sender: its own, or the error of its transaction.
type Report = Box<dyn FnOnce(Option<&StoreError>)>;

/// Sender of jobs. Dropping it ends the thread after the jobs that wait.
#[derive(Debug)]
pub(super) struct StoreWriter {
    jobs: Option<mpsc::Sender<Job>>,
    reserve: ReserveKeeper,
    thread: Option<JoinHandle<()>>,
}

impl StoreWriter {
    pub(super) fn start(
        opened: OpenedStore,
        settings: &SqliteSettings,
    ) -> Result<(Self, watch::Receiver<LinePosition>), StoreError> {
        let store = name(&settings.path);
        let last = append::last_position(&opened.connection);
        let last = last.map_err(|error| sqlite_error(&store, &error))?;
        let (committed, receiver) = watch::channel(last);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let page_limit = PageLimit::of(&opened.connection, settings);
        let page_limit = page_limit.map_err(|error| sqlite_error(&store, &error))?;
        let reserve = settings.reserve.then(|| Reserve::new(&settings.path));
        let maintenance = Maintenance::start(opened.maintenance, reserve)
            .map_err(|error| failed(&settings.path, &error))?;
        let reserve = maintenance.reserve_keeper();
        let state = WriterThread {
            connection: opened.connection,
            pages: opened.pages,
            maintenance,
            lock: opened.lock,
            page_limit,
            store,
            committed,
        };
        let thread = std::thread::Builder::new()
            .name("audit-store".to_owned())
            .spawn(move || state.run(queue))
            .map_err(|error| failed(&settings.path, &error))?;
        let writer = Self {
            jobs: Some(jobs),
            reserve,
            thread: Some(thread),
        };
        Ok((writer, receiver))
    }

    /// Sends a job, when there is room for it.
    pub(super) async fn send(&self, job: Job) -> Result<(), ()> {
        let jobs = self.jobs.as_ref().ok_or(())?;
        jobs.send(job).await.map_err(|_| ())
    }

    /// Fills the reserve, if it was given up and there is room for it.
    pub(super) async fn restore_reserve(&self) {
        self.reserve.restore().await;
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // The file can be opened again as soon as the store is dropped.
            drop(thread.join());
        }
    }
}

struct WriterThread {
    connection: Connection,
    /// Pages of the WAL after the last commit.
    pages: Arc<AtomicU32>,
    maintenance: Maintenance,
    /// Released after the connections are closed.
    lock: StoreLock,
    page_limit: Option<PageLimit>,
    store: String,
    committed: watch::Sender<LinePosition>,
}

impl WriterThread {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut lines = first.lines();
            let mut group = vec![first];
            while group.len() < MAX_GROUP
                && lines < MAX_GROUP_LINES
                && let Ok(job) = queue.try_recv()
            {
                lines += job.lines();
                group.push(job);
            }
            let (deletions, group): (Vec<_>, _) = group.into_iter().partition(Job::is_deletion);
            if !group.is_empty() {
                self.commit(group);
            }
            for deletion in deletions {
                self.commit(vec![deletion]);
            }
        }
    }

    /// Runs the jobs in one transaction, and reports to their senders afterwards.
    fn commit(&mut self, group: Vec<Job>) {
        let mut reports: Vec<Report> = Vec::with_capacity(group.len());
        let is_reserved = group.iter().any(Job::is_reserved);
        let mut jobs = group.into_iter();
        let mut last = None;
        let page_limit = self.page_limit.filter(|_| is_reserved);
        let result = page_limit.map_or(Ok(()), |limit| limit.raise(&self.connection));
        let result = result.and_then(|()| {
            let transaction = self.connection.transaction()?;
            for job in jobs.by_ref() {
                let (report, result) = job.run(&transaction, &mut last);
                reports.push(report);
                result?;
            }
            transaction.commit()
        });
        if let Some(limit) = page_limit {
            // A limit that stays raised is restored after the next announcement.
            drop(limit.restore(&self.connection));
        }
        let error = result.err().map(|error| self.describe(&error));
        if let Some(last) = last.filter(|_| error.is_none()) {
            self.committed.send_replace(LinePosition(last));
        }
        for report in reports {
            report(error.as_ref());
        }
        if let Some(error) = error {
            jobs.for_each(|job| job.fail(&error));
        }
        // After the reports, which need not wait for it.
        let pages = self.pages.load(Ordering::Relaxed);
        self.maintenance.committed(&self.connection, pages);
    }

    /// Error of a transaction. On a full volume, the reserve is given up, so that deleting can begin.
    fn describe(&mut self, error: &rusqlite::Error) -> StoreError {
        match sqlite_error(&self.store, error) {
            StoreError::Full { store, .. } => {
                self.maintenance.give_up_reserve(&self.connection);
                let bytes = retain::bytes(&self.connection).unwrap_or_default();
                StoreError::Full { store, bytes }
            }
            StoreError::Failed { store, .. } if self.lock.is_on_read_only_volume() => {
                StoreError::ReadOnly { store }
            }
            other => other,
        }
    }
}

impl Job {
    /// Whether the job can wait for others, and has a transaction of its own, so that they do not wait for it longer.
    fn is_deletion(&self) -> bool {
        matches!(self, Self::Delete(..) | Self::Shrink(_))
    }

    fn is_reserved(&self) -> bool {
        matches!(self, Self::Append(batch, _) if batch.is_reserved)
    }

    fn lines(&self) -> usize {
        match self {
            Self::Append(batch, _) => batch.lines.len(),
            Self::Import(range, _) => range.lines.len(),
            Self::Attribute(records, ..) => records.len(),
            Self::Delete(..) | Self::Shrink(_) => 0,
        }
    }

    /// Runs the job within a transaction. `last` becomes the position of the last line. An error ends the transaction.
    fn run(
        self,
        transaction: &Connection,
        last: &mut Option<u64>,
    ) -> (Report, rusqlite::Result<()>) {
        match self {
            Self::Append(batch, reply) => outcome(reply, append::append(transaction, &batch, last)),
            Self::Import(range, reply) => outcome(reply, import::import(transaction, &range, last)),
            Self::Attribute(records, time, reply) => {
                outcome(reply, attribution::attribute(transaction, &records, time))
            }
            Self::Delete(tip, reply) => outcome(reply, retain::delete(transaction, &tip)),
            Self::Shrink(reply) => outcome(reply, retain::shrink(transaction)),
        }
    }

    fn fail(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Self::Append(_, reply) => drop(reply.send(Err(error))),
            Self::Import(_, reply) => drop(reply.send(Err(error))),
            Self::Attribute(_, _, reply) => drop(reply.send(Err(error))),
            Self::Delete(_, reply) | Self::Shrink(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Splits the result of a job into its report and its error, which is that of the transaction.
fn outcome<T: 'static>(
    reply: Reply<T>,
    result: rusqlite::Result<T>,
) -> (Report, rusqlite::Result<()>) {
    let (value, error) = match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    };
    let report = move |error: Option<&StoreError>| {
        let result = match (error, value) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(value)) => Ok(value),
            (None, None) => return,
        };
        // A sender that is gone needs no result.
        drop(reply.send(result));
    };
    (Box::new(report), error.map_or(Ok(()), Err))
}
