//! Intervals of records that are counted.

use crate::audit::record::Interval;

/// Interval with more records. Times of a clock that was set back count as well.
pub(super) fn merged(interval: Option<Interval>, more: Interval) -> Interval {
    let Some(before) = interval else { return more };
    Interval {
        count: before.count.saturating_add(more.count),
        from: before.from.min(more.from),
        to: before.to.max(more.to),
    }
}
