//! Who waits for which secrets, and when somebody has to look again: pure bookkeeping, all of it bounded, and every
//! namespace with a share of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::owner::Owner;
use crate::injection::SecretId;

/// The most owners that wait at the same time, in all; the most that have arrived and were not looked at yet, in all;
/// and the most that are remembered as given up.
pub(super) const OWNERS: usize = 1000;

/// The most owners that wait in one namespace: ten namespaces may be full at the same time.
pub(super) const SHARE: usize = 100;

/// The most owners of one namespace that have arrived and were not looked at yet. Whoever is turned away arrives again
/// with its controller's next try.
const ARRIVING: usize = 64;

/// How long is waited for secrets.
const HOUR: Duration = Duration::from_hours(1);

/// How often an owner that waits is read again: it may be gone, or ask for something else.
pub(super) const AGAIN: Duration = Duration::from_mins(1);

/// Secrets of one namespace that are looked for in one round: half of the reads that may be made until the next one. The
/// others are for owners that come, or whose secrets came.
const LOOKS: usize = 50;

/// Owners of one namespace that are planned for in one round because a secret of theirs came or changed. A secret that
/// is rewritten all the time must not keep the namespace's other secrets from being looked for.
const CHANGED: usize = 40;

/// Owners of one namespace that are planned for in one round because they arrived: events are written by anybody, and
/// each costs a read at least.
pub(super) const ARRIVALS: usize = 20;

/// Owners of one namespace that are read again in one round for no other reason than the time: the secrets that came
/// are told first.
const REREADS: usize = 15;

/// A secret of a namespace.
pub(super) type Awaited = (String, SecretId);

/// What a look at an awaited secret showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is not there.
    Absent,
    /// It is there.
    There(Head),
    /// Nobody can say.
    Unseen,
}

/// Which Secret, and in which version.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub uid: String,
    pub resource_version: String,
}

/// What becomes of an owner whose pod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing: it waits already, or was given up.
    Known,
    /// Nothing: too many wait.
    Full,
    /// It is planned for, in its namespace's turn.
    New,
}

/// An owner that waits.
#[derive(Debug)]
struct Wait {
    since: Instant,
    read: Instant,
    /// Empty when it could not be found out. Only the first is looked for: while it is missing nothing can be done, and
    /// when it comes the others that are still missing are found by planning.
    awaits: BTreeSet<SecretId>,
    /// A secret of it came or changed, and it was not planned for since.
    changed: bool,
    /// It is to be planned for in the next round, whatever is seen.
    again: bool,
}

/// What is known of one namespace.
#[derive(Debug, Default)]
struct Tenant {
    owners: BTreeMap<Owner, Wait>,
    arriving: VecDeque<Owner>,
    /// Only what was seen of secrets that are awaited.
    seen: BTreeMap<SecretId, Sight>,
    /// The last one that had its turn.
    last: Option<SecretId>,
    /// Rings when an owner arrives.
    bell: Arc<Notify>,
}

/// Who waits, and what was last seen of the secrets.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    tenants: BTreeMap<String, Tenant>,
    /// Namespaces that nobody looks after yet.
    fresh: Vec<String>,
    given_up: VecDeque<String>,
    turned_away: u64,
}

