//! Settings of the cache.

use std::time::Duration;

use crate::backend::layers::stall_guard::STALL_AFTER;

/// Lifetimes and size of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Time in which a stored binding is returned without a read.
    pub ttl: Duration,
    /// Time in which "not found" is returned without a read. `None` is the rule above without exception. Remote
    /// backends that bill or throttle by the call use a second or two.
    pub negative_ttl: Option<Duration>,
    /// Greatest age of a stored binding that is returned while the backend is unavailable.
    pub max_stale: Duration,
    /// Time without any response after which the backend counts as stalled: one review waits, the others are rejected.
    pub stall_after: Duration,
    /// Approximate limit of the bytes of names that are stored.
    pub max_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            negative_ttl: None,
            max_stale: Duration::from_mins(10),
            stall_after: STALL_AFTER,
            max_bytes: 16 * 1024 * 1024,
        }
    }
}
