//! Reconciliation in rounds, one loop per namespace: a busy namespace does not delay the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, interval, sleep_until};
use tracing::{debug, warn};

use super::limits::{
    MAX_ENQUEUED_PER_ROUND, MAX_OWNERS, MAX_OWNERS_PER_NAMESPACE, REREAD_INTERVAL,
};
use super::owner::Owner;
use super::pending::Enqueued;
use super::reconciler::RetryTrigger;
use super::secret_state::SecretState;
use crate::telemetry::error_chain::ErrorChain;

/// Interval of lookups of awaited secrets.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);

/// Owners that are reconciled at the same time, one per namespace: each is in memory, and may be as large as the API
/// server allows.
const MAX_CONCURRENT_EVALUATIONS: usize = 16;

/// Minimum interval of log lines about rejected owners.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Loops of all namespaces with pending or enqueued owners.
#[derive(Debug)]
pub(super) struct RetryQueue<'t> {
    trigger: &'t RetryTrigger,
    /// Notified when an owner is enqueued.
    enqueued: Notify,
    permits: Semaphore,
}

/// Number of rejected owners since the last log line, and its time.
#[derive(Debug, Default)]
struct RejectedOwners {
    owners: u64,
    logged: Option<Instant>,
}

impl<'t> RetryQueue<'t> {
    pub(super) fn new(trigger: &'t RetryTrigger) -> Self {
        Self {
            trigger,
            enqueued: Notify::new(),
            permits: Semaphore::new(MAX_CONCURRENT_EVALUATIONS),
        }
    }

    /// Enqueues the owner of a refused pod. Does not wait; owners over a limit are dropped and counted.
    pub(super) fn enqueue(&self, owner: Owner) {
        if !self.trigger.rules.exempt.contains(&owner.namespace) {
            let enqueued = self.trigger.pending().enqueue(owner);
            if enqueued == Enqueued::Accepted {
                self.enqueued.notify_one();
            }
        }
    }

    /// Runs a loop for every namespace with owners, until it is dropped.
    pub(super) async fn run(&self) {
        let mut loops = FuturesUnordered::new();
        let mut ticks = interval(ROUND_INTERVAL);
        let mut rejected = RejectedOwners::default();
        loop {
            // Only these are awaited here: a loop that is not polled would delay the others.
            tokio::select! {
                () = self.enqueued.notified() => {}
                _ = ticks.tick() => self.report_rejected(&mut rejected),
                Some(()) = loops.next(), if !loops.is_empty() => {}
            }
            let new = self.trigger.pending().take_new_namespaces();
            for (namespace, notify) in new {
                loops.push(self.run_namespace(namespace, notify));
            }
            self.update_gauge();
        }
    }

    fn update_gauge(&self) {
        let waiting = self.trigger.pending().len();
        self.trigger
            .metrics
            .pending_owners
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts rejected owners, and logs them at most once per [`LOG_INTERVAL`].
    fn report_rejected(&self, rejected: &mut RejectedOwners) {
        let owners = self.trigger.pending().take_rejected();
        self.trigger.metrics.owners_rejected(owners);
        rejected.owners += owners;
        if rejected.owners > 0
            && rejected
                .logged
                .is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL)
        {
            let owners = std::mem::take(&mut rejected.owners);
            rejected.logged = Some(Instant::now());
            warn!(
                owners,
                limit = MAX_OWNERS,
                limit_per_namespace = MAX_OWNERS_PER_NAMESPACE,
                "too many owners wait for secrets; rejected owners rely on their controllers' own retries"
            );
        }
    }

    /// Loop of one namespace; ends when it has no owners left.
    async fn run_namespace(&self, namespace: String, notify: Arc<Notify>) {
        let mut selected = None;
        loop {
            let next = Instant::now() + ROUND_INTERVAL;
            match self.is_selected(&namespace, &mut selected).await {
                Some(true) => self.run_round(&namespace, &notify, next).await,
                Some(false) => self.trigger.pending().clear_namespace(&namespace),
                None => {}
            }
            sleep_until(next).await;
            if self.trigger.pending().remove_if_idle(&namespace) {
                return;
            }
        }
    }

    /// One round: owners that are due after the lookups, then owners that are enqueued until the next round.
    async fn run_round(&self, namespace: &str, notify: &Notify, next: Instant) {
        for owner in self.lookup(namespace).await {
            self.reconcile(owner).await;
        }
        let mut left = MAX_ENQUEUED_PER_ROUND;
        loop {
            while left > 0 {
                let enqueued = self.trigger.pending().next_enqueued(namespace);
                let Some(owner) = enqueued else { break };
                left -= 1;
                self.reconcile(owner).await;
            }
            tokio::select! {
                () = sleep_until(next) => return,
                () = notify.notified(), if left > 0 => {}
            }
        }
    }

    async fn reconcile(&self, owner: Owner) {
        let permit = self.permits.acquire().await;
        self.trigger.reconcile(owner).await;
        drop(permit);
        self.update_gauge();
    }

    /// Looks up awaited secrets of a namespace, and returns the owners to reconcile now.
    async fn lookup(&self, namespace: &str) -> Vec<Owner> {
        let batch = self.trigger.pending().next_batch(namespace);
        let mut states = BTreeMap::new();
        for secret in batch {
            let state = match self
                .trigger
                .cluster
                .object_version(namespace, &secret)
                .await
            {
                Ok(version) => version.map_or(SecretState::NotFound, SecretState::Found),
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "cannot read an awaited secret");
                    SecretState::Unknown
                }
            };
            states.insert(secret, state);
        }
        self.trigger.pending().apply_lookups(namespace, states)
    }

    /// Whether the namespace's labels match the webhook's selector; `None` if they could not be read.
    async fn is_selected(
        &self,
        namespace: &str,
        known: &mut Option<(Instant, bool)>,
    ) -> Option<bool> {
        let selector = &self.trigger.rules.selected;
        if selector.is_empty() {
            return Some(true);
        }
        if let Some((at, selected)) = *known
            && at.elapsed() < REREAD_INTERVAL
        {
            return Some(selected);
        }
        let selected = self
            .trigger
            .cluster
            .namespace_matches(namespace, selector)
            .await
            .ok()?;
        *known = Some((Instant::now(), selected));
        Some(selected)
    }
}
