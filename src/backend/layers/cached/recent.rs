//! Names that were bound recently, by namespace: for "did you mean".
//!
//! A lookup costs the names of one namespace, however many are stored for others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

/// Limit of the names of one namespace: as many as a suggestion compares.
pub(super) const MAX_NAMES: usize = 256;

/// Approximate limit of the bytes of all names: some ten thousand names of a few hundred namespaces.
pub(super) const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Names of one namespace, the latest last, with the times at which their reads began.
type NamespaceNames = Arc<VecDeque<(Arc<str>, Instant)>>;

/// Index of names by namespace. Namespaces that were not used for the longest time are evicted first.
#[derive(Debug)]
pub(super) struct RecentIndex {
    namespaces: Cache<String, NamespaceNames>,
    max_age: Duration,
}

impl RecentIndex {
    /// Keeps each name for `max_age`.
    pub(super) fn new(max_age: Duration) -> Self {
        let namespaces = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(|namespace: &String, names: &NamespaceNames| weight(namespace, names))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(max_age)
            .build();
        Self {
            namespaces,
            max_age,
        }
    }

    /// Records a name that a read found which began at `began`.
    pub(super) fn record(&self, namespace: &str, name: &str, began: Instant) {
        self.namespaces
            .entry_by_ref(namespace)
            .and_upsert_with(|known| {
                let mut names: VecDeque<_> = known
                    .map(|known| (*known.into_value()).clone())
                    .unwrap_or_default();
                let position = names.iter().position(|(known, _)| **known == *name);
                let name = position
                    .and_then(|position| names.remove(position))
                    .map_or_else(|| Arc::from(name), |(name, _)| name);
                if names.len() >= MAX_NAMES {
                    names.pop_front();
                }
                names.push_back((name, began));
                Arc::new(names)
            });
    }

    /// Removes a name that no longer exists.
    pub(super) fn remove(&self, namespace: &str, name: &str) {
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

    /// Names of a namespace, in order.
    pub(super) fn names(&self, namespace: &str) -> Vec<String> {
        let names = self.namespaces.get(namespace).unwrap_or_default();
        let recent = names
            .iter()
            .filter(|(_, began)| began.elapsed() <= self.max_age);
        let mut names: Vec<String> = recent.map(|(name, _)| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    #[cfg(test)]
    pub(super) fn weighted_size(&self) -> u64 {
        self.namespaces.run_pending_tasks();
        self.namespaces.weighted_size()
    }
}

/// Approximate size of a namespace in bytes.
fn weight(namespace: &str, names: &NamespaceNames) -> u32 {
    /// Overhead of an entry of the cache, and of each name in it.
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
        let recent = RecentIndex::new(LIMIT);
        for at in 0..MAX_NAMES {
            recent.record("jobs", &format!("s{at:04}"), Instant::now());
        }
        recent.record("other", "elsewhere", Instant::now());
        assert_eq!(recent.names("jobs").len(), MAX_NAMES);
        // A name that is found again becomes the latest, and is stored once.
        recent.record("jobs", "s0000", Instant::now());
        assert_eq!(recent.names("jobs").len(), MAX_NAMES);
        recent.record("jobs", "new", Instant::now());
        let names = recent.names("jobs");
        assert_eq!(names.len(), MAX_NAMES);
        assert!(names.contains(&"new".to_owned()) && names.contains(&"s0000".to_owned()));
        assert!(!names.contains(&"s0001".to_owned()));
        assert_eq!(recent.names("other"), ["elsewhere"]);
    }

    #[tokio::test(start_paused = true)]
    async fn names_expire_and_are_removed_with_their_secret() {
        let recent = RecentIndex::new(LIMIT);
        for name in ["a", "b"] {
            recent.record("jobs", name, Instant::now());
        }
        recent.remove("jobs", "a");
        recent.remove("jobs", "unknown");
        recent.remove("nowhere", "a");
        assert_eq!(recent.names("jobs"), ["b"]);
        advance(LIMIT).await;
        assert_eq!(recent.names("jobs"), ["b"]);
        advance(Duration::from_millis(1)).await;
        assert!(recent.names("jobs").is_empty());
        recent.remove("jobs", "b");
        assert_eq!(recent.weighted_size(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn index_is_bounded_by_bytes() {
        let recent = RecentIndex::new(LIMIT);
        let long = "n".repeat(240);
        for namespace in 0..100 {
            for at in 0..MAX_NAMES {
                recent.record(
                    &format!("ns{namespace}"),
                    &format!("{long}{at}"),
                    Instant::now(),
                );
            }
        }
        assert!(
            (MAX_BYTES / 2..=MAX_BYTES).contains(&recent.weighted_size()),
            "{}",
            recent.weighted_size()
        );
        assert_eq!(recent.names("ns99").len(), MAX_NAMES, "the latest are kept");
        assert!(recent.names("ns0").is_empty());
    }
}
