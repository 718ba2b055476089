//! Program that writes records: its name in each of them, and the records about the trail itself.

use jiff::Timestamp;

use super::link::Tip;
use super::record::{Action, Class, Interval, Record, RecordOutcome, Service, VERSION};
use super::signature::PublicKey;
use super::text::Text;

/// Lines that one checkpoint is about: as many as fit into a line with ids of any length.
pub const MAX_TIPS: usize = 24;

/// Maker of records for one program. Ids and times are passed in.
#[derive(Clone, Debug)]
pub struct Emitter {
    /// Name of the cluster.
    pub cluster: Text<128>,
    pub service: Service,
    pub time: Timestamp,
    /// Id of the next record, a UUID of version 7.
    pub id: Text<64>,
}

impl Emitter {
    /// Record with its required fields.
    #[must_use]
    pub fn record(&self, class: Class, action: Action, outcome: RecordOutcome) -> Record {
        self.clone().into_record(class, action, outcome)
    }

    /// Record with its required fields, of an emitter that is not needed any more.
    #[must_use]
    pub fn into_record(self, class: Class, action: Action, outcome: RecordOutcome) -> Record {
        Record {
            action,
            actor: None,
            authorization: None,
            chain: None,
            class,
            cluster: self.cluster,
            decision: "",
            duration_us: None,
            gap: None,
            id: self.id,
            key: None,
            object: None,
            outcome,
            part: None,
            phase: None,
            predecessor: None,
            reason: "",
            repeat: None,
            request: None,
            service: self.service,
            signature: None,
            source: None,
            span_id: Text::default(),
            status: None,
            targets: Vec::new(),
            time: self.time,
            tips: Vec::new(),
            trace_id: Text::default(),
            v: VERSION,
        }
    }

    fn system(&self, action: Action) -> Record {
        self.record(Class::System, action, RecordOutcome::Success)
    }

    /// First record of a chain, with the last line of the chain before if that is known.
    #[must_use]
    pub fn start(&self, predecessor: Option<Tip>) -> Record {
        Record {
            predecessor,
            ..self.system(Action::Start)
        }
    }

    /// Last record of a chain: nothing follows it.
    #[must_use]
    pub fn stop(&self) -> Record {
        self.system(Action::Stop)
    }

    /// Records that were not kept.
    #[must_use]
    pub fn gap(&self, gap: Interval) -> Record {
        Record {
            gap: Some(gap),
            ..self.system(Action::Gap)
        }
    }

    /// Announcement of a new key, to be signed by the key before.
    #[must_use]
    pub fn key(&self, key: PublicKey) -> Record {
        Record {
            key: Some(key),
            ..self.system(Action::Key)
        }
    }

    /// Records to be signed, of at most [`MAX_TIPS`] lines each.
    #[must_use]
    pub fn checkpoints(&self, tips: &[Tip]) -> Vec<Record> {
        self.of_tips(Action::Checkpoint, tips)
    }

    /// Records to be signed before the lines up to each tip are deleted.
    #[must_use]
    pub fn retention(&self, tips: &[Tip]) -> Vec<Record> {
        self.of_tips(Action::Retention, tips)
    }

    fn of_tips(&self, action: Action, tips: &[Tip]) -> Vec<Record> {
        let record = |tips: &[Tip]| Record {
            tips: tips.to_vec(),
            ..self.system(action)
        };
        tips.chunks(MAX_TIPS).map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::MAX_LINE;
    use crate::audit::chain::Chain;
    use crate::audit::link::{ChainId, MAX_CHAIN_ID};
    use crate::audit::test_support::{emitter, key, longest};

    #[test]
    fn checkpoint_of_the_longest_ids_fits_into_a_line() {
        let id = |n: usize| ChainId::parse(&format!("{}/{n:04}", "p".repeat(MAX_CHAIN_ID - 5)));
        let tip = |n| Tip {
            chain: id(n).unwrap(),
            hash: super::super::digest::Digest::of(b""),
            seq: super::super::record::MAX_INTEGER,
        };
        let tips: Vec<Tip> = (0..=MAX_TIPS).map(tip).collect();
        let mut emitter = emitter();
        emitter.cluster = Text::new(&longest());
        emitter.id = Text::new(&longest());
        emitter.service.replica = Text::new(&longest());
        let records = emitter.checkpoints(&tips);
        assert_eq!(records.len(), 2);
        let mut chain = Chain::new(id(0).unwrap());
        for record in records {
            let line = chain.append_signed(record, &key(1));
            assert!(line.json.len() <= MAX_LINE, "{}", line.json.len());
        }
        assert!(emitter.retention(&[]).is_empty());
    }
}
