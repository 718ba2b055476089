//! Rules by which an object's records show who asked for a secret. Pure.
//!
//! A record is of an attempt: the API server may refuse the object afterwards, for example because one of that name
//! exists. Times of records are of `serve`'s clock and times of creation of the API server's, in whole seconds. Where
//! records of several requesters are possible within these bounds, nobody is named.

use jiff::{SignedDuration, Timestamp};

pub use super::asking_record::{AskedSecret, AskingRecord};
use crate::audit::asked_by::UnknownReason;
use crate::store::MAX_OBJECT_RECORDS;

/// Difference of two clocks, and time from an admission to the creation of its object, that is allowed for.
pub const CLOCK_TOLERANCE: SignedDuration = crate::audit::CLOCK_TOLERANCE;

/// Times of creation have whole seconds.
const TRUNCATION: SignedDuration = SignedDuration::from_secs(1);

/// Time at which an object was as its dependent shows it, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    earliest: Timestamp,
    latest: Timestamp,
}

impl Moment {
    /// Time of a record.
    #[must_use]
    pub fn of_record(time: Timestamp) -> Self {
        Self {
            earliest: earlier(time, CLOCK_TOLERANCE),
            latest: later(time, CLOCK_TOLERANCE),
        }
    }

    /// Creation of an object, whose dependent has a record at this time.
    #[must_use]
    pub fn of_creation(created: Timestamp, record: Timestamp) -> Self {
        Self {
            earliest: earlier(created, CLOCK_TOLERANCE),
            latest: latest_creation(created).min(later(record, CLOCK_TOLERANCE)),
        }
    }

    #[must_use]
    pub fn latest(self) -> Timestamp {
        self.latest
    }
}

/// Earliest time of a record of an object: earlier ones are of another object with its name.
#[must_use]
pub fn earliest_record(created: Timestamp) -> Timestamp {
    earlier(created, CLOCK_TOLERANCE)
}

/// Latest time of the record of an object's creation.
fn latest_creation(created: Timestamp) -> Timestamp {
    later(later(created, TRUNCATION), CLOCK_TOLERANCE)
}

fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Records of one object since its creation.
#[derive(Clone, Debug)]
pub struct AskingHistory {
    /// Records with the object's name, oldest first.
    records: Vec<AskingRecord>,
    /// Creations with the prefix of a name that the API server has generated. One of them is the object's.
    generated: Vec<AskingRecord>,
    /// Whether there are earlier records that were not read.
    is_cut: bool,
}

impl AskingHistory {
    /// History of an object that was created at a time, from records with its name, and with the prefix of its name if
    /// that was generated. Both are newest first.
    ///
    /// # Errors
    /// [`UnknownReason::Ambiguous`] if several requesters may have created it.
    pub fn new(
        records: Vec<AskingRecord>,
        generated: Vec<AskingRecord>,
        created: Timestamp,
    ) -> Result<Self, UnknownReason> {
        let is_cut = records.len() > MAX_OBJECT_RECORDS;
        if generated.len() > MAX_OBJECT_RECORDS {
            return Err(UnknownReason::TooManyRecords);
        }
        let (earliest, latest) = (earliest_record(created), latest_creation(created));
        // A later creation has failed, because the object existed.
        let is_possible = |record: &AskingRecord| {
            record.time >= earliest && (!record.is_create || record.time <= latest)
        };
        let mut records = in_order(records);
        records.retain(is_possible);
        let mut generated = in_order(generated);
        generated.retain(|record| record.is_create && is_possible(record));
        let mut creations = records.iter().filter(|record| record.is_create);
        let mut creations = creations.by_ref().chain(&generated);
        let creator = creations.next().map(|record| &record.requester);
        if creations.any(|record| Some(&record.requester) != creator) {
            return Err(UnknownReason::Ambiguous);
        }
        // What was before the creation was another object.
        let creation = records.iter().rposition(|record| record.is_create);
        records.drain(..creation.unwrap_or_default());
        Ok(Self {
            is_cut: is_cut && creation.is_none(),
            records,
            generated,
        })
    }

    /// First record of the unbroken run of records that name the secret, as it was at a moment.
    ///
    /// # Errors
    /// The run, or its beginning, is not known.
    pub fn asker(
        &self,
        secret: &AskedSecret,
        moment: Moment,
    ) -> Result<&AskingRecord, UnknownReason> {
        let up_to = |time| self.records.partition_point(|record| record.time <= time);
        let (before, until) = (up_to(moment.earliest), up_to(moment.latest));
        // The last record before the moment, or one within its bounds.
        let possible = before.saturating_sub(1)..until;
        let starts = possible
            .clone()
            .filter_map(|index| self.start_of_run(index, secret))
            .chain(
                (before == 0)
                    .then(|| self.generated_asker(secret))
                    .flatten(),
            );
        let mut starts = starts.collect::<Result<Vec<_>, _>>()?;
        let Some(found) = starts.pop() else {
            let has_none = possible.is_empty() && self.generated.is_empty();
            return Err(if has_none {
                UnknownReason::NoRecord
            } else {
                UnknownReason::NotNamed
            });
        };
        if starts
            .iter()
            .any(|start| start.requester != found.requester)
        {
            return Err(UnknownReason::Ambiguous);
        }
        Ok(found)
    }

    /// First record of the run that a record belongs to; `None` if it does not name the secret.
    fn start_of_run(
        &self,
        index: usize,
        secret: &AskedSecret,
    ) -> Option<Result<&AskingRecord, UnknownReason>> {
        let run = self.records.get(..=index)?.iter().rev();
        let run = run.take_while(|record| record.names(secret));
        let length = run.clone().count();
        let first = run.last()?;
        if length <= index {
            return Some(Ok(first));
        }
        if self.is_cut {
            return Some(Err(UnknownReason::TooManyRecords));
        }
        let is_named_by_all = self.generated.iter().all(|record| record.names(secret));
        Some(match self.generated_asker(secret) {
            Some(_) if !is_named_by_all => Err(UnknownReason::Ambiguous),
            Some(creation) => creation,
            None => Ok(first),
        })
    }

    /// Creation of an object with a generated name that names the secret.
    fn generated_asker(
        &self,
        secret: &AskedSecret,
    ) -> Option<Result<&AskingRecord, UnknownReason>> {
        let mut named = self.generated.iter().filter(|record| record.names(secret));
        named.next_back().map(Ok)
    }
}

/// Records oldest first, with the parts of each one joined.
fn in_order(mut records: Vec<AskingRecord>) -> Vec<AskingRecord> {
    records.truncate(MAX_OBJECT_RECORDS);
    records.reverse();
    joined(records)
}

/// Joins the parts of each record.
fn joined(records: Vec<AskingRecord>) -> Vec<AskingRecord> {
    let mut joined: Vec<AskingRecord> = Vec::with_capacity(records.len());
    for record in records {
        match joined.last_mut() {
            Some(last) if !last.id.is_empty() && last.id == record.id => {
                last.targets.extend(record.targets);
            }
            _ => joined.push(record),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
