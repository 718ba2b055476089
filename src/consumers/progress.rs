//! Progress of reading consumers, shared with the code that prints it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a running read.
#[derive(Debug, Default)]
pub struct ReadProgress {
    objects: AtomicU64,
    stale: AtomicU64,
}

impl ReadProgress {
    pub(super) fn start(&self) {
        self.objects.store(0, Ordering::Relaxed);
        self.stale.store(0, Ordering::Relaxed);
    }

    pub(super) fn count_read(&self, objects: usize) {
        self.objects.fetch_add(objects as u64, Ordering::Relaxed);
    }

    pub(super) fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// Pods and workloads that were read since the read began.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Pods among them that run, or may run, with an older value.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }
}