impl Waiting {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.tenants.values().map(|tenant| tenant.owners.len()).sum()
    }

    /// An owner's pod was refused.
    pub(super) fn arrive(&mut self, owner: Owner) -> Arrival {
        if self.given_up.contains(&owner.uid) {
            return Arrival::Known;
        }
        let (mut waiting, mut queued) = (0, 0);
        if let Some(tenant) = self.tenants.get(&owner.namespace) {
            if tenant.owners.contains_key(&owner) || tenant.arriving.contains(&owner) {
                return Arrival::Known;
            }
            (waiting, queued) = (tenant.owners.len(), tenant.arriving.len());
        }
        if waiting >= SHARE || queued >= ARRIVING || !self.make_room(queued, |tenant| tenant.arriving.len(), drop_last)
        {
            self.turned_away += 1;
            return Arrival::Full;
        }
        let namespace = owner.namespace.clone();
        let tenant = self.tenants.entry(namespace.clone()).or_insert_with(|| {
            self.fresh.push(namespace);
            Tenant::default()
        });
        tenant.arriving.push_back(owner);
        tenant.bell.notify_one();
        Arrival::New
    }

    /// Namespaces that have work and that nobody looks after yet, each with its bell.
    pub(super) fn fresh(&mut self) -> Vec<(String, Arc<Notify>)> {
        let fresh = std::mem::take(&mut self.fresh);
        let with_bell = |namespace: String| {
            let bell = Arc::clone(&self.tenants.get(&namespace)?.bell);
            Some((namespace, bell))
        };
        fresh.into_iter().filter_map(with_bell).collect()
    }

    /// Forgets a namespace in which nobody waits or arrives. `false` when somebody does.
    pub(super) fn rest(&mut self, namespace: &str) -> bool {
        let idle = |tenant: &Tenant| tenant.owners.is_empty() && tenant.arriving.is_empty();
        if self.tenants.get(namespace).is_none_or(idle) {
            self.tenants.remove(namespace);
            return true;
        }
        false
    }

    /// Forgets everybody of a namespace.
    pub(super) fn dismiss(&mut self, namespace: &str) {
        if let Some(tenant) = self.tenants.get_mut(namespace) {
            tenant.owners.clear();
            tenant.arriving.clear();
        }
    }

    /// How many owners were turned away since it was last asked, because too many wait.
    pub(super) fn turned_away(&mut self) -> u64 {
        std::mem::take(&mut self.turned_away)
    }

    /// Whether an owner has waited.
    pub(super) fn has_waited(&self, owner: &Owner) -> bool {
        self.get(owner).is_some_and(|wait| !wait.awaits.is_empty())
    }

    /// Whether an owner has waited too long.
    pub(super) fn is_too_long(&self, owner: &Owner) -> bool {
        self.get(owner).is_some_and(|wait| wait.since.elapsed() >= HOUR)
    }

    /// What has to be looked for in this round: for each owner one secret, each secret once, and those that are too many
    /// for one round by turns.
    pub(super) fn turn(&mut self, namespace: &str) -> Vec<SecretId> {
        let Some(tenant) = self.tenants.get_mut(namespace) else { return Vec::new() };
        let all: BTreeSet<SecretId> = tenant.owners.values().filter_map(|wait| wait.awaits.first().cloned()).collect();
        tenant.seen.retain(|secret, _| all.contains(secret));
        let (before, after): (Vec<SecretId>, Vec<SecretId>) =
            all.into_iter().partition(|secret| tenant.last.as_ref().is_some_and(|last| secret <= last));
        let turn: Vec<SecretId> = after.into_iter().chain(before).take(LOOKS).collect();
        tenant.last = turn.last().cloned();
        turn
    }

    /// What was last seen of a secret that is looked for.
    pub(super) fn seen(&self, (namespace, secret): &Awaited) -> Option<&Head> {
        match self.tenants.get(namespace)?.seen.get(secret)? {
            Sight::There(head) => Some(head),
            Sight::Absent | Sight::Unseen => None,
        }
    }

    /// After a look at them: whom to plan for now. First those of whose secrets one came or changed, then a few of the
    /// others; both by turns, those first that were read longest ago.
    pub(super) fn look(&mut self, namespace: &str, sights: BTreeMap<SecretId, Sight>) -> Vec<Owner> {
        let Some(tenant) = self.tenants.get_mut(namespace) else { return Vec::new() };
        let mut came = BTreeSet::new();
        for (secret, sight) in sights {
            match &sight {
                // Not seen is not gone: whatever was known stays.
                Sight::Unseen => continue,
                Sight::There(_) if tenant.seen.get(&secret) != Some(&sight) => {
                    came.insert(secret.clone());
                }
                Sight::Absent | Sight::There(_) => {}
            }
            tenant.seen.insert(secret, sight);
        }
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for (owner, wait) in &mut tenant.owners {
            wait.changed |= wait.awaits.first().is_some_and(|secret| came.contains(secret));
            if wait.changed {
                now.push((wait.read, owner.clone()));
            } else if wait.again || wait.read.elapsed() >= AGAIN {
                later.push((wait.read, owner.clone()));
            }
        }
        now.sort();
        later.sort();
        let due = now.into_iter().take(CHANGED).chain(later.into_iter().take(REREADS));
        due.map(|(_, owner)| owner).collect()
    }

    /// The next owner that arrived in a namespace, and does not wait yet.
    pub(super) fn arrived(&mut self, namespace: &str) -> Option<Owner> {
        let tenant = self.tenants.get_mut(namespace)?;
        std::iter::from_fn(|| tenant.arriving.pop_front()).find(|owner| !tenant.owners.contains_key(owner))
    }

    /// The owner awaits these. `false` when that is no news, or when too many wait.
    pub(super) fn wait(&mut self, owner: Owner, awaits: BTreeSet<SecretId>) -> bool {
        let Some(wait) = self.entry(owner) else { return false };
        let news = wait.awaits != awaits;
        (wait.read, wait.awaits, wait.changed, wait.again) = (Instant::now(), awaits, false, false);
        news
    }

    /// Nobody can say what the owner awaits, or it could not be told: in the next round.
    pub(super) fn postpone(&mut self, owner: Owner) {
        if let Some(wait) = self.entry(owner) {
            (wait.read, wait.changed, wait.again) = (Instant::now(), false, true);
        }
    }

    /// The owner waits no longer. `false` when it did not.
    pub(super) fn forget(&mut self, owner: &Owner) -> bool {
        self.tenants.get_mut(&owner.namespace).is_some_and(|tenant| tenant.owners.remove(owner).is_some())
    }

    /// The owner is no longer waited for, and not again.
    pub(super) fn give_up(&mut self, owner: &Owner) {
        self.forget(owner);
        self.given_up.push_back(owner.uid.clone());
        if self.given_up.len() > OWNERS {
            self.given_up.pop_front();
        }
    }

    fn get(&self, owner: &Owner) -> Option<&Wait> {
        self.tenants.get(&owner.namespace)?.owners.get(owner)
    }

    /// The owner's wait, begun now if it has none; `None` when too many wait.
    fn entry(&mut self, owner: Owner) -> Option<&mut Wait> {
        let waiting = self.tenants.get(&owner.namespace).map_or(0, |tenant| tenant.owners.len());
        let is_new = self.get(&owner).is_none();
        if is_new && (waiting >= SHARE || !self.make_room(waiting, |tenant| tenant.owners.len(), drop_newest)) {
            self.turned_away += 1;
            return None;
        }
        let now = Instant::now();
        let tenant = self.tenants.entry(owner.namespace.clone()).or_default();
        let new = Wait { since: now, read: now, awaits: BTreeSet::new(), changed: false, again: false };
        Some(tenant.owners.entry(owner).or_insert(new))
    }

    /// Makes room for one more of a namespace that has `own` of something already: when there are as many as may be in
    /// all, one of the namespace that has most of them goes. `false` when that is the one that asks.
    fn make_room(&mut self, own: usize, count: fn(&Tenant) -> usize, drop: fn(&mut Tenant)) -> bool {
        if self.tenants.values().map(count).sum::<usize>() < OWNERS {
            return true;
        }
        let largest = self.tenants.values_mut().max_by_key(|tenant| count(tenant));
        let Some(largest) = largest.filter(|tenant| count(tenant) > own + 1) else { return false };
        drop(largest);
        self.turned_away += 1;
        true
    }
}

