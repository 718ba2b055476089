//! Owners that wait for secrets, and when each of them is due again: pure bookkeeping, bounded in total and per namespace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::owner::Owner;
use injection::SecretId;

/// Limit in total of each: pending owners, enqueued owners, owners remembered as given up.
pub(super) const MAX_OWNERS: usize = 1000;

/// Limit of pending owners per namespace: ten namespaces may reach it at the same time.
pub(super) const MAX_OWNERS_PER_NAMESPACE: usize = 100;

/// Limit of enqueued owners per namespace. A rejected owner is enqueued again by its controller's next attempt.
const MAX_ENQUEUED_PER_NAMESPACE: usize = 64;

/// Time after which an owner is given up.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// Interval at which a pending owner is read again: it may be gone, or ask for something else.
pub(super) const REREAD_INTERVAL: Duration = Duration::from_mins(1);

/// Secrets of one namespace that are looked up in one round: half of the reads that are allowed until the next one. The
/// other half is for owners that are enqueued or whose secrets were created.
const MAX_LOOKUPS_PER_ROUND: usize = 50;

/// Owners of one namespace that are reconciled in one round because one of their secrets was created or changed. A secret
/// that is rewritten all the time must not keep the namespace's other secrets from being looked up.
const MAX_CHANGED_PER_ROUND: usize = 40;

/// Owners of one namespace that are reconciled in one round because they were enqueued: anybody may write events, and
/// each costs at least one read.
pub(super) const MAX_ENQUEUED_PER_ROUND: usize = 20;

/// Owners of one namespace that are read again in one round because [`REREAD_INTERVAL`] is over. Owners whose secrets
/// were created go first.
const MAX_REREADS_PER_ROUND: usize = 15;

/// A secret and its namespace.
pub(super) type SecretKey = (String, SecretId);

/// Result of looking up an awaited secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretState {
    NotFound,
    Found(ObjectVersion),
    /// The API server could not be read.
    Unknown,
}

/// Identity and version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectVersion {
    pub uid: String,
    pub resource_version: String,
}

/// Outcome of enqueuing an owner whose pod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enqueued {
    /// The owner is pending already, or was given up.
    Ignored,
    /// A limit is reached.
    Rejected,
    /// The owner is reconciled in its namespace's next round.
    Accepted,
}

/// State of one pending owner.
#[derive(Debug)]
struct PendingOwner {
    since: Instant,
    read: Instant,
    /// Missing secrets; empty if they are unknown. Only the first is looked up: while it is missing nothing can be done,
    /// and once it exists, planning finds those that are still missing.
    awaits: BTreeSet<SecretId>,
    /// One of its secrets was created or changed since it was last reconciled.
    changed: bool,
    /// Reconcile in the next round, whatever the lookups return.
    requeued: bool,
}

/// Owners and secrets of one namespace.
#[derive(Debug, Default)]
struct NamespaceQueue {
    owners: BTreeMap<Owner, PendingOwner>,
    enqueued: VecDeque<Owner>,
    /// Last known state of awaited secrets.
    states: BTreeMap<SecretId, SecretState>,
    /// Last secret of the last batch.
    last: Option<SecretId>,
    /// Notified when an owner is enqueued.
    notify: Arc<Notify>,
}

/// All pending owners and the last known states of their secrets.
#[derive(Debug, Default)]
pub(super) struct PendingOwners {
    namespaces: BTreeMap<String, NamespaceQueue>,
    /// Namespaces without a running queue.
    new_namespaces: Vec<String>,
    given_up: VecDeque<String>,
    rejected: u64,
}

impl PendingOwners {
    /// Number of pending owners.
    pub(super) fn len(&self) -> usize {
        self.namespaces
            .values()
            .map(|queue| queue.owners.len())
            .sum()
    }

