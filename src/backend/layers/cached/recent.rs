//! Names that were bound lately, by namespace: for "did you mean".
//!
//! A lookup costs the names of one namespace, however many are remembered of others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

/// Names of one namespace: as many as a suggestion looks at.
pub(super) const NAMES: usize = 256;

/// About how many bytes of names are kept in all: some ten thousand, of a few hundred namespaces.
pub(super) const BYTES: u64 = 4 * 1024 * 1024;

/// The names of one namespace, the latest last, with the times of the reads that found them.
type Names = Arc<VecDeque<(Arc<str>, Instant)>>;

/// An index of names by namespace; the namespaces that were longest not asked about make room for others.
#[derive(Debug)]
pub(super) struct Recent {
    namespaces: Cache<String, Names>,
    limit: Duration,
}

impl Recent {
    /// Remembers each name for `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        let namespaces = Cache::builder()
            .max_capacity(BYTES)
            .weigher(|namespace: &String, names: &Names| weight(namespace, names))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(limit)
            .build();
        Self { namespaces, limit }
    }

    /// Takes note of a name that was found by a read that began at `began`.
    pub(super) fn note(&self, namespace: &str, name: &str, began: Instant) {
        self.namespaces
            .entry_by_ref(namespace)
            .and_upsert_with(|known| {
                let mut names: VecDeque<_> = known
                    .map(|known| (*known.into_value()).clone())
                    .unwrap_or_default();
                let place = names.iter().position(|(known, _)| **known == *name);
                let name = place
                    .and_then(|place| names.remove(place))
                    .map_or_else(|| Arc::from(name), |(name, _)| name);
                if names.len() >= NAMES {
                    names.pop_front();
                }
                names.push_back((name, began));
                Arc::new(names)
            });
    }

    /// Forgets a name that is no longer there.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.namespaces
            .entry_by_ref(namespace)
            .and_compute_with(|known| {
                let Some(known) = known.map(moka::Entry::into_value) else {
                    return Op::Nop;
                };
                if known.iter().all(|(known, _)| **known != *name) {
                    return Op::Nop;
                }
                let rest: VecDeque<_> = known
                    .iter()
                    .filter(|(known, _)| **known != *name)
                    .cloned()
                    .collect();
                if rest.is_empty() {
                    Op::Remove
                } else {
                    Op::Put(Arc::new(rest))
                }
            });
    }

    /// The names of a namespace, in order.
    pub(super) fn names(&self, namespace: &str) -> Vec<String> {
        let known = self.namespaces.get(namespace).unwrap_or_default();
        let recent = known
            .iter()
            .filter(|(_, began)| began.elapsed() <= self.limit);
        let mut names: Vec<String> = recent.map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    #[cfg(test)]
    pub(super) fn weighed(&self) -> u64 {
        self.namespaces.run_pending_tasks();
        self.namespaces.weighted_size()
    }
}

/// About how many bytes a namespace takes.
fn weight(namespace: &str, names: &Names) -> u32 {
    /// An entry of the cache, and a name of it, beside their texts.
    const ENTRY: usize = 256;
    const NAME: usize = 64;
    let names: usize = names.iter().map(|(name, _)| name.len() + NAME).sum();
    u32::try_from(ENTRY + namespace.len() + names).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_mins(10);

    #[tokio::test(start_paused = true)]
    async fn index_keeps_the_latest_names_of_each_namespace() {
        let recent = Recent::new(LIMIT);
        for at in 0..NAMES {
            recent.note("jobs", &format!("s{at:04}"), Instant::now());
        }
        recent.note("other", "elsewhere", Instant::now());
        assert_eq!(recent.names("jobs").len(), NAMES);
        // One that is found again is the latest, and is there once.
        recent.note("jobs", "s0000", Instant::now());
        assert_eq!(recent.names("jobs").len(), NAMES);
        recent.note("jobs", "new", Instant::now());
        let names = recent.names("jobs");
        assert_eq!(names.len(), NAMES);
        assert!(names.contains(&"new".to_owned()) && names.contains(&"s0000".to_owned()));
        assert!(!names.contains(&"s0001".to_owned()));
        assert_eq!(recent.names("other"), ["elsewhere"]);
    }

    #[tokio::test(start_paused = true)]
    async fn names_end_with_their_secret_and_with_time() {
        let recent = Recent::new(LIMIT);
        for name in ["a", "b"] {
            recent.note("jobs", name, Instant::now());
        }
        recent.forget("jobs", "a");
        recent.forget("jobs", "unknown");
        recent.forget("nowhere", "a");
        assert_eq!(recent.names("jobs"), ["b"]);
        advance(LIMIT).await;
        assert_eq!(recent.names("jobs"), ["b"]);
        advance(Duration::from_millis(1)).await;
        assert!(recent.names("jobs").is_empty());
        recent.forget("jobs", "b");
        assert_eq!(recent.weighed(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn index_is_bounded_by_bytes() {
        let recent = Recent::new(LIMIT);
        let long = "n".repeat(240);
        for namespace in 0..100 {
            for at in 0..NAMES {
                recent.note(
                    &format!("ns{namespace}"),
                    &format!("{long}{at}"),
                    Instant::now(),
                );
            }
        }
        assert!(
            (BYTES / 2..=BYTES).contains(&recent.weighed()),
            "{}",
            recent.weighed()
        );
        assert_eq!(recent.names("ns99").len(), NAMES, "the latest are kept");
        assert!(recent.names("ns0").is_empty());
    }
}
