//! Batches that are handled at the same time: a limit for all, and one for each pod, so that no pod takes the memory of
//! the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rejection::reject;
use crate::audit::delivery::{RejectedBatch, Rejection};

/// Batches in flight of all pods.
pub const MAX_BATCHES: usize = 64;

/// Batches in flight of one pod: one, and another one if the connection of the first one broke.
pub const MAX_BATCHES_OF_A_POD: usize = 2;

/// Batches in flight by the uid of their pod.
#[derive(Debug, Default)]
pub(super) struct BatchShares {
    by_pod: Mutex<BTreeMap<String, usize>>,
}

/// Place of a batch, given back when it is dropped.
#[derive(Debug)]
pub(super) struct BatchShare {
    shares: Arc<BatchShares>,
    pod: String,
}

impl BatchShares {
    pub(super) fn claim(self: &Arc<Self>, pod: &str) -> Result<BatchShare, RejectedBatch> {
        let mut by_pod = self.by_pod();
        let of_pod = by_pod.get(pod).copied().unwrap_or_default();
        let problem = if by_pod.values().sum::<usize>() >= MAX_BATCHES {
            "too many batches are handled at the moment. Retry"
        } else if of_pod >= MAX_BATCHES_OF_A_POD {
            "other batches of this pod are handled at the moment: send one after the other"
        } else {
            by_pod.insert(pod.to_owned(), of_pod + 1);
            return Ok(BatchShare {
                shares: Arc::clone(self),
                pod: pod.to_owned(),
            });
        };
        Err(reject(Rejection::Unavailable, &problem))
    }

    fn by_pod(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.by_pod.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BatchShare {
    fn drop(&mut self) {
        let mut by_pod = self.shares.by_pod();
        match by_pod.get_mut(&self.pod) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_pod.remove(&self.pod)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_and_all_pods_have_their_limits() {
        let shares = Arc::<BatchShares>::default();
        let of_a = [shares.claim("a").unwrap(), shares.claim("a").unwrap()];
        let rejected = shares.claim("a").unwrap_err();
        assert_eq!(rejected.reason, Rejection::Unavailable);
        assert!(rejected.message.contains("this pod"), "{rejected:?}");
        let pods: Vec<String> = (0..MAX_BATCHES).map(|pod| format!("pod-{pod}")).collect();
        let mut others: Vec<_> = pods.iter().map(|pod| shares.claim(pod)).collect();
        let rejected: Vec<_> = others.extract_if(.., |other| other.is_err()).collect();
        assert_eq!((others.len(), rejected.len()), (MAX_BATCHES - 2, 2));
        drop(others);
        drop(of_a);
        assert!(shares.by_pod().is_empty());
        shares.claim("a").unwrap();
    }
}
