//! Who waits for which secrets, and when somebody has to look again: pure bookkeeping, all of it bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::owner::Owner;
use crate::injection::SecretId;

/// The most owners that wait at the same time, and the most that are remembered as given up.
pub(super) const OWNERS: usize = 1000;

/// How long is waited for secrets.
const HOUR: Duration = Duration::from_hours(1);

/// How often an owner that waits is read again: it may be gone, or ask for something else.
const AGAIN: Duration = Duration::from_mins(1);

/// Secrets that are looked for in one round: half of the reads that may be made until the next one. The others are for
/// owners that come, or whose secrets came.
const LOOKS: usize = 50;

/// Owners that are read again in one round for no other reason than the time: the secrets that came are told first.
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

/// What to do about an owner whose pod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing: it waits already, or was given up.
    Known,
    /// Nothing: too many wait.
    Full,
    /// Plan for it.
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
    /// It is to be planned for in the next round, whatever is seen.
    again: bool,
}

impl Wait {
    fn awaited(&self, owner: &Owner) -> Option<Awaited> {
        self.awaits.first().map(|secret| (owner.namespace.clone(), secret.clone()))
    }
}

/// Who waits, and what was last seen of the secrets.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    owners: BTreeMap<Owner, Wait>,
    /// Only what was seen of secrets that are awaited.
    seen: BTreeMap<Awaited, Sight>,
    /// The last one that had its turn.
    last: Option<Awaited>,
    given_up: VecDeque<String>,
}

impl Waiting {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// An owner's pod was refused.
    pub(super) fn arrival(&self, owner: &Owner) -> Arrival {
        if self.owners.contains_key(owner) || self.given_up.contains(&owner.uid) {
            Arrival::Known
        } else if self.owners.len() >= OWNERS {
            Arrival::Full
        } else {
            Arrival::New
        }
    }

    /// Whether an owner has waited.
    pub(super) fn has_waited(&self, owner: &Owner) -> bool {
        self.owners.get(owner).is_some_and(|wait| !wait.awaits.is_empty())
    }

    /// Whether an owner has waited too long.
    pub(super) fn is_too_long(&self, owner: &Owner) -> bool {
        self.owners.get(owner).is_some_and(|wait| wait.since.elapsed() >= HOUR)
    }

    /// What has to be looked for in this round: for each owner one secret, each secret once, and those that are too many
    /// for one round by turns.
    pub(super) fn turn(&mut self) -> Vec<Awaited> {
        let all: BTreeSet<Awaited> = self.owners.iter().filter_map(|(owner, wait)| wait.awaited(owner)).collect();
        self.seen.retain(|secret, _| all.contains(secret));
        let (before, after): (Vec<Awaited>, Vec<Awaited>) =
            all.into_iter().partition(|secret| self.last.as_ref().is_some_and(|last| secret <= last));
        let turn: Vec<Awaited> = after.into_iter().chain(before).take(LOOKS).collect();
        self.last = turn.last().cloned();
        turn
    }

    /// What was last seen of a secret that is looked for.
    pub(super) fn seen(&self, secret: &Awaited) -> Option<&Head> {
        match self.seen.get(secret)? {
            Sight::There(head) => Some(head),
            Sight::Absent | Sight::Unseen => None,
        }
    }

    /// After a look at them: whom to plan for now. First those of whose secrets one came or changed, then a few
    /// of the others, those that were read longest ago.
    pub(super) fn look(&mut self, sights: BTreeMap<Awaited, Sight>) -> Vec<Owner> {
        let mut came = BTreeSet::new();
        for (secret, sight) in sights {
            match &sight {
                // Not seen is not gone: whatever was known stays.
                Sight::Unseen => continue,
                Sight::There(_) if self.seen.get(&secret) != Some(&sight) => {
                    came.insert(secret.clone());
                }
                Sight::Absent | Sight::There(_) => {}
            }
            self.seen.insert(secret, sight);
        }
        let mut now = Vec::new();
        let mut later = Vec::new();
        for (owner, wait) in &self.owners {
            if wait.awaited(owner).is_some_and(|secret| came.contains(&secret)) {
                now.push(owner.clone());
            } else if wait.again || wait.read.elapsed() >= AGAIN {
                later.push((wait.read, owner.clone()));
            }
        }
        later.sort();
        now.extend(later.into_iter().take(REREADS).map(|(_, owner)| owner));
        now
    }

    /// The owner awaits these. `false` when that is no news.
    pub(super) fn wait(&mut self, owner: Owner, awaits: BTreeSet<SecretId>) -> bool {
        let before = self.owners.get(&owner);
        let news = before.is_none_or(|wait| wait.awaits != awaits);
        let now = Instant::now();
        let since = before.map_or(now, |wait| wait.since);
        self.owners.insert(owner, Wait { since, read: now, awaits, again: false });
        news
    }

    /// Nobody can say what the owner awaits, or it could not be told: in the next round.
    pub(super) fn postpone(&mut self, owner: Owner) {
        let now = Instant::now();
        let wait = self.owners.entry(owner);
        let wait = wait.or_insert(Wait { since: now, read: now, awaits: BTreeSet::new(), again: false });
        (wait.read, wait.again) = (now, true);
    }

    /// The owner waits no longer. `false` when it did not.
    pub(super) fn forget(&mut self, owner: &Owner) -> bool {
        self.owners.remove(owner).is_some()
    }

