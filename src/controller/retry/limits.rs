//! Limits of retries that several files share.

use std::time::Duration;

/// Limit in total of each: pending owners, enqueued owners, owners remembered as given up.
pub(super) const MAX_OWNERS: usize = 1000;

/// Limit of pending owners per namespace: ten namespaces may reach it at the same time.
pub(super) const MAX_OWNERS_PER_NAMESPACE: usize = 100;

/// Limit of enqueued owners per namespace. A rejected owner is enqueued again by its controller's next attempt.
pub(super) const MAX_ENQUEUED_PER_NAMESPACE: usize = 64;

/// Owners of one namespace that are reconciled in one round because they were enqueued: anybody may write events, and
/// each costs at least one read.
pub(super) const MAX_ENQUEUED_PER_ROUND: usize = 20;

/// Interval at which a pending owner is read again: it may be gone, or refer to other secrets.
pub(super) const REREAD_INTERVAL: Duration = Duration::from_mins(1);
