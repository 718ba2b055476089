//! Refusals of one namespace in the last interval.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::interval::merged;
use crate::audit::digest::Digest;
use crate::audit::record::{Interval, ObjectFields, Record};
use crate::audit::text::Text;

/// Interval of the records about refusals that repeat.
pub const REPEAT_INTERVAL: Duration = Duration::from_mins(1);

/// Limit of records of refusals in one namespace and interval. One more counts all others.
pub const MAX_REFUSED_RECORDS: u32 = 60;

/// Refusals that have no record yet: the last one, and the number and times of all.
#[derive(Debug)]
struct Unwritten {
    last: Box<Record>,
    interval: Interval,
}

/// Refusals with one key.
#[derive(Debug)]
struct Repeated {
    /// Time of the last record.
    written: Instant,
    unwritten: Option<Unwritten>,
}

#[derive(Debug, Default)]
pub(super) struct NamespaceRefusals {
    keys: HashMap<Digest, Repeated>,
    /// Begin of the interval in which records are counted, and their number.
    interval: Option<(Instant, u32)>,
    /// Refusals beyond the limits.
    others: Option<Unwritten>,
    /// The refusals are those of several namespaces.
    is_shared: bool,
}

impl Unwritten {
    fn add(unwritten: &mut Option<Self>, record: Box<Record>) {
        let interval = Interval {
            count: 1,
            from: record.time,
            to: record.time,
        };
        let last = record;
        Self::merge(unwritten, Self { last, interval });
    }

    /// Record of the last refusal, with the number of all.
    fn into_record(self) -> Record {
        let mut record = *self.last;
        record.repeat = Some(self.interval);
        record
    }

    /// Adds other refusals.
    fn merge(into: &mut Option<Self>, other: Self) {
        let before = into.as_ref().map(|into| into.interval);
        let interval = merged(before, other.interval);
        let last = other.last;
        *into = Some(Self { last, interval });
    }
}

impl NamespaceRefusals {
    /// Refusals of several namespaces.
    pub(super) fn shared() -> Self {
        Self {
            is_shared: true,
            ..Self::default()
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Returns the record if it is to be written now.
    pub(super) fn filter(
        &mut self,
        key: Digest,
        record: Box<Record>,
        now: Instant,
        has_room: bool,
    ) -> Option<Box<Record>> {
        if let Some(repeated) = self.keys.get_mut(&key) {
            Unwritten::add(&mut repeated.unwritten, record);
            return None;
        }
        if !has_room {
            self.interval.get_or_insert((now, 0));
        }
        if !has_room || !self.count(now) {
            Unwritten::add(&mut self.others, record);
            return None;
        }
        let repeated = Repeated {
            written: now,
            unwritten: None,
        };
        self.keys.insert(key, repeated);
        Some(record)
    }

    /// Counts a record, if there is room for it in this interval.
    fn count(&mut self, now: Instant) -> bool {
        let (began, count) = match self.interval {
            Some((began, count)) if now.duration_since(began) < REPEAT_INTERVAL => (began, count),
            _ => (now, 0),
        };
        let has_room = count < MAX_REFUSED_RECORDS;
        self.interval = Some((began, count + u32::from(has_room)));
        has_room
    }

    /// Time of the next [`Self::take_due`] that has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let keys = self.keys.values().map(|repeated| repeated.written);
        let interval = self.interval.map(|(began, _)| began);
        keys.chain(interval)
            .min()
            .map(|time| time + REPEAT_INTERVAL)
    }

    /// Whether nothing is remembered.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let is_over = |(began, _): (Instant, u32)| now.duration_since(began) >= REPEAT_INTERVAL;
        self.keys.is_empty() && self.others.is_none() && self.interval.is_none_or(is_over)
    }

    /// Records that are due, and forgets refusals that have not repeated.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Record> {
        let is_due = |since: Instant| now.duration_since(since) >= REPEAT_INTERVAL;
        let mut records = Vec::new();
        // The others are reported at the end of the interval, beside the records that are counted.
        if self.interval.is_none_or(|(began, _)| is_due(began)) {
            records.extend(self.take_others());
            self.interval = None;
        }
        let due: Vec<Digest> = self
            .keys
            .iter()
            .filter(|(_, repeated)| is_due(repeated.written))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let unwritten = self
                .keys
                .get_mut(&key)
                .and_then(|repeated| repeated.unwritten.take());
            match unwritten {
                None => drop(self.keys.remove(&key)),
                Some(unwritten) if self.count(now) => {
                    if let Some(repeated) = self.keys.get_mut(&key) {
                        repeated.written = now;
                    }
                    records.push(unwritten.into_record());
                }
                Some(unwritten) => {
                    self.keys.remove(&key);
                    Unwritten::merge(&mut self.others, unwritten);
                }
            }
        }
        records
    }

    /// Everything that is not written.
    pub(super) fn take_all(&mut self) -> Vec<Record> {
        let keys = std::mem::take(&mut self.keys);
        let unwritten = keys.into_values().filter_map(|repeated| repeated.unwritten);
        let mut records: Vec<Record> = unwritten.map(Unwritten::into_record).collect();
        records.extend(self.take_others());
        records
    }

    /// Record about refusals that differ: fields of the last one that the others need not share are left out.
    fn take_others(&mut self) -> Option<Record> {
        let mut record = self.others.take()?.into_record();
        let object = record.object.take().filter(|_| !self.is_shared);
        record.object = object.map(|object| ObjectFields {
            namespace: object.namespace,
            ..ObjectFields::default()
        });
        record.actor = None;
        record.authorization = None;
        record.duration_us = None;
        record.reason = "";
        record.request = None;
        record.span_id = Text::default();
        record.status = None;
        record.targets = Vec::new();
        record.trace_id = Text::default();
        Some(record)
    }
}
