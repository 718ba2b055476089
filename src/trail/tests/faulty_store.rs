//! Store whose appends fail as a test wants.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::audit::link::Tip;
use crate::audit::stored::AuthorObject;
use crate::store::sqlite::SqliteStore;
use crate::store::{
    AppendError, Appended, AttributedRecord, AttributionStore, AuditStore, Batch, ChainSummary,
    EventFilter, EventPage, EventQuery, ExportRange, FollowedEvents, ImportOutcome, ImportRange,
    LinePosition, MovedChains, RecordAttribution, RetentionPlan, RetentionRule, StoreCounts,
    StoreError, StoredEvent, UnattributedEvent,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppendFault {
    /// Nothing is stored, and an error is returned.
    NotStored,
    /// The lines are stored, and an error is returned.
    Stored,
    /// The lines are stored, and the call does not return.
    StoredWithoutReturn,
}

#[derive(Debug)]
pub(super) struct FaultyStore {
    store: SqliteStore,
    faults: Mutex<VecDeque<AppendFault>>,
}

impl FaultyStore {
    pub(super) fn new(store: SqliteStore) -> Self {
        Self {
            store,
            faults: Mutex::default(),
        }
    }

    /// Faults of the next appends that have lines.
    pub(super) fn next(&self, faults: &[AppendFault]) {
        self.faults.lock().unwrap().extend(faults);
    }
}

#[async_trait]
impl AuditStore for FaultyStore {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        let failed = || StoreError::Failed {
            store: "faulty".to_owned(),
            detail: "scripted".to_owned(),
        };
        let fault = if batch.is_empty() {
            None
        } else {
            self.faults.lock().unwrap().pop_front()
        };
        match fault {
            None => self.store.append(batch).await,
            Some(AppendFault::NotStored) => Err(failed().into()),
            Some(AppendFault::Stored) => {
                self.store.append(batch).await?;
                Err(failed().into())
            }
            Some(AppendFault::StoredWithoutReturn) => {
                self.store.append(batch).await?;
                std::future::pending().await
            }
        }
    }

    async fn query(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        self.store.query(query).await
    }

    async fn follow(
        &self,
        filter: &EventFilter,
        after: LinePosition,
    ) -> Result<FollowedEvents, StoreError> {
        self.store.follow(filter, after).await
    }

    fn committed(&self) -> watch::Receiver<LinePosition> {
        self.store.committed()
    }

    async fn chains(&self) -> Result<Vec<ChainSummary>, StoreError> {
        self.store.chains().await
    }

    async fn moved(&self, after: LinePosition) -> Result<MovedChains, StoreError> {
        self.store.moved(after).await
    }

    async fn retained(&self) -> Result<Vec<Tip>, StoreError> {
        self.store.retained().await
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.store.counts().await
    }

    async fn export(
        &self,
        range: ExportRange,
        after: LinePosition,
    ) -> Result<(Vec<String>, Option<LinePosition>), StoreError> {
        self.store.export(range, after).await
    }

    async fn import(&self, range: ImportRange) -> Result<ImportOutcome, StoreError> {
        self.store.import(range).await
    }

    async fn plan_retention(&self, rule: RetentionRule) -> Result<RetentionPlan, StoreError> {
        self.store.plan_retention(rule).await
    }

    async fn retain(&self, plan: RetentionPlan) -> Result<u64, StoreError> {
        self.store.retain(plan).await
    }
}

#[async_trait]
impl AttributionStore for FaultyStore {
    async fn unattributed(
        &self,
        after: LinePosition,
    ) -> Result<Vec<UnattributedEvent>, StoreError> {
        self.store.unattributed(after).await
    }

    async fn object_records(
        &self,
        object: &AuthorObject,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.object_records(object, since, until).await
    }

    async fn attribute(
        &self,
        records: Vec<AttributedRecord>,
        time: Timestamp,
    ) -> Result<(), StoreError> {
        self.store.attribute(records, time).await
    }

    async fn attributions(
        &self,
        positions: &[LinePosition],
    ) -> Result<Vec<RecordAttribution>, StoreError> {
        self.store.attributions(positions).await
    }
}
