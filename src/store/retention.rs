//! Retention: beginnings of chains that may go, and how many at a time.

use std::time::Duration;

use jiff::Timestamp;

use crate::audit::link::Tip;

/// Lines of one plan: few enough that the announcement is soon followed by the deletion.
pub const MAX_RETAINED_LINES: u64 = 20_000;

/// Lines that one transaction deletes. Their entries in ten indexes are far from each other: a line changes about five
/// pages, which the commit writes, so that appends wait for a megabyte.
pub const DELETED_AT_ONCE: u64 = 25;

/// Secrets of deleted lines after which a transaction deletes no further line.
pub(super) const DELETED_SECRETS: usize = 64;

/// Time after which a transaction deletes no further line. Its pages may have to be read from a slow volume.
pub(super) const DELETION_TIME: Duration = Duration::from_millis(10);

/// Pause between two deletions, as a multiple of the time from a deletion's request to its end.
pub(super) const PAUSE_RATIO: u32 = 2;

/// Longest pause between two deletions.
pub(super) const MAX_PAUSE: Duration = Duration::from_millis(250);

/// Rule of what may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionRule {
    /// Lines before this time go.
    pub older_than: Timestamp,
    /// Lines from this time on stay, even if the store is full.
    pub min_age: Timestamp,
    /// Bytes in use that the store should have at most: more lines go, oldest first.
    pub max_bytes: Option<u64>,
}

/// Last lines of the parts that go. A signed `system.retention` record announces them before they are deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    pub tips: Vec<Tip>,
}
