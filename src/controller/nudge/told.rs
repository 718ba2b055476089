//! Owners that were told, for the case that the try which follows is refused all the same: the webhook was restarting,
//! or did not answer in time. Their controllers would pause for minutes then, so they are told again, a few times.
//! Bounded, and every namespace with a share of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::owner::Owner;
use super::waiting::{OWNERS, SHARE};

/// How often an owner is told of the same secrets, the first time included.
const TIMES: u32 = 4;

/// The pause after the first time. Each one is four times as long as the one before.
const PAUSE: Duration = Duration::from_secs(5);

/// How long is remembered who was told: longer than the longest pause.
const REMEMBERED: Duration = Duration::from_mins(5);

/// Whether it is time to tell an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was not told of these secrets, or long ago.
    First,
    /// It was told a moment ago.
    Early,
    /// It was told, and refused since.
    Again,
    /// It was told as often as anyone is.
    Enough,
}

#[derive(Debug)]
struct Telling {
    uid: String,
    at: Instant,
    times: u32,
}

/// Who was told when: by namespace, those told longest ago first.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, VecDeque<Telling>>);

impl Told {
    /// For an owner that was refused a pod, or whose secrets came.
    pub(super) fn turn(&self, owner: &Owner) -> Turn {
        let all = self.0.get(&owner.namespace).into_iter().flatten();
        match all.into_iter().find(|telling| telling.uid == owner.uid) {
            Some(told) if told.at.elapsed() >= REMEMBERED => Turn::First,
            Some(told) if told.times >= TIMES => Turn::Enough,
            Some(told) if told.at.elapsed() < PAUSE * 4_u32.pow(told.times - 1) => Turn::Early,
            Some(_) => Turn::Again,
            None => Turn::First,
        }
    }

    /// It has been told now.
    pub(super) fn told(&mut self, owner: &Owner) {
        self.0.retain(|_, tellings| {
            tellings.retain(|telling| telling.at.elapsed() < REMEMBERED);
            !tellings.is_empty()
        });
        let times = self.forget(owner).unwrap_or(0) + 1;
        if self.0.values().map(VecDeque::len).sum::<usize>() >= OWNERS
            && let Some(largest) = self.0.values_mut().max_by_key(|tellings| tellings.len())
        {
            largest.pop_front();
        }
        let tellings = self.0.entry(owner.namespace.clone()).or_default();
        if tellings.len() >= SHARE {
            tellings.pop_front();
        }
        tellings.push_back(Telling { uid: owner.uid.clone(), at: Instant::now(), times });
    }

    /// It waits anew: for other secrets, or for those that went. Returns how often it had been told.
    pub(super) fn forget(&mut self, owner: &Owner) -> Option<u32> {
        let tellings = self.0.get_mut(&owner.namespace)?;
        let at = tellings.iter().position(|telling| telling.uid == owner.uid)?;
        tellings.remove(at).map(|telling| telling.times)
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::OwnerKind;
    use super::*;
    use tokio::time::advance;

    fn owner(namespace: &str, number: usize) -> Owner {
        let (uid, name) = (format!("{namespace}-{number}"), format!("load-{number}"));
        Owner { uid, kind: OwnerKind::Job, namespace: namespace.to_owned(), name }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_is_told_four_times_with_growing_pauses() {
        let (mut told, load) = (Told::default(), owner("jobs", 1));
        assert_eq!(told.turn(&load), Turn::First);
        for pause in [5, 20, 80] {
            told.told(&load);
            assert_eq!(told.turn(&load), Turn::Early);
            advance(Duration::from_millis(pause * 1000 - 1)).await;
            assert_eq!(told.turn(&load), Turn::Early);
            advance(Duration::from_millis(1)).await;
            assert_eq!(told.turn(&load), Turn::Again);
        }
        told.told(&load);
        advance(REMEMBERED.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!((told.turn(&load), told.turn(&owner("jobs", 2))), (Turn::Enough, Turn::First));
        advance(Duration::from_millis(1)).await;
        assert_eq!(told.turn(&load), Turn::First);
        told.told(&load);
        advance(PAUSE).await;
        assert_eq!(told.turn(&load), Turn::Again, "that was the first time once more");
        assert_eq!((told.forget(&load), told.forget(&load), told.turn(&load)), (Some(1), None, Turn::First));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_is_bounded_and_every_namespace_has_a_share() {
        let mut told = Told::default();
        let sizes = |told: &Told| -> Vec<usize> { told.0.values().map(VecDeque::len).collect() };
        for number in 0..3 * SHARE {
            told.told(&owner("ns-0", number));
        }
        assert_eq!(sizes(&told), [SHARE]);
        for namespace in 1..10 {
            for number in 0..SHARE {
                told.told(&owner(&format!("ns-{namespace}"), number));
            }
        }
        told.told(&owner("other", 1));
        assert_eq!(sizes(&told).iter().sum::<usize>(), OWNERS);
        assert_eq!(told.turn(&owner("other", 1)), Turn::Early, "the largest made room");
        advance(REMEMBERED).await;
        told.told(&owner("other", 2));
        assert_eq!(sizes(&told), [1], "what is forgotten takes no room");
    }
}
