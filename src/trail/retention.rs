//! Retention: deletes old lines of the store, after a signed record has announced it.
//!
//! Announcements are lines that are deleted themselves one day. While a chain has lines, one is renewed well before, so
//! that the trail always explains where the chain begins.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::metrics::UpkeepMetrics;
use super::own::{MAX_RECORDS, OwnTrail, OwnTrailError};
use super::retry::RetryState;
use super::signer::Signer;
use crate::audit::emitter::MAX_TIPS;
use crate::audit::link::{ChainId, Tip};
use crate::audit::signature::SigningKey;
use crate::store::{AuditStore, RetentionPlan, RetentionRule, StoreError};

/// Interval of deletions by age.
pub const RETENTION_INTERVAL: Duration = Duration::from_mins(10);

/// Interval at which the size of the store is read. Above [`FULL_PERCENT`], lines are deleted at once.
pub const SIZE_INTERVAL: Duration = Duration::from_secs(30);

/// Part of its size that the store should use at most, in percent.
pub const FULL_PERCENT: u64 = 90;

/// Plans of one pass. Lines that are left wait for the next one.
pub const MAX_PLANS: usize = 50;

/// Pause between two plans, in which lines are appended without waiting for deletions.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest time after which an announcement is renewed. It is half of the least age, if that is shorter.
const MAX_RENEWAL: Duration = Duration::from_hours(24);

/// Ages of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Age at which a line is deleted.
    pub max_age: Duration,
    /// Age that a line has at least, even if the store is full.
    pub min_age: Duration,
}

/// Reason why a pass ended early.
#[derive(Debug, Error)]
enum RetentionError {
    #[error(
        "there is no key to sign the announcement, so nothing is deleted: see --checkpoint-key, and the log about the key"
    )]
    NoKey,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] OwnTrailError),
}

/// Deletion of old lines.
#[derive(Debug)]
pub struct Retention {
    store: Arc<dyn AuditStore>,
    trail: OwnTrail,
    signer: Arc<Signer>,
    settings: RetentionSettings,
    metrics: UpkeepMetrics,
    /// Number that the last announcement of a chain has, and its time.
    announced: HashMap<ChainId, (u64, Timestamp)>,
    retries: RetryState,
    pause: Duration,
}

impl Retention {
    pub(super) fn new(
        store: &Arc<dyn AuditStore>,
        trail: &OwnTrail,
        signer: &Arc<Signer>,
        settings: RetentionSettings,
        metrics: UpkeepMetrics,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            trail: trail.clone(),
            signer: Arc::clone(signer),
            settings,
            metrics,
            announced: HashMap::new(),
            retries: RetryState::default(),
            pause: PAUSE,
        }
    }

    #[cfg(test)]
    pub(super) fn without_pauses(mut self) -> Self {
        self.pause = Duration::ZERO;
        self
    }

    /// Deletes lines at every interval, until it is dropped.
    pub(super) async fn run(&mut self) {
        let mut due = Instant::now();
        loop {
            let is_full = self.is_full().await;
            if is_full || Instant::now() >= due {
                self.run_once().await;
                due = Instant::now() + RETENTION_INTERVAL;
            }
            sleep(SIZE_INTERVAL).await;
        }
    }

    /// Deletes what may go now, and reports what prevents it.
    pub(super) async fn run_once(&mut self) {
        let is_done = match self.delete().await {
            Ok(is_done) => {
                if self.retries.succeed() {
                    tracing::info!("retention works again");
                }
                is_done
            }
            Err(error) => {
                if self.retries.fail() {
                    tracing::warn!(%error, "old lines of the audit trail cannot be deleted; retrying");
                }
                return;
            }
        };
        let is_blocked = is_done && self.is_full().await;
        if self.metrics.is_blocked.set(i64::from(is_blocked)) == 0 && is_blocked {
            tracing::error!(
                "the store of the audit trail is nearly full, and no line may be deleted"
            );
        }
    }

    /// Reads the size of the store. One that cannot be read is not known to be full.
    async fn is_full(&self) -> bool {
        let Ok(counts) = self.store.counts().await else {
            return false;
        };
        counts.bytes > allowed_bytes(counts.max_bytes.unwrap_or(u64::MAX))
    }

    /// Deletes lines, plan by plan. Returns whether no further line may go.
    async fn delete(&mut self) -> Result<bool, RetentionError> {
        let mut is_done = false;
        for _ in 0..MAX_PLANS {
            let plan = self.plan().await?;
            is_done = plan.tips.is_empty();
            if is_done {
                break;
            }
            self.announce(&plan.tips).await?;
            let deleted = self.store.retain(plan).await?;
            self.metrics.deleted.inc_by(deleted);
            tracing::info!(lines = deleted, "deleted old lines of the audit trail");
            sleep(self.pause).await;
        }
        self.renew().await?;
        Ok(is_done)
    }

    async fn plan(&self) -> Result<RetentionPlan, StoreError> {
        let max_bytes = self.store.counts().await?.max_bytes;
        let now = self.trail.clock().now();
        let rule = RetentionRule {
            older_than: before(now, self.settings.max_age),
            min_age: before(now, self.settings.min_age),
            max_bytes: max_bytes.map(allowed_bytes),
        };
        self.store.plan_retention(rule).await
    }

    /// Announces again where chains begin whose announcement gets old.
    async fn renew(&mut self) -> Result<(), RetentionError> {
        let retained = self.store.retained().await?;
        let renewal = MAX_RENEWAL.min(self.settings.min_age / 2);
        let limit = before(self.trail.clock().now(), renewal);
        let is_due = |tip: &&Tip| {
            let announced = self.announced.get(&tip.chain);
            announced.is_none_or(|(seq, time)| *seq != tip.seq || *time <= limit)
        };
        let due: Vec<Tip> = retained.iter().filter(is_due).cloned().collect();
        if !due.is_empty() {
            self.announce(&due).await?;
        }
        let chains: HashSet<&ChainId> = retained.iter().map(|tip| &tip.chain).collect();
        self.announced.retain(|chain, _| chains.contains(chain));
        Ok(())
    }

    async fn announce(&mut self, tips: &[Tip]) -> Result<(), RetentionError> {
        let key = self.signer.key().await.ok_or(RetentionError::NoKey)?;
        for tips in tips.chunks(MAX_TIPS * MAX_RECORDS) {
            self.announce_at_once(tips, &key).await?;
        }
        let now = self.trail.clock().now();
        for tip in tips {
            self.announced.insert(tip.chain.clone(), (tip.seq, now));
        }
        Ok(())
    }

    async fn announce_at_once(&self, tips: &[Tip], key: &SigningKey) -> Result<(), OwnTrailError> {
        let records = tips.chunks(MAX_TIPS);
        let records = records.flat_map(|tips| self.trail.emitter().retention(tips));
        self.trail.announce(records.collect(), key).await.map(drop)
    }
}

/// Bytes that a store of this size should use at most.
fn allowed_bytes(max: u64) -> u64 {
    max / 100 * FULL_PERCENT
}

/// Time this long ago; the first one of all, if there is none.
fn before(now: Timestamp, age: Duration) -> Timestamp {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}
