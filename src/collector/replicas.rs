//! Last state of each replica, as the head of its last batch has it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::metrics::{CollectorMetrics, ReplicaLabels};
use crate::audit::delivery::{BatchHead, ReplicaState};
use crate::audit::link::ChainId;
use crate::audit::text::Text;

/// Replicas whose state is kept. Beyond it, the one that has not sent for longest is forgotten.
pub const MAX_REPLICAS: usize = 256;

/// Time after its last batch after which a replica is forgotten.
pub(super) const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Bytes of a replica's version.
const MAX_VERSION: usize = 64;

/// Last known state of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Chain of its last batch.
    pub chain: ChainId,
    /// Time of its last batch.
    pub time: Timestamp,
    pub state: ReplicaState,
}

/// States of the replicas by the names of their pods.
#[derive(Debug)]
pub struct Replicas {
    by_pod: Mutex<BTreeMap<String, ReplicaStatus>>,
    metrics: CollectorMetrics,
}

impl Replicas {
    #[must_use]
    pub(super) fn new(metrics: CollectorMetrics) -> Self {
        Self {
            by_pod: Mutex::default(),
            metrics,
        }
    }

    /// Records the state in a head whose sender was checked.
    pub(super) fn record(&self, head: &BatchHead, now: Timestamp) {
        let mut state = head.replica.clone();
        let version = Text::<MAX_VERSION>::new(&state.version);
        version.as_str().clone_into(&mut state.version);
        let labels = ReplicaLabels {
            pod: state.pod.clone(),
        };
        let unshipped = i64::try_from(state.unshipped).unwrap_or(i64::MAX);
        self.metrics.unshipped.get_or_create(&labels).set(unshipped);
        let status = ReplicaStatus {
            chain: head.chain.clone(),
            time: now,
            state,
        };
        let mut by_pod = self.by_pod();
        by_pod.insert(labels.pod, status);
        self.forget(&mut by_pod, now);
    }

    /// States of the replicas, by the names of their pods.
    #[must_use]
    pub fn list(&self) -> Vec<ReplicaStatus> {
        self.by_pod().values().cloned().collect()
    }

    fn forget(&self, by_pod: &mut BTreeMap<String, ReplicaStatus>, now: Timestamp) {
        let oldest = by_pod.iter().min_by_key(|(_, status)| status.time);
        let is_over = |(pod, status): (&String, &ReplicaStatus)| {
            let is_silent = now.duration_since(status.time) > FORGET_AFTER;
            (is_silent || by_pod.len() > MAX_REPLICAS).then(|| pod.clone())
        };
        if let Some(pod) = oldest.and_then(is_over) {
            by_pod.remove(&pod);
            self.metrics.unshipped.remove(&ReplicaLabels { pod });
        }
    }

    fn by_pod(&self) -> MutexGuard<'_, BTreeMap<String, ReplicaStatus>> {
        self.by_pod.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::chain_id;
    use crate::telemetry::metrics::registered;

    fn head(pod: &str, unshipped: u64) -> BatchHead {
        BatchHead {
            chain: chain_id("a"),
            lost_before: false,
            replica: ReplicaState {
                pod: pod.to_owned(),
                version: "v".repeat(100),
                unshipped,
                ..ReplicaState::default()
            },
        }
    }

    fn text(registry: &prometheus_client::registry::Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn replica_has_the_state_of_its_last_batch() {
        let (registry, metrics) = registered(CollectorMetrics::register);
        let replicas = Replicas::new(metrics);
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        replicas.record(&head("webhook-1", 7), now);
        replicas.record(&head("webhook-1", 3), now);
        let [status] = &*replicas.list() else {
            panic!("one replica")
        };
        assert_eq!((status.time, status.state.unshipped), (now, 3));
        assert!(status.state.version.len() <= MAX_VERSION);
        let row = "audit_replica_unshipped_lines{pod=\"webhook-1\"} 3\n";
        assert!(text(&registry).contains(row));
    }

    #[test]
    fn replicas_are_limited_and_forgotten() {
        let (registry, metrics) = registered(CollectorMetrics::register);
        let replicas = Replicas::new(metrics);
        let start: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        for number in 0..=MAX_REPLICAS {
            let now = start + SignedDuration::from_millis(i64::try_from(number).unwrap());
            replicas.record(&head(&format!("pod-{number}"), 1), now);
        }
        assert_eq!(replicas.list().len(), MAX_REPLICAS);
        assert!(!text(&registry).contains("\"pod-0\""));
        let later = start + FORGET_AFTER + SignedDuration::from_mins(1);
        for _ in 0..=MAX_REPLICAS {
            replicas.record(&head("new", 1), later);
        }
        assert_eq!(replicas.list().len(), 1);
    }
}