    /// Enqueues an owner whose pod was refused.
    pub(super) fn enqueue(&mut self, owner: Owner) -> Enqueued {
        if self.given_up.contains(&owner.uid) {
            return Enqueued::Ignored;
        }
        let (mut waiting, mut queued) = (0, 0);
        if let Some(queue) = self.namespaces.get(&owner.namespace) {
            if queue.owners.contains_key(&owner) || queue.enqueued.contains(&owner) {
                return Enqueued::Ignored;
            }
            (waiting, queued) = (queue.owners.len(), queue.enqueued.len());
        }
        if waiting >= MAX_OWNERS_PER_NAMESPACE
            || queued >= MAX_ENQUEUED_PER_NAMESPACE
            || !self.make_room(queued, |queue| queue.enqueued.len(), drop_last)
        {
            self.rejected += 1;
            return Enqueued::Rejected;
        }
        let namespace = owner.namespace.clone();
        let queue = self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            self.new_namespaces.push(namespace);
            NamespaceQueue::default()
        });
        queue.enqueued.push_back(owner);
        queue.notify.notify_one();
        Enqueued::Accepted
    }

    /// Namespaces that have work and no running queue yet, each with its notification.
    pub(super) fn take_new_namespaces(&mut self) -> Vec<(String, Arc<Notify>)> {
        let new = std::mem::take(&mut self.new_namespaces);
        let with_notify = |namespace: String| {
            let notify = Arc::clone(&self.namespaces.get(&namespace)?.notify);
            Some((namespace, notify))
        };
        new.into_iter().filter_map(with_notify).collect()
    }

    /// Removes a namespace without pending or enqueued owners; `false` if it has any.
    pub(super) fn remove_if_idle(&mut self, namespace: &str) -> bool {
        let idle = |queue: &NamespaceQueue| queue.owners.is_empty() && queue.enqueued.is_empty();
        if self.namespaces.get(namespace).is_none_or(idle) {
            self.namespaces.remove(namespace);
            return true;
        }
        false
    }

    /// Removes all owners of a namespace.
    pub(super) fn clear_namespace(&mut self, namespace: &str) {
        if let Some(queue) = self.namespaces.get_mut(namespace) {
            queue.owners.clear();
            queue.enqueued.clear();
        }
    }

    /// Number of owners rejected since the last call.
    pub(super) fn take_rejected(&mut self) -> u64 {
        std::mem::take(&mut self.rejected)
    }

    /// Whether the owner is known to wait for secrets.
    pub(super) fn awaits_secrets(&self, owner: &Owner) -> bool {
        self.get(owner).is_some_and(|wait| !wait.awaits.is_empty())
    }

    /// Whether the owner has been pending for [`MAX_WAIT`].
    pub(super) fn has_expired(&self, owner: &Owner) -> bool {
        self.get(owner)
            .is_some_and(|wait| wait.since.elapsed() >= MAX_WAIT)
    }

    /// Secrets to look up in this round: one for each owner, each secret once. If there are more than
    /// [`MAX_LOOKUPS_PER_ROUND`], the next round continues where this one ends.
    pub(super) fn next_batch(&mut self, namespace: &str) -> Vec<SecretId> {
        let Some(queue) = self.namespaces.get_mut(namespace) else {
            return Vec::new();
        };
        let all: BTreeSet<SecretId> = queue
            .owners
            .values()
            .filter_map(|wait| wait.awaits.first().cloned())
            .collect();
        queue.states.retain(|secret, _| all.contains(secret));
        let (before, after): (Vec<SecretId>, Vec<SecretId>) = all
            .into_iter()
            .partition(|secret| queue.last.as_ref().is_some_and(|last| secret <= last));
        let turn: Vec<SecretId> = after
            .into_iter()
            .chain(before)
            .take(MAX_LOOKUPS_PER_ROUND)
            .collect();
        queue.last = turn.last().cloned();
        turn
    }

    /// Last known version of an awaited secret.
    pub(super) fn known_version(&self, (namespace, secret): &SecretKey) -> Option<&ObjectVersion> {
        match self.namespaces.get(namespace)?.states.get(secret)? {
            SecretState::Found(head) => Some(head),
            SecretState::NotFound | SecretState::Unknown => None,
        }
    }

    /// Records the results of lookups and returns the owners to reconcile now: first those with a secret that was created
    /// or changed, then those due for a reread; within each group, those read longest ago first.
    pub(super) fn apply_lookups(
        &mut self,
        namespace: &str,
        states: BTreeMap<SecretId, SecretState>,
    ) -> Vec<Owner> {
        let Some(queue) = self.namespaces.get_mut(namespace) else {
            return Vec::new();
        };
        let mut came = BTreeSet::new();
        for (secret, state) in states {
            match &state {
                // An unknown state keeps what was known before.
                SecretState::Unknown => continue,
                SecretState::Found(_) if queue.states.get(&secret) != Some(&state) => {
                    came.insert(secret.clone());
                }
                SecretState::NotFound | SecretState::Found(_) => {}
            }
            queue.states.insert(secret, state);
        }
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for (owner, wait) in &mut queue.owners {
            wait.changed |= wait
                .awaits
                .first()
                .is_some_and(|secret| came.contains(secret));
            if wait.changed {
                now.push((wait.read, owner.clone()));
            } else if wait.requeued || wait.read.elapsed() >= REREAD_INTERVAL {
                later.push((wait.read, owner.clone()));
            }
        }
        now.sort();
        later.sort();
        let due = now
            .into_iter()
            .take(MAX_CHANGED_PER_ROUND)
            .chain(later.into_iter().take(MAX_REREADS_PER_ROUND));
        due.map(|(_, owner)| owner).collect()
    }

    /// The next enqueued owner of a namespace that is not pending yet.
    pub(super) fn next_enqueued(&mut self, namespace: &str) -> Option<Owner> {
        let queue = self.namespaces.get_mut(namespace)?;
        std::iter::from_fn(|| queue.enqueued.pop_front())
            .find(|owner| !queue.owners.contains_key(owner))
    }

    /// Records the secrets that the owner waits for; `false` if they are unchanged or a limit is reached.
    pub(super) fn set_awaited(&mut self, owner: Owner, awaits: BTreeSet<SecretId>) -> bool {
        let Some(wait) = self.entry(owner) else {
            return false;
        };
        let news = wait.awaits != awaits;
        (wait.read, wait.awaits, wait.changed, wait.requeued) =
            (Instant::now(), awaits, false, false);
        news
    }

    /// Reconciles the owner again in the next round.
    pub(super) fn requeue(&mut self, owner: Owner) {
        if let Some(wait) = self.entry(owner) {
            (wait.read, wait.changed, wait.requeued) = (Instant::now(), false, true);
        }
    }

    /// Removes the owner; `false` if it was not pending.
    pub(super) fn remove(&mut self, owner: &Owner) -> bool {
        self.namespaces
            .get_mut(&owner.namespace)
            .is_some_and(|queue| queue.owners.remove(owner).is_some())
    }

    /// Removes the owner and ignores it from now on.
    pub(super) fn give_up(&mut self, owner: &Owner) {
        self.remove(owner);
        self.given_up.push_back(owner.uid.clone());
        if self.given_up.len() > MAX_OWNERS {
            self.given_up.pop_front();
        }
    }

    fn get(&self, owner: &Owner) -> Option<&PendingOwner> {
        self.namespaces.get(&owner.namespace)?.owners.get(owner)
    }

    /// The owner's state, created if absent; `None` if a limit is reached.
    fn entry(&mut self, owner: Owner) -> Option<&mut PendingOwner> {
        let waiting = self
            .namespaces
            .get(&owner.namespace)
            .map_or(0, |queue| queue.owners.len());
        let is_new = self.get(&owner).is_none();
        if is_new
            && (waiting >= MAX_OWNERS_PER_NAMESPACE
                || !self.make_room(waiting, |queue| queue.owners.len(), drop_newest))
        {
            self.rejected += 1;
            return None;
        }
        let now = Instant::now();
        let queue = self.namespaces.entry(owner.namespace.clone()).or_default();
        let new = PendingOwner {
            since: now,
            read: now,
            awaits: BTreeSet::new(),
            changed: false,
            requeued: false,
        };
        Some(queue.owners.entry(owner).or_insert(new))
    }

    /// Makes room for one more entry of a namespace that has `own` of them: if [`MAX_OWNERS`] is reached, the namespace
    /// with most entries loses one. `false` if that is the requesting namespace.
    fn make_room(
        &mut self,
        own: usize,
        count: fn(&NamespaceQueue) -> usize,
        drop: fn(&mut NamespaceQueue),
    ) -> bool {
        if self.namespaces.values().map(count).sum::<usize>() < MAX_OWNERS {
            return true;
        }
        let largest = self
            .namespaces
            .values_mut()
            .max_by_key(|queue| count(queue));
        let Some(largest) = largest.filter(|queue| count(queue) > own + 1) else {
            return false;
        };
        drop(largest);
        self.rejected += 1;
        true
    }
}

