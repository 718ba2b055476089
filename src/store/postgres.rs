//! Store in a PostgreSQL database, which several processes may write at a time.
//!
//! Each commit is made under one lock of the database, so that positions become visible in their order. Connections are
//! replaced when they end; until then, calls fail with [`StoreError::Unreachable`], and succeed again by themselves. A
//! database that has another store by then, or none, is not written ([`StoreError::Replaced`]).

mod append;
mod attribution;
mod connection;
mod database;
mod export;
mod failure;
mod import;
mod read;
mod retain;
mod rows;
mod schema;
mod second_pass;
mod select;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::append::Written;
use self::database::Database;
use super::{
    AppendError, Appended, AttributedRecord, AttributionStore, AuditStore, Batch, ChainSummary,
    EventFilter, EventPage, EventQuery, ExportRange, FollowedEvents, ImportOutcome, ImportRange,
    LinePosition, MAX_PAGE, MovedChains, RecordAttribution, RetentionPlan, RetentionRule,
    StoreCounts, StoreError, StoredEvent, UnattributedEvent,
};
use crate::audit::link::Tip;
use crate::audit::stored::AuthorObject;

pub use self::rows::ROW_BYTES;
pub use self::schema::SCHEMA_VERSION;
pub use self::settings::{
    CONNECT_TIMEOUT, InvalidAddress, PostgresAddress, PostgresSettings, READERS, STATEMENT_TIMEOUT,
};

/// Interval at which commits of other programs are looked for.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// Store in a database.
#[derive(Debug)]
pub struct PostgresStore {
    database: Arc<Database>,
    max_bytes: Option<u64>,
    /// Absent if the store is only read.
    refreshing: Option<JoinHandle<()>>,
}

impl PostgresStore {
    /// Opens the store for writing, and updates its schema.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, has no store, or one that is damaged, foreign, or of a newer schema. It is left as
    /// it is then.
    pub async fn open(settings: PostgresSettings) -> Result<Self, StoreError> {
        let max_bytes = settings.max_bytes;
        let database = Arc::new(Database::open(settings, true).await?);
        let refreshed = Arc::clone(&database);
        let refreshing = tokio::spawn(async move {
            loop {
                sleep(REFRESH_INTERVAL).await;
                // The next call of the store reports what is wrong.
                drop(refreshed.refresh().await);
            }
        });
        Ok(Self {
            database,
            max_bytes,
            refreshing: Some(refreshing),
        })
    }

    /// Opens the store for reading, also beside processes that write it.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, has no store, or one that is damaged, foreign, or of another schema.
    pub async fn open_read_only(settings: PostgresSettings) -> Result<Self, StoreError> {
        Ok(Self {
            database: Arc::new(Database::open(settings, false).await?),
            max_bytes: None,
            refreshing: None,
        })
    }

    /// Runs a write to its end, also if the caller is gone: what it commits is published.
    async fn write<T, W>(&self, write: impl FnOnce(Arc<Database>) -> W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let store = || self.database.name().to_owned();
        if self.refreshing.is_none() {
            return Err(StoreError::ReadOnly { store: store() });
        }
        let written = tokio::spawn(write(Arc::clone(&self.database))).await;
        written.map_err(|_| StoreError::Closed { store: store() })?
    }

    async fn delete(&self, tip: Tip) -> Result<u64, StoreError> {
        self.write(|database| async move {
            let delete = database
                .write(|client| Box::pin(async move { retain::delete(client, &tip).await }));
            delete.await
        })
        .await
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(refreshing) = &self.refreshing {
            refreshing.abort();
        }
    }
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let limit = self.database.limit();
        self.write(|database| async move {
            let append = database.write(|client| {
                Box::pin(async move { append::append(client, &batch, &limit).await })
            });
            append.await
        })
        .await?
    }

    async fn query(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        let query = query.clone();
        self.database
            .read(|client| Box::pin(async move { read::page(client, &query).await }))
            .await
    }

    async fn follow(
        &self,
        filter: &EventFilter,
        after: LinePosition,
    ) -> Result<FollowedEvents, StoreError> {
        let filter = filter.clone();
        self.database
            .read(|client| Box::pin(async move { read::follow(client, &filter, after).await }))
            .await
    }

    fn committed(&self) -> watch::Receiver<LinePosition> {
        self.database.committed()
    }

    async fn chains(&self) -> Result<Vec<ChainSummary>, StoreError> {
        self.database
            .read(|client| Box::pin(read::chains(client)))
            .await
    }

    async fn moved(&self, after: LinePosition) -> Result<MovedChains, StoreError> {
        self.database
            .read(|client| Box::pin(read::moved(client, after)))
            .await
    }

    async fn retained(&self) -> Result<Vec<Tip>, StoreError> {
        self.database
            .read(|client| Box::pin(read::retained(client)))
            .await
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        let counts = self
            .database
            .read(|client| Box::pin(read::counts(client)))
            .await?;
        Ok(StoreCounts {
            max_bytes: self.max_bytes,
            ..counts
        })
    }

    async fn export(
        &self,
        range: ExportRange,
        after: LinePosition,
    ) -> Result<(Vec<String>, Option<LinePosition>), StoreError> {
        self.database
            .read(|client| Box::pin(export::export(client, range, after)))
            .await
    }

    async fn import(&self, range: ImportRange) -> Result<ImportOutcome, StoreError> {
        let limit = self.database.limit();
        self.write(|database| async move {
            let import = database.write(|client| {
                Box::pin(async move { import::import(client, &range, &limit).await })
            });
            import.await?
        })
        .await
    }

    async fn plan_retention(&self, rule: RetentionRule) -> Result<RetentionPlan, StoreError> {
        self.database
            .read(|client| Box::pin(retain::plan(client, rule)))
            .await
    }

    async fn retain(&self, plan: RetentionPlan) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for tip in plan.tips {
            // One transaction at a time: appends come in between.
            loop {
                let count = self.delete(tip.clone()).await?;
                deleted += count;
                if count == 0 {
                    break;
                }
            }
        }
        Ok(deleted)
    }
}

#[async_trait]
impl AttributionStore for PostgresStore {
    async fn unattributed(
        &self,
        after: LinePosition,
    ) -> Result<Vec<UnattributedEvent>, StoreError> {
        self.database
            .read(|client| Box::pin(attribution::unattributed(client, after)))
            .await
    }

    async fn object_records(
        &self,
        object: &AuthorObject,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let object = object.clone();
        self.database
            .read(|client| {
                Box::pin(
                    async move { attribution::object_records(client, &object, since, until).await },
                )
            })
            .await
    }

    async fn attribute(
        &self,
        records: Vec<AttributedRecord>,
        time: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|database| async move {
            let attribute = database.write(|client| {
                Box::pin(async move {
                    attribution::attribute(client, &records, time).await?;
                    Ok(Written::without_lines(()))
                })
            });
            attribute.await
        })
        .await
    }

    async fn attributions(
        &self,
        positions: &[LinePosition],
    ) -> Result<Vec<RecordAttribution>, StoreError> {
        let positions: Vec<_> = positions.iter().copied().take(MAX_PAGE).collect();
        self.database
            .read(|client| {
                Box::pin(async move { attribution::attributions(client, &positions).await })
            })
            .await
    }
}
