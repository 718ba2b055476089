//! Records of a group of lines, which a gap record reports if the group is not kept.

use jiff::Timestamp;

use super::interval::merged;
use crate::audit::record::{Class, Interval, Record};

/// Records that lines stand for. Those about the trail itself count only as far as they report others.
#[derive(Debug, Default)]
pub(super) struct GroupAccount {
    pub records: Option<Interval>,
    /// Records that a gap record of the group reports. They are counted already.
    pub reported: Option<Interval>,
}

impl GroupAccount {
    pub(super) fn of(record: &Record) -> Self {
        let own = || one(record.time);
        let is_admission = record.class != Class::System;
        Self {
            records: record.repeat.or_else(|| is_admission.then(own)),
            reported: record.gap,
        }
    }

    /// Account of one admission.
    pub(super) fn of_one(time: Timestamp) -> Self {
        Self {
            records: Some(one(time)),
            reported: None,
        }
    }

    pub(super) fn add(&mut self, more: &Self) {
        add(&mut self.records, more.records);
        add(&mut self.reported, more.reported);
    }
}

fn one(time: Timestamp) -> Interval {
    Interval {
        count: 1,
        from: time,
        to: time,
    }
}

fn add(total: &mut Option<Interval>, more: Option<Interval>) {
    if let Some(more) = more {
        *total = Some(merged(*total, more));
    }
}
