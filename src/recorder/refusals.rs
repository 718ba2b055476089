//! Refusals that repeat: controllers retry a refused pod for hours, and a record of each retry would displace evidence.
//!
//! A refusal has a record at once. Later ones with the same namespace, owner or requester, reason and secrets are
//! counted, and one record per [`REPEAT_INTERVAL`] reports their number. Beyond [`MAX_REFUSED_RECORDS`] per namespace
//! and interval, all others of the namespace are counted together, so that varied names or owners gain nothing.
//! Admitted objects are never counted. Times of intervals are monotonic, so that a clock that is set back changes
//! nothing. Memory is bounded by [`MAX_NAMESPACES`] and [`MAX_KEYS`].

mod key;
mod namespace;

use std::collections::HashMap;
use std::time::Instant;

use self::key::refusal_key;
use self::namespace::NamespaceRefusals;
pub use self::namespace::{MAX_REFUSED_RECORDS, REPEAT_INTERVAL};
use crate::audit::record::Record;

/// Limit of namespaces with refusals in the last interval. Refusals of others are counted as if they were in one
/// namespace, without its name.
pub const MAX_NAMESPACES: usize = 1_024;

/// Limit of different refusals that are remembered, over all namespaces. Others are counted by namespace.
pub const MAX_KEYS: usize = 1_024;

/// Word of the decisions that are counted.
const DENIED: &str = "denied";

/// Refusals of the last interval.
#[derive(Debug)]
pub(super) struct Refusals {
    namespaces: HashMap<Box<str>, NamespaceRefusals>,
    /// Refusals of namespaces beyond the limit.
    others: NamespaceRefusals,
    keys: usize,
    /// Time of the next [`Self::take_due`] that has something to do.
    due: Option<Instant>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            namespaces: HashMap::new(),
            others: NamespaceRefusals::shared(),
            keys: 0,
            due: None,
        }
    }
}

/// Whether a record may be counted instead of written.
pub(super) fn may_repeat(record: &Record) -> bool {
    record.decision == DENIED
}

impl Refusals {
    /// Returns the record if it is to be written now. `None`: it is counted.
    pub(super) fn filter(&mut self, record: Box<Record>, now: Instant) -> Option<Box<Record>> {
        if !may_repeat(&record) {
            return Some(record);
        }
        let name = record
            .object
            .as_ref()
            .map_or("", |object| object.namespace.as_str());
        let is_known = self.namespaces.contains_key(name);
        let namespace = if is_known || self.namespaces.len() < MAX_NAMESPACES {
            self.namespaces.entry(name.into()).or_default()
        } else {
            &mut self.others
        };
        let key = refusal_key(&record);
        let before = namespace.keys();
        let written = namespace.filter(key, record, now, self.keys < MAX_KEYS);
        self.keys = self.keys + namespace.keys() - before;
        let due = namespace.due();
        self.due = earlier(self.due, due);
        written
    }

    /// Time of the next records about refusals that repeat.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records that are due, and forgets refusals that have not repeated for an interval.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Record> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let mut records = Vec::new();
        for namespace in self.namespaces.values_mut() {
            records.extend(namespace.take_due(now));
        }
        records.extend(self.others.take_due(now));
        self.namespaces
            .retain(|_, namespace| !namespace.is_idle(now));
        let namespaces = || self.namespaces.values().chain([&self.others]);
        self.keys = namespaces().map(NamespaceRefusals::keys).sum();
        self.due = namespaces().filter_map(NamespaceRefusals::due).min();
        records
    }

    /// All records about refusals that repeat, at the end of the process.
    pub(super) fn take_all(&mut self) -> Vec<Record> {
        let namespaces = std::mem::take(&mut self.namespaces);
        let mut records: Vec<Record> = namespaces
            .into_values()
            .flat_map(|mut namespace| namespace.take_all())
            .collect();
        records.extend(self.others.take_all());
        *self = Self::default();
        records
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
