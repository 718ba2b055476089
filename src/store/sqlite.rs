//! Store in a SQLite file: one writer thread, and read-only connections beside it.
//!
//! A second process may read the file, and none may write it ([`lock`]). The file is in WAL mode and is synchronized at
//! each commit, so that what was reported as durable survives the loss of power. It needs a local file system.

mod append;
mod attribution;
mod author;
mod export;
mod file;
mod import;
mod lock;
mod maintenance;
mod names;
mod open;
mod page_limit;
mod query_index;
mod read;
mod readers;
mod reserve;
mod retain;
mod schema;
mod second_pass;
mod select;
mod settings;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use self::readers::Readers;
use self::writer::{Job, StoreWriter};
use super::retention::{MAX_PAUSE, PAUSE_RATIO};
use super::{
    AppendError, Appended, AttributedRecord, AttributionStore, AuditStore, Batch, ChainSummary,
    EventFilter, EventPage, EventQuery, ExportRange, FollowedEvents, ImportOutcome, ImportRange,
    LinePosition, MAX_PAGE, MovedChains, RecordAttribution, RetentionPlan, RetentionRule,
    StoreCounts, StoreError, StoredEvent, UnattributedEvent,
};
use crate::audit::link::Tip;
use crate::audit::stored::AuthorObject;

pub use self::schema::SCHEMA_VERSION;
pub use self::settings::{QUERY_TIMEOUT, READERS, SqliteSettings};

/// Store in a file.
#[derive(Debug)]
pub struct SqliteStore {
    name: String,
    max_bytes: Option<u64>,
    /// Dropped before the writer: the last connection moves the WAL into the file, and a reader cannot.
    readers: Readers,
    /// Absent if the store is only read.
    writer: Option<StoreWriter>,
    committed: watch::Receiver<LinePosition>,
}

impl SqliteStore {
    /// Opens the store for writing, and updates its schema. Blocks.
    ///
    /// # Errors
    ///
    /// The store does not exist, is in use, damaged, foreign, or of a newer schema. It is left as it is then.
    pub fn open(settings: &SqliteSettings) -> Result<Self, StoreError> {
        let opened = open::for_writing(settings)?;
        let (writer, committed) = StoreWriter::start(opened, settings)?;
        Ok(Self {
            name: file::name(&settings.path),
            max_bytes: settings.max_bytes,
            writer: Some(writer),
            readers: Readers::open(settings)?,
            committed,
        })
    }

    /// Opens the store for reading, also beside the process that writes it. Blocks.
    ///
    /// # Errors
    ///
    /// The store does not exist, is damaged, foreign, or of another schema.
    pub fn open_read_only(settings: &SqliteSettings) -> Result<Self, StoreError> {
        let readers = Readers::open(settings)?;
        Ok(Self {
            name: file::name(&settings.path),
            max_bytes: None,
            writer: None,
            readers,
            committed: watch::channel(LinePosition::default()).1,
        })
    }

    async fn write<T>(&self, job: impl FnOnce(writer::Reply<T>) -> Job) -> Result<T, StoreError> {
        let store = || self.name.clone();
        let writer = self.writer.as_ref();
        let writer = writer.ok_or_else(|| StoreError::ReadOnly { store: store() })?;
        let (reply, result) = tokio::sync::oneshot::channel();
        let closed = || StoreError::Closed { store: store() };
        writer.send(job(reply)).await.map_err(|()| closed())?;
        result.await.map_err(|_| closed())?
    }

    /// Runs a job that can wait for others, and pauses after it: most appends come in a pause, and the longer the jobs
    /// before have to wait or take, the more rarely there is one.
    async fn rate_limited(
        &self,
        job: impl FnOnce(writer::Reply<u64>) -> Job,
    ) -> Result<u64, StoreError> {
        let started = Instant::now();
        let count = self.write(job).await?;
        tokio::time::sleep(MAX_PAUSE.min(started.elapsed() * PAUSE_RATIO)).await;
        Ok(count)
    }
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.write(|reply| Job::Append(batch, reply)).await?
    }

    async fn query(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        let query = query.clone();
        self.readers
            .run(move |connection| read::page(connection, &query))
            .await
    }

    async fn follow(
        &self,
        filter: &EventFilter,
        after: LinePosition,
    ) -> Result<FollowedEvents, StoreError> {
        let filter = filter.clone();
        self.readers
            .run(move |connection| read::follow(connection, &filter, after))
            .await
    }

    fn committed(&self) -> watch::Receiver<LinePosition> {
        self.committed.clone()
    }

    async fn chains(&self) -> Result<Vec<ChainSummary>, StoreError> {
        self.readers.run(read::chains).await
    }

    async fn moved(&self, after: LinePosition) -> Result<MovedChains, StoreError> {
        self.readers
            .run(move |connection| read::moved(connection, after))
            .await
    }

    async fn retained(&self) -> Result<Vec<Tip>, StoreError> {
        self.readers.run(read::retained).await
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        let max_bytes = self.max_bytes;
        let counts = self.readers.run(read::counts).await?;
        Ok(StoreCounts {
            max_bytes,
            ..counts
        })
    }

    async fn export(
        &self,
        range: ExportRange,
        after: LinePosition,
    ) -> Result<(Vec<String>, Option<LinePosition>), StoreError> {
        self.readers
            .run(move |connection| export::export(connection, range, after))
            .await
    }

    async fn import(&self, range: ImportRange) -> Result<ImportOutcome, StoreError> {
        self.write(|reply| Job::Import(range, reply)).await
    }

    async fn plan_retention(&self, rule: RetentionRule) -> Result<RetentionPlan, StoreError> {
        self.readers
            .run(move |connection| retain::plan(connection, rule))
            .await
    }

    async fn retain(&self, plan: RetentionPlan) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for tip in plan.tips {
            // One job for each transaction: appends come in between.
            loop {
                let tip = tip.clone();
                let count = self.rate_limited(|reply| Job::Delete(tip, reply)).await?;
                deleted += count;
                if count == 0 {
                    break;
                }
            }
        }
        for _ in 0..retain::SHRINKS {
            if self.rate_limited(Job::Shrink).await? == 0 {
                break;
            }
        }
        if let Some(writer) = &self.writer {
            writer.restore_reserve().await;
        }
        Ok(deleted)
    }
}

#[async_trait]
impl AttributionStore for SqliteStore {
    async fn unattributed(
        &self,
        after: LinePosition,
    ) -> Result<Vec<UnattributedEvent>, StoreError> {
        self.readers
            .run(move |connection| attribution::unattributed(connection, after))
            .await
    }

    async fn object_records(
        &self,
        object: &AuthorObject,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let object = object.clone();
        self.readers
            .run(move |connection| attribution::object_records(connection, &object, since, until))
            .await
    }

    async fn attribute(
        &self,
        records: Vec<AttributedRecord>,
        time: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|reply| Job::Attribute(records, time, reply))
            .await
    }

    async fn attributions(
        &self,
        positions: &[LinePosition],
    ) -> Result<Vec<RecordAttribution>, StoreError> {
        let positions: Vec<_> = positions.iter().copied().take(MAX_PAGE).collect();
        self.readers
            .run(move |connection| attribution::attributions(connection, &positions))
            .await
    }
}
