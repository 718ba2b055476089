//! Owners whose retry was triggered, for the case that the retry is refused, too: the webhook was restarting, or did
//! not respond in time. Their controllers would back off for minutes, so the retry is triggered again, a few times.
//! Bounded in total and per namespace.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::{MAX_OWNERS, MAX_OWNERS_PER_NAMESPACE};
use super::owner::Owner;

/// Triggers for the same secrets of one owner, including the first.
const MAX_TRIGGERS: u32 = 4;

/// Interval after the first trigger. Each interval is four times as long as the one before.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);

/// Retention of a record: longer than the longest interval.
const RETENTION: Duration = Duration::from_mins(5);

/// Whether a retry may be triggered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextTrigger {
    /// No retry was triggered for these secrets, or long ago.
    First,
    /// The interval since the last trigger is not over.
    TooEarly,
    /// The last retry was refused.
    Repeat,
    /// [`MAX_TRIGGERS`] is reached.
    Exhausted,
}

#[derive(Debug)]
struct TriggerRecord {
    uid: String,
    at: Instant,
    count: u32,
}

/// Triggered retries by namespace, oldest first.
#[derive(Debug, Default)]
pub(super) struct TriggerHistory(BTreeMap<String, VecDeque<TriggerRecord>>);

impl TriggerHistory {
    /// Decides for an owner whose pod was refused, or whose secrets were created.
    pub(super) fn next(&self, owner: &Owner) -> NextTrigger {
        let mut records = self.0.get(&owner.namespace).into_iter().flatten();
        match records.find(|record| record.uid == owner.uid) {
            Some(last) if last.at.elapsed() >= RETENTION => NextTrigger::First,
            Some(last) if last.count >= MAX_TRIGGERS => NextTrigger::Exhausted,
            Some(last) if last.at.elapsed() < FIRST_INTERVAL * 4_u32.pow(last.count - 1) => {
                NextTrigger::TooEarly
            }
            Some(_) => NextTrigger::Repeat,
            None => NextTrigger::First,
        }
    }

    /// Records that a retry was triggered now.
    pub(super) fn record(&mut self, owner: &Owner) {
        self.0.retain(|_, records| {
            records.retain(|record| record.at.elapsed() < RETENTION);
            !records.is_empty()
        });
        let count = self.remove(owner).unwrap_or(0) + 1;
        if self.0.values().map(VecDeque::len).sum::<usize>() >= MAX_OWNERS
            && let Some(largest) = self.0.values_mut().max_by_key(|records| records.len())
        {
            largest.pop_front();
        }
        let records = self.0.entry(owner.namespace.clone()).or_default();
        if records.len() >= MAX_OWNERS_PER_NAMESPACE {
            records.pop_front();
        }
        records.push_back(TriggerRecord {
            uid: owner.uid.clone(),
            at: Instant::now(),
            count,
        });
    }

    /// Removes the record of an owner that waits for secrets again. Returns its number of triggers.
    pub(super) fn remove(&mut self, owner: &Owner) -> Option<u32> {
        let records = self.0.get_mut(&owner.namespace)?;
        let at = records.iter().position(|record| record.uid == owner.uid)?;
        records.remove(at).map(|record| record.count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::OwnerKind;
    use super::*;
    use tokio::time::advance;

    fn owner(namespace: &str, number: usize) -> Owner {
        let (uid, name) = (format!("{namespace}-{number}"), format!("load-{number}"));
        Owner {
            uid,
            kind: OwnerKind::Job,
            namespace: namespace.to_owned(),
            name,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_is_triggered_four_times_with_growing_intervals() {
        let (mut history, load) = (TriggerHistory::default(), owner("jobs", 1));
        assert_eq!(history.next(&load), NextTrigger::First);
        for pause in [5, 20, 80] {
            history.record(&load);
            assert_eq!(history.next(&load), NextTrigger::TooEarly);
            advance(Duration::from_millis(pause * 1000 - 1)).await;
            assert_eq!(history.next(&load), NextTrigger::TooEarly);
            advance(Duration::from_millis(1)).await;
            assert_eq!(history.next(&load), NextTrigger::Repeat);
        }
        history.record(&load);
        advance(RETENTION.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(
            (history.next(&load), history.next(&owner("jobs", 2))),
            (NextTrigger::Exhausted, NextTrigger::First)
        );
        advance(Duration::from_millis(1)).await;
        assert_eq!(history.next(&load), NextTrigger::First);
        history.record(&load);
        advance(FIRST_INTERVAL).await;
        assert_eq!(
            history.next(&load),
            NextTrigger::Repeat,
            "an expired record counts as none"
        );
        assert_eq!(
            (
                history.remove(&load),
                history.remove(&load),
                history.next(&load)
            ),
            (Some(1), None, NextTrigger::First)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_bounded_and_every_namespace_has_a_share() {
        let mut history = TriggerHistory::default();
        let sizes = |history: &TriggerHistory| -> Vec<usize> {
            history.0.values().map(VecDeque::len).collect()
        };
        for number in 0..3 * MAX_OWNERS_PER_NAMESPACE {
            history.record(&owner("ns-0", number));
        }
        assert_eq!(sizes(&history), [MAX_OWNERS_PER_NAMESPACE]);
        for namespace in 1..10 {
            for number in 0..MAX_OWNERS_PER_NAMESPACE {
                history.record(&owner(&format!("ns-{namespace}"), number));
            }
        }
        history.record(&owner("other", 1));
        assert_eq!(sizes(&history).iter().sum::<usize>(), MAX_OWNERS);
        assert_eq!(
            history.next(&owner("other", 1)),
            NextTrigger::TooEarly,
            "the largest namespace made room"
        );
        advance(RETENTION).await;
        history.record(&owner("other", 2));
        assert_eq!(sizes(&history), [1], "expired records take no room");
    }
}