fn drop_last(queue: &mut NamespaceQueue) {
    queue.enqueued.pop_back();
}

fn drop_newest(queue: &mut NamespaceQueue) {
    let newest = queue
        .owners
        .iter()
        .max_by_key(|(_, wait)| wait.since)
        .map(|(owner, _)| owner.clone());
    if let Some(newest) = newest {
        queue.owners.remove(&newest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::OwnerKind;
    use super::*;
    use tokio::time::advance;

    fn owner_in(namespace: &str, number: usize) -> Owner {
        Owner {
            uid: format!("{namespace}-u{number}"),
            kind: OwnerKind::Job,
            namespace: namespace.to_owned(),
            name: format!("load-{number}"),
        }
    }

    fn owner(number: usize) -> Owner {
        owner_in("jobs", number)
    }

    fn secret(name: &str) -> SecretId {
        SecretId {
            source: injection::SecretSource::Kubernetes,
            name: name.parse().unwrap(),
        }
    }

    fn states(of: &[(&str, SecretState)]) -> BTreeMap<SecretId, SecretState> {
        of.iter()
            .map(|(name, state)| (secret(name), state.clone()))
            .collect()
    }

    fn awaited(names: &[&str]) -> Vec<SecretId> {
        names.iter().map(|name| secret(name)).collect()
    }

    fn version(text: &str) -> SecretState {
        SecretState::Found(ObjectVersion {
            uid: "u".to_owned(),
            resource_version: text.to_owned(),
        })
    }

    /// Takes all that have arrived.
    fn enqueued(waiting: &mut PendingOwners, namespace: &str) -> Vec<Owner> {
        std::iter::from_fn(|| waiting.next_enqueued(namespace)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_came_or_changed_is_news_once() {
        let mut waiting = PendingOwners::default();
        assert!(waiting.set_awaited(owner(1), BTreeSet::from([secret("a")])));
        assert!(
            !waiting.set_awaited(owner(1), BTreeSet::from([secret("a")])),
            "no news"
        );
        waiting.set_awaited(owner(2), BTreeSet::from([secret("b")]));
        assert_eq!(waiting.next_batch("jobs"), awaited(&["a", "b"]));
        // Whoever is due is planned for, and waits on.
        let mut look = |a, b| {
            let due = waiting.apply_lookups("jobs", states(&[("a", a), ("b", b)]));
            for owner in &due {
                let name = if owner.uid == "jobs-u1" { "a" } else { "b" };
                waiting.set_awaited(owner.clone(), BTreeSet::from([secret(name)]));
            }
            due
        };
        assert_eq!(look(SecretState::NotFound, SecretState::NotFound), []);
        assert_eq!(look(version("1"), SecretState::NotFound), [owner(1)]);
        assert_eq!(look(version("1"), SecretState::Unknown), []);
        assert_eq!(look(SecretState::Unknown, version("2")), [owner(2)]);
        assert_eq!(
            look(version("1"), version("2")),
            [],
            "what was not seen had not changed"
        );
        assert_eq!(
            look(version("3"), version("2")),
            [owner(1)],
            "another version may have the key"
        );
        assert_eq!(look(SecretState::NotFound, version("2")), []);
        assert_eq!(
            look(version("4"), version("2")),
            [owner(1)],
            "it came again"
        );
        let head = |name| {
            waiting
                .known_version(&("jobs".to_owned(), secret(name)))
                .map(|head| head.resource_version.as_str())
        };
        assert_eq!((head("a"), head("c")), (Some("4"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_secrets_one_is_looked_for() {
        let mut waiting = PendingOwners::default();
        waiting.set_awaited(
            owner(1),
            BTreeSet::from([secret("a"), secret("b"), secret("c")]),
        );
        assert_eq!(waiting.next_batch("jobs"), awaited(&["a"]));
        assert_eq!(
            waiting.apply_lookups("jobs", states(&[("a", version("1"))])),
            [owner(1)]
        );
        // Planning has shown that another one came too.
        assert!(waiting.set_awaited(owner(1), BTreeSet::from([secret("c")])));
        assert_eq!(waiting.next_batch("jobs"), awaited(&["c"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_wait_in_a_namespace_and_no_more() {
        let mut waiting = PendingOwners::default();
        for number in 0..MAX_OWNERS_PER_NAMESPACE {
            assert!(waiting.set_awaited(owner(number), BTreeSet::from([secret("a")])));
        }
        assert_eq!(
            (
                waiting.enqueue(owner(MAX_OWNERS_PER_NAMESPACE)),
                waiting.len()
            ),
            (Enqueued::Rejected, 100)
        );
        assert!(
            !waiting.set_awaited(
                owner(MAX_OWNERS_PER_NAMESPACE),
                BTreeSet::from([secret("a")])
            ),
            "nor by being planned for"
        );
        assert_eq!(waiting.take_rejected(), 2);
        assert_eq!(waiting.take_rejected(), 0);
        assert_eq!(waiting.enqueue(owner(7)), Enqueued::Ignored);
        assert_eq!(
            waiting.next_batch("jobs"),
            awaited(&["a"]),
            "one secret is looked for once, whoever awaits it"
        );
        assert!(waiting.remove(&owner(7)) && !waiting.remove(&owner(7)));
        assert_eq!(
            waiting.enqueue(owner(MAX_OWNERS_PER_NAMESPACE)),
            Enqueued::Accepted
        );
        for number in 0..2 * MAX_OWNERS {
            waiting.give_up(&owner(number));
        }
        assert_eq!((waiting.len(), waiting.given_up.len()), (0, MAX_OWNERS));
        assert_eq!(
            waiting.enqueue(owner(2 * MAX_OWNERS - 1)),
            Enqueued::Ignored
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_wait_in_all_and_the_largest_namespace_makes_room() {
        let mut waiting = PendingOwners::default();
        for number in 0..MAX_OWNERS {
            waiting.set_awaited(
                owner_in(&format!("ns-{}", number % 10), number),
                BTreeSet::from([secret("a")]),
            );
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!((waiting.len(), waiting.take_rejected()), (1000, 0));
        for number in 0..3 {
            assert_eq!(waiting.enqueue(owner(number)), Enqueued::Accepted);
            assert!(waiting.set_awaited(owner(number), BTreeSet::from([secret("a")])));
        }
        assert_eq!((waiting.len(), waiting.take_rejected()), (1000, 3));
        let sizes: BTreeSet<usize> = waiting
            .namespaces
            .values()
            .map(|queue| queue.owners.len())
            .collect();
        assert_eq!(sizes, BTreeSet::from([3, 99, 100]), "each of them gave one");
        assert!(
            waiting.get(&owner_in("ns-9", 9)).is_some(),
            "who waits longest stays"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_arrivals_fills_its_own_namespace_alone() {
        let mut waiting = PendingOwners::default();
        for number in 0..10_000 {
            let expected = if number < MAX_ENQUEUED_PER_NAMESPACE {
                Enqueued::Accepted
            } else {
                Enqueued::Rejected
            };
            assert_eq!(waiting.enqueue(owner_in("flood", number)), expected);
        }
        assert_eq!(
            waiting.enqueue(owner_in("flood", 7)),
            Enqueued::Ignored,
            "it has arrived already"
        );
        assert_eq!(waiting.take_rejected(), 10_000 - 64);
        assert_eq!(waiting.enqueue(owner(1)), Enqueued::Accepted);
        let fresh: Vec<String> = waiting
            .take_new_namespaces()
            .into_iter()
            .map(|(namespace, _)| namespace)
            .collect();
        assert_eq!(fresh, ["flood", "jobs"]);
        assert!(waiting.take_new_namespaces().is_empty(), "each once");
        assert_eq!(enqueued(&mut waiting, "jobs"), [owner(1)]);
        assert_eq!(
            enqueued(&mut waiting, "flood").len(),
            MAX_ENQUEUED_PER_NAMESPACE
        );
        assert!(waiting.remove_if_idle("flood") && waiting.remove_if_idle("jobs"));
        // However many namespaces there are, they are a thousand in all, and a new one finds room.
        for namespace in 0..100 {
            for number in 0..MAX_ENQUEUED_PER_NAMESPACE {
                waiting.enqueue(owner_in(&format!("ns-{namespace}"), number));
            }
        }
        let queued = |waiting: &PendingOwners| {
            waiting
                .namespaces
                .values()
                .map(|queue| queue.enqueued.len())
                .sum::<usize>()
        };
        assert_eq!(
            (
                queued(&waiting),
                waiting.enqueue(owner(1)),
                queued(&waiting)
            ),
            (MAX_OWNERS, Enqueued::Accepted, MAX_OWNERS)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_secrets_have_their_turns() {
        let mut waiting = PendingOwners::default();
        let names: Vec<String> = (0..MAX_OWNERS_PER_NAMESPACE)
            .map(|number| format!("s-{number:03}"))
            .collect();
        for (number, name) in names.iter().enumerate() {
            waiting.set_awaited(owner(number), BTreeSet::from([secret(name)]));
        }
        let all = awaited(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(waiting.next_batch("jobs"), all[..50]);
        assert_eq!(
            waiting.apply_lookups("jobs", BTreeMap::from([(all[0].clone(), version("1"))])),
            [owner(0)]
        );
        waiting.set_awaited(owner(0), BTreeSet::from([all[0].clone()]));
        waiting.remove(&owner(99));
        assert_eq!(
            waiting.next_batch("jobs"),
            [&all[50..99], &all[..1]].concat()
        );
        assert_eq!(waiting.next_batch("jobs"), all[1..51]);
        assert_eq!(
            waiting.next_batch("jobs"),
            [&all[51..99], &all[..2]].concat()
        );
        assert_eq!(
            waiting.apply_lookups("jobs", BTreeMap::from([(all[0].clone(), version("1"))])),
            [],
            "it is known from its turn before"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_secret_came_are_told_before_a_few_others_are_read_again() {
        let mut waiting = PendingOwners::default();
        for number in 0..90 {
            waiting.set_awaited(owner(number), BTreeSet::from([secret("a")]));
            advance(Duration::from_millis(10)).await;
        }
        waiting.set_awaited(owner(200), BTreeSet::from([secret("b")]));
        let absent = states(&[("a", SecretState::NotFound), ("b", SecretState::NotFound)]);
        assert_eq!(waiting.apply_lookups("jobs", absent.clone()), []);
        advance(REREAD_INTERVAL).await;
        let due = waiting.apply_lookups(
            "jobs",
            states(&[("a", SecretState::NotFound), ("b", version("1"))]),
        );
        let expected: Vec<Owner> = std::iter::once(owner(200))
            .chain((0..MAX_REREADS_PER_ROUND).map(owner))
            .collect();
        assert_eq!(
            due, expected,
            "first who was told to wait for it, then who was read longest ago"
        );
        for owner in due {
            waiting.set_awaited(owner, BTreeSet::from([secret("a")]));
        }
        assert_eq!(
            waiting.apply_lookups("jobs", absent),
            (MAX_REREADS_PER_ROUND..2 * MAX_REREADS_PER_ROUND)
                .map(owner)
                .collect::<Vec<_>>()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn owners_of_a_secret_that_is_rewritten_all_the_time_have_their_turns() {
        let mut waiting = PendingOwners::default();
        for number in 0..MAX_OWNERS_PER_NAMESPACE {
            waiting.set_awaited(owner(number), BTreeSet::from([secret("a")]));
        }
        let mut planned = BTreeSet::new();
        for round in 0..3 {
            advance(Duration::from_secs(2)).await;
            let due = waiting.apply_lookups("jobs", states(&[("a", version(&round.to_string()))]));
            assert_eq!(due.len(), MAX_CHANGED_PER_ROUND);
            for owner in due {
                waiting.set_awaited(owner.clone(), BTreeSet::from([secret("a")]));
                planned.insert(owner);
            }
        }
        assert_eq!(
            planned.len(),
            MAX_OWNERS_PER_NAMESPACE,
            "everybody, within three rounds"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_in_the_next_round_and_nothing_is_tried_for_ever() {
        let mut waiting = PendingOwners::default();
        waiting.requeue(owner(1));
        assert!(!waiting.awaits_secrets(&owner(1)));
        assert_eq!(waiting.apply_lookups("jobs", BTreeMap::new()), [owner(1)]);
        waiting.set_awaited(owner(1), BTreeSet::from([secret("a")]));
        assert!(waiting.awaits_secrets(&owner(1)));
        assert_eq!(
            waiting.apply_lookups("jobs", states(&[("a", version("1"))])),
            [owner(1)]
        );
        waiting.requeue(owner(1));
        let again = waiting.apply_lookups("jobs", states(&[("a", version("1"))]));
        assert_eq!(again, [owner(1)], "the secret is no news, the owner is");
        advance(MAX_WAIT).await;
        waiting.requeue(owner(1));
        assert!(waiting.has_expired(&owner(1)), "a wait begins once");
    }
}
