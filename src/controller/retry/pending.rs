//! Owners that wait for secrets, and when each of them is due again: pure bookkeeping, bounded in total and per
//! namespace.

mod namespace_queue;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use self::namespace_queue::NamespaceQueue;
use super::limits::{MAX_ENQUEUED_PER_NAMESPACE, MAX_OWNERS, MAX_OWNERS_PER_NAMESPACE};
use super::owner::Owner;
use super::secret_state::{ObjectVersion, SecretKey, SecretState};
use injection::SecretId;

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
        self.namespaces.values().map(NamespaceQueue::pending).sum()
    }

    /// Enqueues an owner whose pod was refused.
    pub(super) fn enqueue(&mut self, owner: Owner) -> Enqueued {
        if self.given_up.contains(&owner.uid) {
            return Enqueued::Ignored;
        }
        let (mut pending, mut enqueued) = (0, 0);
        if let Some(queue) = self.namespaces.get(&owner.namespace) {
            if queue.is_pending(&owner) || queue.is_enqueued(&owner) {
                return Enqueued::Ignored;
            }
            (pending, enqueued) = (queue.pending(), queue.enqueued());
        }
        if pending >= MAX_OWNERS_PER_NAMESPACE
            || enqueued >= MAX_ENQUEUED_PER_NAMESPACE
            || !self.make_room(
                enqueued,
                NamespaceQueue::enqueued,
                NamespaceQueue::drop_last_enqueued,
            )
        {
            self.rejected += 1;
            return Enqueued::Rejected;
        }
        let namespace = owner.namespace.clone();
        let queue = self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            self.new_namespaces.push(namespace);
            NamespaceQueue::default()
        });
        queue.enqueue(owner);
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
        let queue = self.namespaces.get(namespace);
        let is_idle = queue.is_none_or(NamespaceQueue::is_empty);
        if is_idle {
            self.namespaces.remove(namespace);
        }
        is_idle
    }

    /// Removes all owners of a namespace.
    pub(super) fn clear_namespace(&mut self, namespace: &str) {
        if let Some(queue) = self.namespaces.get_mut(namespace) {
            queue.clear();
        }
    }

    /// Number of owners rejected since the last call.
    pub(super) fn take_rejected(&mut self) -> u64 {
        std::mem::take(&mut self.rejected)
    }

    /// Whether the owner is known to wait for secrets.
    pub(super) fn awaits_secrets(&self, owner: &Owner) -> bool {
        self.queue_of(owner)
            .is_some_and(|queue| queue.awaits_secrets(owner))
    }

    /// Whether the owner has been pending for the longest time that is allowed.
    pub(super) fn has_expired(&self, owner: &Owner) -> bool {
        self.queue_of(owner)
            .is_some_and(|queue| queue.has_expired(owner))
    }

    /// Returns the secrets of a namespace to look up in this round.
    pub(super) fn next_batch(&mut self, namespace: &str) -> Vec<SecretId> {
        self.namespaces
            .get_mut(namespace)
            .map(NamespaceQueue::next_batch)
            .unwrap_or_default()
    }

    /// Last known version of an awaited secret.
    pub(super) fn known_version(&self, (namespace, secret): &SecretKey) -> Option<&ObjectVersion> {
        self.namespaces.get(namespace)?.known_version(secret)
    }

    /// Records the results of lookups and returns the owners of the namespace to reconcile now.
    pub(super) fn apply_lookups(
        &mut self,
        namespace: &str,
        states: BTreeMap<SecretId, SecretState>,
    ) -> Vec<Owner> {
        self.namespaces
            .get_mut(namespace)
            .map(|queue| queue.apply_lookups(states))
            .unwrap_or_default()
    }

    /// Returns the next enqueued owner of a namespace that is not pending yet.
    pub(super) fn next_enqueued(&mut self, namespace: &str) -> Option<Owner> {
        self.namespaces.get_mut(namespace)?.next_enqueued()
    }

    /// Records the secrets that the owner waits for; `false` if they are unchanged or a limit is reached.
    pub(super) fn set_awaited(&mut self, owner: Owner, awaits: BTreeSet<SecretId>) -> bool {
        self.queue_with_room(&owner)
            .is_some_and(|queue| queue.set_awaited(owner, awaits))
    }

    /// Reconciles the owner again in the next round.
    pub(super) fn requeue(&mut self, owner: Owner) {
        if let Some(queue) = self.queue_with_room(&owner) {
            queue.requeue(owner);
        }
    }

    /// Removes the owner; `false` if it was not pending.
    pub(super) fn remove(&mut self, owner: &Owner) -> bool {
        self.namespaces
            .get_mut(&owner.namespace)
            .is_some_and(|queue| queue.remove(owner))
    }

    /// Removes the owner and ignores it from now on.
    pub(super) fn give_up(&mut self, owner: &Owner) {
        self.remove(owner);
        self.given_up.push_back(owner.uid.clone());
        if self.given_up.len() > MAX_OWNERS {
            self.given_up.pop_front();
        }
    }

    fn queue_of(&self, owner: &Owner) -> Option<&NamespaceQueue> {
        self.namespaces.get(&owner.namespace)
    }

    /// Queue of the owner's namespace, created if absent; `None` if a limit does not allow the owner to become pending.
    fn queue_with_room(&mut self, owner: &Owner) -> Option<&mut NamespaceQueue> {
        let queue = self.queue_of(owner);
        let pending = queue.map_or(0, NamespaceQueue::pending);
        let is_new = queue.is_none_or(|queue| !queue.is_pending(owner));
        if is_new
            && (pending >= MAX_OWNERS_PER_NAMESPACE
                || !self.make_room(
                    pending,
                    NamespaceQueue::pending,
                    NamespaceQueue::drop_newest_pending,
                ))
        {
            self.rejected += 1;
            return None;
        }
        Some(self.namespaces.entry(owner.namespace.clone()).or_default())
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    fn awaited(names: &[&str]) -> Vec<SecretId> {
        names.iter().map(|name| secret(name)).collect()
    }

    /// Takes all enqueued owners.
    fn enqueued(pending: &mut PendingOwners, namespace: &str) -> Vec<Owner> {
        std::iter::from_fn(|| pending.next_enqueued(namespace)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn namespace_has_at_most_100_pending_owners() {
        let mut pending = PendingOwners::default();
        for number in 0..MAX_OWNERS_PER_NAMESPACE {
            assert!(pending.set_awaited(owner(number), BTreeSet::from([secret("a")])));
        }
        assert_eq!(
            (
                pending.enqueue(owner(MAX_OWNERS_PER_NAMESPACE)),
                pending.len()
            ),
            (Enqueued::Rejected, 100)
        );
        assert!(
            !pending.set_awaited(
                owner(MAX_OWNERS_PER_NAMESPACE),
                BTreeSet::from([secret("a")])
            ),
            "evaluated owners are limited, too"
        );
        assert_eq!(pending.take_rejected(), 2);
        assert_eq!(pending.take_rejected(), 0);
        assert_eq!(pending.enqueue(owner(7)), Enqueued::Ignored);
        assert_eq!(
            pending.next_batch("jobs"),
            awaited(&["a"]),
            "a secret that many owners await is looked up once"
        );
        assert!(pending.remove(&owner(7)) && !pending.remove(&owner(7)));
        assert_eq!(
            pending.enqueue(owner(MAX_OWNERS_PER_NAMESPACE)),
            Enqueued::Accepted
        );
        for number in 0..2 * MAX_OWNERS {
            pending.give_up(&owner(number));
        }
        assert_eq!((pending.len(), pending.given_up.len()), (0, MAX_OWNERS));
        assert_eq!(
            pending.enqueue(owner(2 * MAX_OWNERS - 1)),
            Enqueued::Ignored
        );
    }

    #[tokio::test(start_paused = true)]
    async fn largest_namespace_makes_room_at_1000_pending_owners() {
        let mut pending = PendingOwners::default();
        for number in 0..MAX_OWNERS {
            pending.set_awaited(
                owner_in(&format!("ns-{}", number % 10), number),
                BTreeSet::from([secret("a")]),
            );
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!((pending.len(), pending.take_rejected()), (1000, 0));
        for number in 0..3 {
            assert_eq!(pending.enqueue(owner(number)), Enqueued::Accepted);
            assert!(pending.set_awaited(owner(number), BTreeSet::from([secret("a")])));
        }
        assert_eq!((pending.len(), pending.take_rejected()), (1000, 3));
        let sizes: BTreeSet<usize> = pending
            .namespaces
            .values()
            .map(NamespaceQueue::pending)
            .collect();
        assert_eq!(
            sizes,
            BTreeSet::from([3, 99, 100]),
            "three namespaces lost one owner each"
        );
        assert!(
            pending.namespaces["ns-9"].is_pending(&owner_in("ns-9", 9)),
            "the owner that waits longest stays"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_enqueued_owners_fills_only_its_own_namespace() {
        let mut pending = PendingOwners::default();
        for number in 0..10_000 {
            let expected = if number < MAX_ENQUEUED_PER_NAMESPACE {
                Enqueued::Accepted
            } else {
                Enqueued::Rejected
            };
            assert_eq!(pending.enqueue(owner_in("flood", number)), expected);
        }
        assert_eq!(
            pending.enqueue(owner_in("flood", 7)),
            Enqueued::Ignored,
            "the owner is enqueued already"
        );
        assert_eq!(pending.take_rejected(), 10_000 - 64);
        assert_eq!(pending.enqueue(owner(1)), Enqueued::Accepted);
        let new: Vec<String> = pending
            .take_new_namespaces()
            .into_iter()
            .map(|(namespace, _)| namespace)
            .collect();
        assert_eq!(new, ["flood", "jobs"]);
        assert!(
            pending.take_new_namespaces().is_empty(),
            "each namespace is returned once"
        );
        assert_eq!(enqueued(&mut pending, "jobs"), [owner(1)]);
        assert_eq!(
            enqueued(&mut pending, "flood").len(),
            MAX_ENQUEUED_PER_NAMESPACE
        );
        assert!(pending.remove_if_idle("flood") && pending.remove_if_idle("jobs"));
        // The limit in total holds for any number of namespaces, and a new namespace finds room.
        for namespace in 0..100 {
            for number in 0..MAX_ENQUEUED_PER_NAMESPACE {
                pending.enqueue(owner_in(&format!("ns-{namespace}"), number));
            }
        }
        let total_enqueued = |pending: &PendingOwners| {
            pending
                .namespaces
                .values()
                .map(NamespaceQueue::enqueued)
                .sum::<usize>()
        };
        assert_eq!(
            (
                total_enqueued(&pending),
                pending.enqueue(owner(1)),
                total_enqueued(&pending)
            ),
            (MAX_OWNERS, Enqueued::Accepted, MAX_OWNERS)
        );
    }
}
