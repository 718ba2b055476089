//! Rounds of looking for what is awaited, each namespace by itself: whoever keeps one of them busy holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, interval, sleep_until};
use tracing::{debug, warn};

use super::Nudge;
use super::owner::Owner;
use super::waiting::{AGAIN, ARRIVALS, Arrival, OWNERS, SHARE, Sight};
use crate::api::Form;
use crate::redact::ErrorChain;

/// How often awaited secrets are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// Owners that are planned for at the same time, of one namespace each: every one of them is in memory, and may be as
/// large as an object can be.
const AT_ONCE: usize = 16;

/// The least time between two log lines about owners that were turned away.
const TELL: Duration = Duration::from_mins(1);

/// The rounds of all namespaces.
#[derive(Debug)]
pub(super) struct Rounds<'n> {
    nudge: &'n Nudge,
    /// Rings when an owner arrives.
    news: Notify,
    at_once: Semaphore,
}

/// Owners that were turned away, and when that was last logged.
#[derive(Debug, Default)]
struct TurnedAway {
    owners: u64,
    told: Option<Instant>,
}

impl<'n> Rounds<'n> {
    pub(super) fn new(nudge: &'n Nudge) -> Self {
        Self { nudge, news: Notify::new(), at_once: Semaphore::new(AT_ONCE) }
    }

    /// A refusal. Never waits: what is too much for a namespace is dropped here, and counted.
    pub(super) fn arrive(&self, owner: Owner) {
        if !self.nudge.rules.exempt.contains(&owner.namespace) {
            let arrival = self.nudge.waiting().arrive(owner);
            if arrival == Arrival::New {
                self.news.notify_one();
            }
        }
    }

    /// Looks after every namespace in which somebody waits, for as long as it is polled.
    pub(super) async fn run(&self) {
        let mut tending = FuturesUnordered::new();
        let mut ticks = interval(LOOK);
        let mut turned_away = TurnedAway::default();
        loop {
            // Nothing is awaited in here but these: what does not run cannot hold up what does.
            tokio::select! {
                () = self.news.notified() => {}
                _ = ticks.tick() => self.report(&mut turned_away),
                Some(()) = tending.next(), if !tending.is_empty() => {}
            }
            let fresh = self.nudge.waiting().fresh();
            for (namespace, bell) in fresh {
                tending.push(self.tend(namespace, bell));
            }
            self.count();
        }
    }

    fn count(&self) {
        let waiting = self.nudge.waiting().len();
        self.nudge.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts who was turned away, and logs it now and then.
    fn report(&self, turned_away: &mut TurnedAway) {
        let owners = self.nudge.waiting().turned_away();
        self.nudge.metrics.turned_away(owners);
        turned_away.owners += owners;
        if turned_away.owners > 0 && turned_away.told.is_none_or(|told| told.elapsed() >= TELL) {
            let owners = std::mem::take(&mut turned_away.owners);
            turned_away.told = Some(Instant::now());
            warn!(
                owners,
                limit = OWNERS,
                limit_per_namespace = SHARE,
                "too many owners wait for secrets; those turned away rely on their controllers' own retries"
            );
        }
    }

    /// Looks after one namespace until nobody waits there.
    async fn tend(&self, namespace: String, bell: Arc<Notify>) {
        let mut selected = None;
        loop {
            let next = Instant::now() + LOOK;
            match self.is_selected(&namespace, &mut selected).await {
                Some(true) => self.round(&namespace, &bell, next).await,
                Some(false) => self.nudge.waiting().dismiss(&namespace),
                None => {}
            }
            sleep_until(next).await;
            if self.nudge.waiting().rest(&namespace) {
                return;
            }
        }
    }

    /// One round: whose secrets came, who is to be read again, and who arrives until the next one.
    async fn round(&self, namespace: &str, bell: &Notify, next: Instant) {
        for owner in self.look(namespace).await {
            self.consider(owner).await;
        }
        let mut left = ARRIVALS;
        loop {
            while left > 0 {
                let arrived = self.nudge.waiting().arrived(namespace);
                let Some(owner) = arrived else { break };
                left -= 1;
                self.consider(owner).await;
            }
            tokio::select! {
                () = sleep_until(next) => return,
                () = bell.notified(), if left > 0 => {}
            }
        }
    }

    async fn consider(&self, owner: Owner) {
        let permit = self.at_once.acquire().await;
        self.nudge.consider(owner).await;
        drop(permit);
        self.count();
    }

    /// Looks for what is awaited in a namespace; whom to plan for now.
    async fn look(&self, namespace: &str) -> Vec<Owner> {
        let turn = self.nudge.waiting().turn(namespace);
        let mut sights = BTreeMap::new();
        for secret in turn {
            let sight = match self.nudge.head(namespace, &secret).await {
                Ok(head) => head.map_or(Sight::Absent, Sight::There),
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "an awaited secret could not be looked for");
                    Sight::Unseen
                }
            };
            sights.insert(secret, sight);
        }
        self.nudge.waiting().look(namespace, sights)
    }

    /// Whether the webhook serves the namespace, by its labels; `None` when nobody can say.
    async fn is_selected(&self, namespace: &str, known: &mut Option<(Instant, bool)>) -> Option<bool> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Labelled,
        }
        #[derive(Deserialize)]
        struct Labelled {
            #[serde(default)]
            labels: BTreeMap<String, String>,
        }
        let selector = &self.nudge.rules.selected;
        if selector.is_empty() {
            return Some(true);
        }
        if let Some((at, selected)) = *known
            && at.elapsed() < AGAIN
        {
            return Some(selected);
        }
        let body = self.nudge.reader.get(&format!("/api/v1/namespaces/{namespace}"), Form::Metadata).await.ok()?;
        let object = body.and_then(|body| serde_json::from_slice::<Object>(&body).ok());
        let selected = object.is_some_and(|object| selector.matches(&object.metadata.labels));
        *known = Some((Instant::now(), selected));
        Some(selected)
    }
}
