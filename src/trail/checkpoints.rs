//! Checkpoints: signed records with the last lines of all chains that have moved since the one before.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::UpkeepMetrics;
use super::own::{MAX_RECORDS, OwnTrail, OwnTrailError};
use super::retry::RetryState;
use super::signer::Signer;
use crate::audit::emitter::MAX_TIPS;
use crate::audit::link::Tip;
use crate::audit::signature::SigningKey;
use crate::store::{AuditStore, LinePosition, StoreError};

/// Interval of checkpoints, if lines were stored.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_mins(1);

/// Lines after which a checkpoint comes before its time.
pub const CHECKPOINT_LINES: u64 = 1_000;

/// Time limit of the last checkpoint.
pub const LAST_TIMEOUT: Duration = Duration::from_secs(6);

/// Reason why there is no checkpoint.
#[derive(Debug, Error)]
pub(super) enum CheckpointError {
    /// The signer has reported it.
    #[error("there is no key")]
    NoKey,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] OwnTrailError),
}

/// Writer of checkpoints.
#[derive(Debug)]
pub struct Checkpoints {
    store: Arc<dyn AuditStore>,
    trail: OwnTrail,
    signer: Arc<Signer>,
    time: Gauge,
    interval: Duration,
    /// Position up to which lines are confirmed; absent before the first checkpoint of this process.
    position: Option<LinePosition>,
    /// Number of the last checkpoint in the own chain, so that it is not a reason for the next one.
    own: u64,
    retries: RetryState,
    /// Whether the last failure is in the log.
    is_reported: bool,
}

impl Checkpoints {
    pub(super) fn new(
        store: &Arc<dyn AuditStore>,
        trail: &OwnTrail,
        signer: &Arc<Signer>,
        metrics: &UpkeepMetrics,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            trail: trail.clone(),
            signer: Arc::clone(signer),
            time: metrics.checkpoint_time.clone(),
            interval: CHECKPOINT_INTERVAL,
            position: None,
            own: 0,
            retries: RetryState::default(),
            is_reported: false,
        }
    }

    /// Sets the interval.
    #[cfg(test)]
    pub(super) fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Writes checkpoints until `stop`, and a last one then.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        if !self.signer.is_configured() {
            tracing::warn!("no checkpoints are signed: no Secret for their key is configured");
            return;
        }
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.write_and_wait() => {}
            }
        }
        match timeout(LAST_TIMEOUT, self.write()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last checkpoint is not written"),
            Err(_) => tracing::warn!(
                error = "the store or the API server did not respond in time",
                "the last checkpoint is not written"
            ),
        }
    }

    async fn write_and_wait(&mut self) {
        match self.write().await {
            Ok(()) => {
                self.retries.succeed();
                if std::mem::take(&mut self.is_reported) {
                    tracing::info!("checkpoints are written again");
                }
            }
            Err(error) => {
                self.retries.fail();
                let is_known = matches!(error, CheckpointError::NoKey);
                if !is_known && !std::mem::replace(&mut self.is_reported, true) {
                    tracing::warn!(%error, "a checkpoint cannot be written; retrying");
                }
            }
        }
        let Some(pause) = self.retries.pause() else {
            let due = self.position.unwrap_or_default().0 + CHECKPOINT_LINES;
            let mut committed = self.store.committed();
            tokio::select! {
                () = sleep(self.interval) => {}
                Ok(_) = committed.wait_for(|position| position.0 >= due) => {}
            }
            return;
        };
        sleep(pause).await;
    }

    /// Writes checkpoints of all lines that are stored now.
    pub(super) async fn write(&mut self) -> Result<(), CheckpointError> {
        let key = self.signer.key().await.ok_or(CheckpointError::NoKey)?;
        let last = *self.store.committed().borrow();
        let mut position = if let Some(position) = self.position {
            position
        } else {
            self.begin(&key).await?;
            last
        };
        self.position = Some(position);
        while position < last {
            let moved = self.store.moved(position).await?;
            self.sign(moved.tips, &key).await?;
            position = moved.position;
            self.position = Some(position);
        }
        self.time.set(self.trail.clock().now().as_second());
        Ok(())
    }

    /// Confirms chains whose last line no checkpoint of an earlier process confirms.
    async fn begin(&mut self, key: &SigningKey) -> Result<(), CheckpointError> {
        let chains = self.store.chains().await?.into_iter();
        let moved = chains.filter(|chain| chain.lines > 0 && chain.confirmed < chain.tip.seq);
        self.sign(moved.map(|chain| chain.tip).collect(), key).await
    }

    /// Writes checkpoints of these lines, and of the last one of the own chain. Checkpoints alone need none.
    async fn sign(&mut self, mut tips: Vec<Tip>, key: &SigningKey) -> Result<(), CheckpointError> {
        let id = self.trail.chain_id();
        tips.retain(|tip| tip.chain != *id || tip.seq > self.own);
        if tips.is_empty() {
            return Ok(());
        }
        let own = self.trail.tip().await;
        if own.seq > 0 && tips.iter().all(|tip| tip.chain != own.chain) {
            tips.push(own);
        }
        for tips in tips.chunks(MAX_TIPS * MAX_RECORDS) {
            let records = tips.chunks(MAX_TIPS);
            let records = records.flat_map(|tips| self.trail.emitter().checkpoints(tips));
            self.own = self.trail.append_signed(records.collect(), key).await?;
        }
        Ok(())
    }
}
