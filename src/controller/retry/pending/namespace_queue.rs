//! Owners and secrets of one namespace, and the owners that are due in a round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::limits::REREAD_INTERVAL;
use super::super::owner::Owner;
use super::super::secret_state::{ObjectVersion, SecretState};
use injection::SecretId;

/// Time after which an owner is given up.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// Secrets of one namespace that are looked up in one round: half of the reads that are allowed until the next one. The
/// other half is for owners that are enqueued or whose secrets were created.
const MAX_LOOKUPS_PER_ROUND: usize = 50;

/// Owners of one namespace that are reconciled in one round because one of their secrets was created or changed. A
/// secret that is rewritten all the time must not keep the namespace's other secrets from being looked up.
const MAX_CHANGED_PER_ROUND: usize = 40;

/// Owners of one namespace that are read again in one round because [`REREAD_INTERVAL`] is over. Owners whose secrets
/// were created go first.
const MAX_REREADS_PER_ROUND: usize = 15;

/// State of one pending owner.
#[derive(Debug)]
struct PendingOwner {
    since: Instant,
    read: Instant,
    /// Missing secrets; empty if they are unknown. Only the first is looked up: while it is missing nothing can be
    /// done, and once it exists, planning finds those that are still missing.
    awaits: BTreeSet<SecretId>,
    /// One of its secrets was created or changed since it was last reconciled.
    changed: bool,
    /// Reconcile in the next round, whatever the lookups return.
    requeued: bool,
}

/// Owners and secrets of one namespace.
#[derive(Debug, Default)]
pub(super) struct NamespaceQueue {
    owners: BTreeMap<Owner, PendingOwner>,
    enqueued: VecDeque<Owner>,
    /// Last known state of awaited secrets.
    states: BTreeMap<SecretId, SecretState>,
    /// Last secret of the last batch.
    last: Option<SecretId>,
    /// Notified when an owner is enqueued.
    pub notify: Arc<Notify>,
}

impl NamespaceQueue {
    /// Number of pending owners.
    pub fn pending(&self) -> usize {
        self.owners.len()
    }