    /// The owner is no longer waited for, and not again.
    pub(super) fn give_up(&mut self, owner: &Owner) {
        self.owners.remove(owner);
        self.given_up.push_back(owner.uid.clone());
        if self.given_up.len() > OWNERS {
            self.given_up.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::OwnerKind;
    use super::*;
    use tokio::time::advance;

    fn owner(number: usize) -> Owner {
        Owner {
            uid: format!("u{number}"),
            kind: OwnerKind::Job,
            namespace: "jobs".to_owned(),
            name: format!("load-{number}"),
        }
    }

    fn secret(name: &str) -> SecretId {
        SecretId { source: crate::injection::SecretSource::Kubernetes, name: name.parse().unwrap() }
    }

    fn sights(of: &[(&str, Sight)]) -> BTreeMap<Awaited, Sight> {
        of.iter().map(|(name, sight)| (("jobs".to_owned(), secret(name)), sight.clone())).collect()
    }

    fn awaited(names: &[&str]) -> Vec<Awaited> {
        names.iter().map(|name| ("jobs".to_owned(), secret(name))).collect()
    }

    fn version(text: &str) -> Sight {
        Sight::There(Head { uid: "u".to_owned(), resource_version: text.to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_came_or_changed_is_news_once() {
        let mut waiting = Waiting::default();
        assert!(waiting.wait(owner(1), BTreeSet::from([secret("a")])));
        assert!(!waiting.wait(owner(1), BTreeSet::from([secret("a")])), "no news");
        waiting.wait(owner(2), BTreeSet::from([secret("b")]));
        assert_eq!(waiting.turn(), awaited(&["a", "b"]));
        let mut look = |a, b| waiting.look(sights(&[("a", a), ("b", b)]));
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
        assert_eq!(waiting.turn(), awaited(&["a"]));
        assert_eq!(waiting.look(sights(&[("a", version("1"))])), [owner(1)]);
        // Planning has shown that another one came too.
        assert!(waiting.wait(owner(1), BTreeSet::from([secret("c")])));
        assert_eq!(waiting.turn(), awaited(&["c"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_wait_and_no_more() {
        let mut waiting = Waiting::default();
        for number in 0..OWNERS {
            assert_eq!(waiting.arrival(&owner(number)), Arrival::New);
            waiting.wait(owner(number), BTreeSet::from([secret("a")]));
        }
        assert_eq!((waiting.arrival(&owner(OWNERS)), waiting.len()), (Arrival::Full, 1000));
        assert_eq!(waiting.arrival(&owner(7)), Arrival::Known);
        assert_eq!(waiting.turn(), awaited(&["a"]), "one secret is looked for once, whoever awaits it");
        assert!(waiting.forget(&owner(7)) && !waiting.forget(&owner(7)));
        assert_eq!(waiting.arrival(&owner(OWNERS)), Arrival::New);
        for number in 0..2 * OWNERS {
            waiting.give_up(&owner(number));
        }
        assert_eq!((waiting.len(), waiting.given_up.len()), (0, OWNERS));
        assert_eq!(waiting.arrival(&owner(2 * OWNERS - 1)), Arrival::Known);
    }

    #[tokio::test(start_paused = true)]
    async fn many_secrets_have_their_turns() {
        let mut waiting = Waiting::default();
        let names: Vec<String> = (0..120).map(|number| format!("s-{number:03}")).collect();
        for (number, name) in names.iter().enumerate() {
            waiting.wait(owner(number), BTreeSet::from([secret(name)]));
        }
        let all = awaited(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(waiting.turn(), all[..50]);
        assert_eq!(waiting.look(BTreeMap::from([(all[0].clone(), version("1"))])), [owner(0)]);
        assert_eq!(waiting.turn(), all[50..100]);
        assert_eq!(waiting.turn(), [&all[100..], &all[..30]].concat());
        assert_eq!(
            waiting.look(BTreeMap::from([(all[0].clone(), version("1"))])),
            [],
            "it is known from its turn before"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_secret_came_are_told_before_a_few_others_are_read_again() {
        let mut waiting = Waiting::default();
        for number in 0..100 {
            waiting.wait(owner(number), BTreeSet::from([secret("a")]));
            advance(Duration::from_millis(10)).await;
        }
        waiting.wait(owner(200), BTreeSet::from([secret("b")]));
        let absent = sights(&[("a", Sight::Absent), ("b", Sight::Absent)]);
        assert_eq!(waiting.look(absent.clone()), []);
        advance(AGAIN).await;
        let due = waiting.look(sights(&[("a", Sight::Absent), ("b", version("1"))]));
        let expected: Vec<Owner> = std::iter::once(owner(200)).chain((0..REREADS).map(owner)).collect();
        assert_eq!(due, expected, "first who was told to wait for it, then who was read longest ago");
        for owner in due {
            waiting.wait(owner, BTreeSet::from([secret("a")]));
        }
        assert_eq!(waiting.look(absent), (REREADS..2 * REREADS).map(owner).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_in_the_next_round_and_nothing_is_tried_for_ever() {
        let mut waiting = Waiting::default();
        waiting.postpone(owner(1));
        assert!(!waiting.has_waited(&owner(1)));
        assert_eq!(waiting.look(BTreeMap::new()), [owner(1)]);
        waiting.wait(owner(1), BTreeSet::from([secret("a")]));
        assert!(waiting.has_waited(&owner(1)));
        assert_eq!(waiting.look(sights(&[("a", version("1"))])), [owner(1)]);
        waiting.postpone(owner(1));
        assert_eq!(waiting.look(sights(&[("a", version("1"))])), [owner(1)], "the secret is no news, the owner is");
        advance(HOUR).await;
        waiting.postpone(owner(1));
        assert!(waiting.is_too_long(&owner(1)), "a wait begins once");
    }
}