fn drop_last(tenant: &mut Tenant) {
    tenant.arriving.pop_back();
}

fn drop_newest(tenant: &mut Tenant) {
    let newest = tenant.owners.iter().max_by_key(|(_, wait)| wait.since).map(|(owner, _)| owner.clone());
    if let Some(newest) = newest {
        tenant.owners.remove(&newest);
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
        SecretId { source: crate::injection::SecretSource::Kubernetes, name: name.parse().unwrap() }
    }

    fn sights(of: &[(&str, Sight)]) -> BTreeMap<SecretId, Sight> {
        of.iter().map(|(name, sight)| (secret(name), sight.clone())).collect()
    }

    fn awaited(names: &[&str]) -> Vec<SecretId> {
        names.iter().map(|name| secret(name)).collect()
    }

    fn version(text: &str) -> Sight {
        Sight::There(Head { uid: "u".to_owned(), resource_version: text.to_owned() })
    }

    /// Takes all that have arrived.
    fn arrived(waiting: &mut Waiting, namespace: &str) -> Vec<Owner> {
        std::iter::from_fn(|| waiting.arrived(namespace)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_came_or_changed_is_news_once() {
        let mut waiting = Waiting::default();
        assert!(waiting.wait(owner(1), BTreeSet::from([secret("a")])));
        assert!(!waiting.wait(owner(1), BTreeSet::from([secret("a")])), "no news");
        waiting.wait(owner(2), BTreeSet::from([secret("b")]));
        assert_eq!(waiting.turn("jobs"), awaited(&["a", "b"]));
        // Whoever is due is planned for, and waits on.
        let mut look = |a, b| {
            let due = waiting.look("jobs", sights(&[("a", a), ("b", b)]));
            for owner in &due {
                let name = if owner.uid == "jobs-u1" { "a" } else { "b" };
                waiting.wait(owner.clone(), BTreeSet::from([secret(name)]));
            }
            due
        };
        assert_eq!(look(Sight::Absent, Sight::Absent), []);
        assert_eq!(look(version("1"), Sight::Absent), [owner(1)]);
        assert_eq!(look(version("1"), Sight::Unseen), []);
        assert_eq!(look(Sight::Unseen, version("2")), [owner(2)]);
        assert_eq!(look(version("1"), version("2")), [], "what was not seen had not changed");
        assert_eq!(look(version("3"), version("2")), [owner(1)], "another version may have the key");
        assert_eq!(look(Sight::Absent, version("2")), []);
        assert_eq!(look(version("4"), version("2")), [owner(1)], "it came again");
        let head = |name| waiting.seen(&("jobs".to_owned(), secret(name))).map(|head| head.resource_version.as_str());
        assert_eq!((head("a"), head("c")), (Some("4"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_secrets_one_is_looked_for() {
        let mut waiting = Waiting::default();
        waiting.wait(owner(1), BTreeSet::from([secret("a"), secret("b"), secret("c")]));
        assert_eq!(waiting.turn("jobs"), awaited(&["a"]));
        assert_eq!(waiting.look("jobs", sights(&[("a", version("1"))])), [owner(1)]);
        // Planning has shown that another one came too.
        assert!(waiting.wait(owner(1), BTreeSet::from([secret("c")])));
        assert_eq!(waiting.turn("jobs"), awaited(&["c"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_wait_in_a_namespace_and_no_more() {
        let mut waiting = Waiting::default();
        for number in 0..SHARE {
            assert!(waiting.wait(owner(number), BTreeSet::from([secret("a")])));
        }
        assert_eq!((waiting.arrive(owner(SHARE)), waiting.len()), (Arrival::Full, 100));
        assert!(!waiting.wait(owner(SHARE), BTreeSet::from([secret("a")])), "nor by being planned for");
        assert_eq!(waiting.turned_away(), 2);
        assert_eq!(waiting.turned_away(), 0);
        assert_eq!(waiting.arrive(owner(7)), Arrival::Known);
        assert_eq!(waiting.turn("jobs"), awaited(&["a"]), "one secret is looked for once, whoever awaits it");
        assert!(waiting.forget(&owner(7)) && !waiting.forget(&owner(7)));
        assert_eq!(waiting.arrive(owner(SHARE)), Arrival::New);
        for number in 0..2 * OWNERS {
            waiting.give_up(&owner(number));
        }
        assert_eq!((waiting.len(), waiting.given_up.len()), (0, OWNERS));
        assert_eq!(waiting.arrive(owner(2 * OWNERS - 1)), Arrival::Known);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_wait_in_all_and_the_largest_namespace_makes_room() {
        let mut waiting = Waiting::default();
        for number in 0..OWNERS {
            waiting.wait(owner_in(&format!("ns-{}", number % 10), number), BTreeSet::from([secret("a")]));
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!((waiting.len(), waiting.turned_away()), (1000, 0));
        for number in 0..3 {
            assert_eq!(waiting.arrive(owner(number)), Arrival::New);
            assert!(waiting.wait(owner(number), BTreeSet::from([secret("a")])));
        }
        assert_eq!((waiting.len(), waiting.turned_away()), (1000, 3));
        let sizes: BTreeSet<usize> = waiting.tenants.values().map(|tenant| tenant.owners.len()).collect();
        assert_eq!(sizes, BTreeSet::from([3, 99, 100]), "each of them gave one");
        assert!(waiting.get(&owner_in("ns-9", 9)).is_some(), "who waits longest stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_arrivals_fills_its_own_namespace_alone() {
        let mut waiting = Waiting::default();
        for number in 0..10_000 {
            let expected = if number < ARRIVING { Arrival::New } else { Arrival::Full };
            assert_eq!(waiting.arrive(owner_in("flood", number)), expected);
        }
        assert_eq!(waiting.arrive(owner_in("flood", 7)), Arrival::Known, "it has arrived already");
        assert_eq!(waiting.turned_away(), 10_000 - 64);
        assert_eq!(waiting.arrive(owner(1)), Arrival::New);
        let fresh: Vec<String> = waiting.fresh().into_iter().map(|(namespace, _)| namespace).collect();
        assert_eq!(fresh, ["flood", "jobs"]);
        assert!(waiting.fresh().is_empty(), "each once");
        assert_eq!(arrived(&mut waiting, "jobs"), [owner(1)]);
        assert_eq!(arrived(&mut waiting, "flood").len(), ARRIVING);
        assert!(waiting.rest("flood") && waiting.rest("jobs"));
        // However many namespaces there are, they are a thousand in all, and a new one finds room.
        for namespace in 0..100 {
            for number in 0..ARRIVING {
                waiting.arrive(owner_in(&format!("ns-{namespace}"), number));
            }
        }
        let queued = |waiting: &Waiting| waiting.tenants.values().map(|tenant| tenant.arriving.len()).sum::<usize>();
        assert_eq!((queued(&waiting), waiting.arrive(owner(1)), queued(&waiting)), (OWNERS, Arrival::New, OWNERS));
    }

    #[tokio::test(start_paused = true)]
    async fn many_secrets_have_their_turns() {
        let mut waiting = Waiting::default();
        let names: Vec<String> = (0..SHARE).map(|number| format!("s-{number:03}")).collect();
        for (number, name) in names.iter().enumerate() {
            waiting.wait(owner(number), BTreeSet::from([secret(name)]));
        }
        let all = awaited(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(waiting.turn("jobs"), all[..50]);
        assert_eq!(waiting.look("jobs", BTreeMap::from([(all[0].clone(), version("1"))])), [owner(0)]);
        waiting.wait(owner(0), BTreeSet::from([all[0].clone()]));
        waiting.forget(&owner(99));
        assert_eq!(waiting.turn("jobs"), [&all[50..99], &all[..1]].concat());
        assert_eq!(waiting.turn("jobs"), all[1..51]);
        assert_eq!(waiting.turn("jobs"), [&all[51..99], &all[..2]].concat());
        assert_eq!(
            waiting.look("jobs", BTreeMap::from([(all[0].clone(), version("1"))])),
            [],
            "it is known from its turn before"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_secret_came_are_told_before_a_few_others_are_read_again() {
        let mut waiting = Waiting::default();
        for number in 0..90 {
            waiting.wait(owner(number), BTreeSet::from([secret("a")]));
            advance(Duration::from_millis(10)).await;
        }
        waiting.wait(owner(200), BTreeSet::from([secret("b")]));
        let absent = sights(&[("a", Sight::Absent), ("b", Sight::Absent)]);
        assert_eq!(waiting.look("jobs", absent.clone()), []);
        advance(AGAIN).await;
        let due = waiting.look("jobs", sights(&[("a", Sight::Absent), ("b", version("1"))]));
        let expected: Vec<Owner> = std::iter::once(owner(200)).chain((0..REREADS).map(owner)).collect();
        assert_eq!(due, expected, "first who was told to wait for it, then who was read longest ago");
        for owner in due {
            waiting.wait(owner, BTreeSet::from([secret("a")]));
        }
        assert_eq!(waiting.look("jobs", absent), (REREADS..2 * REREADS).map(owner).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn owners_of_a_secret_that_is_rewritten_all_the_time_have_their_turns() {
        let mut waiting = Waiting::default();
        for number in 0..SHARE {
            waiting.wait(owner(number), BTreeSet::from([secret("a")]));
        }
        let mut planned = BTreeSet::new();
        for round in 0..3 {
            advance(Duration::from_secs(2)).await;
            let due = waiting.look("jobs", sights(&[("a", version(&round.to_string()))]));
            assert_eq!(due.len(), CHANGED);
            for owner in due {
                waiting.wait(owner.clone(), BTreeSet::from([secret("a")]));
                planned.insert(owner);
            }
        }
        assert_eq!(planned.len(), SHARE, "everybody, within three rounds");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_in_the_next_round_and_nothing_is_tried_for_ever() {
        let mut waiting = Waiting::default();
        waiting.postpone(owner(1));
        assert!(!waiting.has_waited(&owner(1)));
        assert_eq!(waiting.look("jobs", BTreeMap::new()), [owner(1)]);
        waiting.wait(owner(1), BTreeSet::from([secret("a")]));
        assert!(waiting.has_waited(&owner(1)));
        assert_eq!(waiting.look("jobs", sights(&[("a", version("1"))])), [owner(1)]);
        waiting.postpone(owner(1));
        let again = waiting.look("jobs", sights(&[("a", version("1"))]));
        assert_eq!(again, [owner(1)], "the secret is no news, the owner is");
        advance(HOUR).await;
        waiting.postpone(owner(1));
        assert!(waiting.is_too_long(&owner(1)), "a wait begins once");
    }
}