    /// Number of enqueued owners.
    pub fn enqueued(&self) -> usize {
        self.enqueued.len()
    }

    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.enqueued.is_empty()
    }

    pub fn is_pending(&self, owner: &Owner) -> bool {
        self.owners.contains_key(owner)
    }

    pub fn is_enqueued(&self, owner: &Owner) -> bool {
        self.enqueued.contains(owner)
    }

    pub fn enqueue(&mut self, owner: Owner) {
        self.enqueued.push_back(owner);
        self.notify.notify_one();
    }

    /// Returns the next enqueued owner that is not pending yet.
    pub fn next_enqueued(&mut self) -> Option<Owner> {
        std::iter::from_fn(|| self.enqueued.pop_front())
            .find(|owner| !self.owners.contains_key(owner))
    }

    /// Removes all owners.
    pub fn clear(&mut self) {
        self.owners.clear();
        self.enqueued.clear();
    }

    /// Whether the owner is known to wait for secrets.
    pub fn awaits_secrets(&self, owner: &Owner) -> bool {
        self.owners
            .get(owner)
            .is_some_and(|pending| !pending.awaits.is_empty())
    }

    /// Whether the owner has been pending for [`MAX_WAIT`].
    pub fn has_expired(&self, owner: &Owner) -> bool {
        self.owners
            .get(owner)
            .is_some_and(|pending| pending.since.elapsed() >= MAX_WAIT)
    }

    /// Returns the secrets to look up in this round: one for each owner, each secret once. If there are more than
    /// [`MAX_LOOKUPS_PER_ROUND`], the next round continues where this one ends.
    pub fn next_batch(&mut self) -> Vec<SecretId> {
        let all: BTreeSet<SecretId> = self
            .owners
            .values()
            .filter_map(|pending| pending.awaits.first().cloned())
            .collect();
        self.states.retain(|secret, _| all.contains(secret));
        let (before, after): (Vec<SecretId>, Vec<SecretId>) = all
            .into_iter()
            .partition(|secret| self.last.as_ref().is_some_and(|last| secret <= last));
        let batch: Vec<SecretId> = after
            .into_iter()
            .chain(before)
            .take(MAX_LOOKUPS_PER_ROUND)
            .collect();
        self.last = batch.last().cloned();
        batch
    }

    /// Last known version of an awaited secret.
    pub fn known_version(&self, secret: &SecretId) -> Option<&ObjectVersion> {
        match self.states.get(secret)? {
            SecretState::Found(version) => Some(version),
            SecretState::NotFound | SecretState::Unknown => None,
        }
    }

    /// Records the results of lookups and returns the owners to reconcile now: first those with a secret that was
    /// created or changed, then those due for a reread; within each group, those read longest ago first.
    pub fn apply_lookups(&mut self, states: BTreeMap<SecretId, SecretState>) -> Vec<Owner> {
        let changed_secrets = self.update_states(states);
        let (mut changed, mut rereads) = (Vec::new(), Vec::new());
        for (owner, pending) in &mut self.owners {
            pending.changed |= pending
                .awaits
                .first()
                .is_some_and(|secret| changed_secrets.contains(secret));
            if pending.changed {
                changed.push((pending.read, owner.clone()));
            } else if pending.requeued || pending.read.elapsed() >= REREAD_INTERVAL {
                rereads.push((pending.read, owner.clone()));
            }
        }
        changed.sort();
        rereads.sort();
        let due = changed
            .into_iter()
            .take(MAX_CHANGED_PER_ROUND)
            .chain(rereads.into_iter().take(MAX_REREADS_PER_ROUND));
        due.map(|(_, owner)| owner).collect()
    }

    /// Records the states and returns the secrets that were created or changed.
    fn update_states(&mut self, states: BTreeMap<SecretId, SecretState>) -> BTreeSet<SecretId> {
        let mut changed = BTreeSet::new();
        for (secret, state) in states {
            match &state {
                // An unknown state keeps what was known before.
                SecretState::Unknown => continue,
                SecretState::Found(_) if self.states.get(&secret) != Some(&state) => {
                    changed.insert(secret.clone());
                }
                SecretState::NotFound | SecretState::Found(_) => {}
            }
            self.states.insert(secret, state);
        }
        changed
    }

    /// Records the secrets that the owner waits for; `false` if they are unchanged.
    pub fn set_awaited(&mut self, owner: Owner, awaits: BTreeSet<SecretId>) -> bool {
        let pending = self.entry(owner);
        let changed = pending.awaits != awaits;
        (
            pending.read,
            pending.awaits,
            pending.changed,
            pending.requeued,
        ) = (Instant::now(), awaits, false, false);
        changed
    }

    /// Reconciles the owner again in the next round.
    pub fn requeue(&mut self, owner: Owner) {
        let pending = self.entry(owner);
        (pending.read, pending.changed, pending.requeued) = (Instant::now(), false, true);
    }

    /// Removes the owner; `false` if it was not pending.
    pub fn remove(&mut self, owner: &Owner) -> bool {
        self.owners.remove(owner).is_some()
    }

    /// Drops the owner that was enqueued last.
    pub fn drop_last_enqueued(&mut self) {
        self.enqueued.pop_back();
    }

    /// Drops the owner that has been pending for the shortest time.
    pub fn drop_newest_pending(&mut self) {
        let newest = self
            .owners
            .iter()
            .max_by_key(|(_, pending)| pending.since)
            .map(|(owner, _)| owner.clone());
        if let Some(newest) = newest {
            self.owners.remove(&newest);
        }
    }

    fn entry(&mut self, owner: Owner) -> &mut PendingOwner {
        let now = Instant::now();
        self.owners.entry(owner).or_insert_with(|| PendingOwner {
            since: now,
            read: now,
            awaits: BTreeSet::new(),
            changed: false,
            requeued: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::limits::MAX_OWNERS_PER_NAMESPACE;
    use super::super::super::owner::OwnerKind;
    use super::*;
    use tokio::time::advance;

    fn owner(number: usize) -> Owner {
        Owner {
            uid: format!("jobs-u{number}"),
            kind: OwnerKind::Job,
            namespace: "jobs".to_owned(),
            name: format!("load-{number}"),
        }
    }

    fn secret(name: &str) -> SecretId {
        SecretId {
            source: injection::SecretSource::Kubernetes,
            name: name.parse().unwrap(),
        }
    }

    fn states(states: &[(&str, SecretState)]) -> BTreeMap<SecretId, SecretState> {
        states
            .iter()
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

    #[tokio::test(start_paused = true)]
    async fn created_or_changed_secret_makes_its_owners_due_once() {
        let mut queue = NamespaceQueue::default();
        assert!(queue.set_awaited(owner(1), BTreeSet::from([secret("a")])));
        assert!(
            !queue.set_awaited(owner(1), BTreeSet::from([secret("a")])),
            "the secrets are unchanged"
        );
        queue.set_awaited(owner(2), BTreeSet::from([secret("b")]));
        assert_eq!(queue.next_batch(), awaited(&["a", "b"]));
        // Each owner that is due is evaluated, and still awaits its secret.
        let mut apply = |a, b| {
            let due = queue.apply_lookups(states(&[("a", a), ("b", b)]));
            for owner in &due {
                let name = if owner.uid == "jobs-u1" { "a" } else { "b" };
                queue.set_awaited(owner.clone(), BTreeSet::from([secret(name)]));
            }
            due
        };
        assert_eq!(apply(SecretState::NotFound, SecretState::NotFound), []);
        assert_eq!(apply(version("1"), SecretState::NotFound), [owner(1)]);
        assert_eq!(apply(version("1"), SecretState::Unknown), []);
        assert_eq!(apply(SecretState::Unknown, version("2")), [owner(2)]);
        assert_eq!(
            apply(version("1"), version("2")),
            [],
            "an unknown state is not a change"
        );
        assert_eq!(
            apply(version("3"), version("2")),
            [owner(1)],
            "another version may have the awaited key"
        );
        assert_eq!(apply(SecretState::NotFound, version("2")), []);
        assert_eq!(
            apply(version("4"), version("2")),
            [owner(1)],
            "the secret was created again"
        );
        let known_version = |name| {
            queue
                .known_version(&secret(name))
                .map(|version| version.resource_version.as_str())
        };
        assert_eq!((known_version("a"), known_version("c")), (Some("4"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_awaited_secret_is_looked_up() {
        let mut queue = NamespaceQueue::default();
        queue.set_awaited(
            owner(1),
            BTreeSet::from([secret("a"), secret("b"), secret("c")]),
        );
        assert_eq!(queue.next_batch(), awaited(&["a"]));
        assert_eq!(
            queue.apply_lookups(states(&[("a", version("1"))])),
            [owner(1)]
        );
        // Planning found that "b" was created, too.
        assert!(queue.set_awaited(owner(1), BTreeSet::from([secret("c")])));
        assert_eq!(queue.next_batch(), awaited(&["c"]));
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_continue_where_the_last_batch_ended() {
        let mut queue = NamespaceQueue::default();
        let names: Vec<String> = (0..MAX_OWNERS_PER_NAMESPACE)
            .map(|number| format!("s-{number:03}"))
            .collect();
        for (number, name) in names.iter().enumerate() {
            queue.set_awaited(owner(number), BTreeSet::from([secret(name)]));
        }
        let all = awaited(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(queue.next_batch(), all[..50]);
        assert_eq!(
            queue.apply_lookups(BTreeMap::from([(all[0].clone(), version("1"))])),
            [owner(0)]
        );
        queue.set_awaited(owner(0), BTreeSet::from([all[0].clone()]));
        queue.remove(&owner(99));
        assert_eq!(queue.next_batch(), [&all[50..99], &all[..1]].concat());
        assert_eq!(queue.next_batch(), all[1..51]);
        assert_eq!(queue.next_batch(), [&all[51..99], &all[..2]].concat());
        assert_eq!(
            queue.apply_lookups(BTreeMap::from([(all[0].clone(), version("1"))])),
            [],
            "the version is known from an earlier lookup"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn owners_of_created_secrets_are_due_before_rereads() {
        let mut queue = NamespaceQueue::default();
        for number in 0..90 {
            queue.set_awaited(owner(number), BTreeSet::from([secret("a")]));
            advance(Duration::from_millis(10)).await;
        }
        queue.set_awaited(owner(200), BTreeSet::from([secret("b")]));
        let missing = states(&[("a", SecretState::NotFound), ("b", SecretState::NotFound)]);
        assert_eq!(queue.apply_lookups(missing.clone()), []);
        advance(REREAD_INTERVAL).await;
        let due = queue.apply_lookups(states(&[("a", SecretState::NotFound), ("b", version("1"))]));
        let expected: Vec<Owner> = std::iter::once(owner(200))
            .chain((0..MAX_REREADS_PER_ROUND).map(owner))
            .collect();
        assert_eq!(
            due, expected,
            "first the owner of the created secret, then those read longest ago"
        );
        for owner in due {
            queue.set_awaited(owner, BTreeSet::from([secret("a")]));
        }
        assert_eq!(
            queue.apply_lookups(missing),
            (MAX_REREADS_PER_ROUND..2 * MAX_REREADS_PER_ROUND)
                .map(owner)
                .collect::<Vec<_>>()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn owners_of_a_constantly_rewritten_secret_take_turns() {
        let mut queue = NamespaceQueue::default();
        for number in 0..MAX_OWNERS_PER_NAMESPACE {
            queue.set_awaited(owner(number), BTreeSet::from([secret("a")]));
        }
        let mut planned = BTreeSet::new();
        for round in 0..3 {
            advance(Duration::from_secs(2)).await;
            let due = queue.apply_lookups(states(&[("a", version(&round.to_string()))]));
            assert_eq!(due.len(), MAX_CHANGED_PER_ROUND);
            for owner in due {
                queue.set_awaited(owner.clone(), BTreeSet::from([secret("a")]));
                planned.insert(owner);
            }
        }
        assert_eq!(
            planned.len(),
            MAX_OWNERS_PER_NAMESPACE,
            "all owners, within three rounds"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn requeued_owner_is_due_in_the_next_round_until_it_expires() {
        let mut queue = NamespaceQueue::default();
        queue.requeue(owner(1));
        assert!(!queue.awaits_secrets(&owner(1)));
        assert_eq!(queue.apply_lookups(BTreeMap::new()), [owner(1)]);
        queue.set_awaited(owner(1), BTreeSet::from([secret("a")]));
        assert!(queue.awaits_secrets(&owner(1)));
        assert_eq!(
            queue.apply_lookups(states(&[("a", version("1"))])),
            [owner(1)]
        );
        queue.requeue(owner(1));
        let again = queue.apply_lookups(states(&[("a", version("1"))]));
        assert_eq!(
            again,
            [owner(1)],
            "the secret is unchanged, but the owner was requeued"
        );
        advance(MAX_WAIT).await;
        queue.requeue(owner(1));
        assert!(
            queue.has_expired(&owner(1)),
            "requeuing does not restart the wait"
        );
    }
}
