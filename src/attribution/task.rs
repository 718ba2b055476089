//! Driver of attribution: attributes records as they are stored, and repeats what may change.
//!
//! Records of different replicas arrive in any order, and the API server may not respond. So a record for which nobody is
//! found is looked at again, for ten minutes. The store knows which records those are, so that a restart loses none.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::SignedDuration;
use kube::Client;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::asking_record::AskingRecord;
use super::controllers::Controllers;
use super::metrics::AttributionMetrics;
use super::owners::Owners;
use super::resolver::{Resolution, Resolver};
use crate::clock::Clock;
use crate::store::{
    AskedBy, AttributedRecord, AuditStore, LinePosition, MAX_UNATTRIBUTED, StoreError,
    TargetAttribution, UnattributedEvent,
};

/// Time from the first attempt after which it stays unknown who asked.
pub const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Time between two looks at new records, which share a transaction so.
const ROUND_INTERVAL: Duration = Duration::from_millis(200);

/// Time between two looks at records that were looked at before. One look is at a page of them.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Time after which a store is used again that failed.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Owners that are followed at the same time.
const CONCURRENT_OWNERS: usize = 16;

/// Attributes the records of a store until `stop` is cancelled, or the store is closed.
pub async fn run(
    store: Arc<dyn AuditStore>,
    client: Client,
    controllers: Controllers,
    metrics: AttributionMetrics,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut driver = Driver::new(store, Owners::new(client), controllers, metrics, clock);
    tokio::select! {
        () = driver.run() => {}
        () = stop.cancelled() => {}
    }
}

struct Driver {
    resolver: Resolver,
    metrics: AttributionMetrics,
    clock: Clock,
    /// Last record that was looked at.
    seen: LinePosition,
    /// Last record that was looked at again.
    repeated: LinePosition,
}

impl Driver {
    fn new(
        store: Arc<dyn AuditStore>,
        owners: Owners,
        controllers: Controllers,
        metrics: AttributionMetrics,
        clock: Clock,
    ) -> Self {
        Self {
            resolver: Resolver {
                store,
                owners,
                controllers,
            },
            metrics,
            clock,
            seen: LinePosition::default(),
            repeated: LinePosition::default(),
        }
    }

    async fn run(&mut self) {
        let mut committed = self.resolver.store.committed();
        committed.mark_changed();
        let mut is_failing = false;
        let mut retry_at = Instant::now() + RETRY_INTERVAL;
        loop {
            let round = tokio::select! {
                changed = committed.changed() => match changed {
                    Ok(()) => self.attribute_new().await,
                    Err(_) => return,
                },
                () = sleep_until(retry_at) => {
                    retry_at = Instant::now() + RETRY_INTERVAL;
                    self.repeat().await
                }
            };
            match round {
                Ok(()) => {
                    is_failing = false;
                    sleep(ROUND_INTERVAL).await;
                }
                Err(StoreError::Closed { .. }) => return,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "who asked for secrets is not written");
                    }
                    committed.mark_changed();
                    sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    /// Attributes all records that were not looked at before.
    async fn attribute_new(&mut self) -> Result<(), StoreError> {
        loop {
            let events = self.resolver.store.unattributed(self.seen).await?;
            let Some(last) = events.last().map(|event| event.position) else {
                return Ok(());
            };
            let is_last = events.len() < MAX_UNATTRIBUTED;
            self.attribute(events).await?;
            self.seen = last;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Attributes the next records that were looked at before.
    async fn repeat(&mut self) -> Result<(), StoreError> {
        let mut events = self.resolver.store.unattributed(self.repeated).await?;
        events.retain(|event| event.position <= self.seen);
        self.repeated = match events.last() {
            Some(last) if events.len() == MAX_UNATTRIBUTED => last.position,
            _ => LinePosition::default(),
        };
        self.attribute(events).await
    }

    async fn attribute(&self, events: Vec<UnattributedEvent>) -> Result<(), StoreError> {
        let groups = by_owner(events);
        let resolved = stream::iter(groups).map(|group| self.resolve(group));
        let resolved = resolved.buffer_unordered(CONCURRENT_OWNERS);
        let resolved: Vec<Result<Vec<_>, StoreError>> = resolved.collect().await;
        let mut records = Vec::new();
        let mut completed = Vec::new();
        let now = self.clock.now();
        for resolved in resolved {
            for (event, resolution) in resolved? {
                let gives_up = |since: jiff::Timestamp| now.duration_since(since) >= GIVE_UP_AFTER;
                let is_final = !resolution.may_change() || event.since.is_some_and(gives_up);
                // A further attempt without a result changes nothing.
                if is_final || event.since.is_none() {
                    records.push(attributed(&event, &resolution, is_final));
                }
                if is_final {
                    completed.push(resolution);
                }
            }
        }
        if !records.is_empty() {
            self.resolver.store.attribute(records, now).await?;
        }
        for resolution in &completed {
            self.metrics.count(resolution);
        }
        Ok(())
    }

    /// Resolves events one after the other.
    async fn resolve(
        &self,
        events: Vec<UnattributedEvent>,
    ) -> Result<Vec<(UnattributedEvent, Resolution)>, StoreError> {
        let mut resolved = Vec::with_capacity(events.len());
        for event in events {
            let resolution = self.resolver.resolve(&event).await?;
            resolved.push((event, resolution));
        }
        Ok(resolved)
    }
}

/// Groups events by their owner, which is read once for each group.
fn by_owner(events: Vec<UnattributedEvent>) -> Vec<Vec<UnattributedEvent>> {
    let mut groups = std::collections::BTreeMap::<String, Vec<_>>::new();
    for event in events {
        let owner = AskingRecord::of(&event).owner;
        let owner = owner.map(|owner| owner.uid).unwrap_or_default();
        groups.entry(owner).or_default().push(event);
    }
    groups.into_values().collect()
}

fn attributed(
    event: &UnattributedEvent,
    resolution: &Resolution,
    is_final: bool,
) -> AttributedRecord {
    let targets = (0..).zip(&resolution.targets);
    let targets = targets.filter_map(|(target, asked_by)| {
        let asked_by = asked_by.clone()?;
        let is_kept = is_final || matches!(asked_by, AskedBy::Requester { .. });
        is_kept.then_some(TargetAttribution { target, asked_by })
    });
    AttributedRecord {
        position: event.position,
        targets: targets.collect(),
        is_final,
    }
}

#[cfg(test)]
mod tests;
