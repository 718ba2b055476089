//! Askers of the secrets of an event, as they are printed beside its record.

use serde::Serialize;
use serde_json::Value;

use super::fields::{actor, field, text};
use crate::audit::record::{Action, RecordOutcome};
use crate::store::{AskedBy, LinePosition, RecordAttribution};

/// Word for a secret whose asker is still looked for.
const PENDING: &str = "pending";

/// Asker of one secret of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PrintedAsker {
    pub backend: String,
    pub namespace: String,
    pub name: String,
    #[serde(flatten)]
    pub asked_by: PrintedAskedBy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum PrintedAskedBy {
    Requester {
        username: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        uid: String,
        /// Record in which the requester asked.
        position: u64,
    },
    Unknown {
        unknown: &'static str,
    },
}

impl PrintedAskedBy {
    /// Name of the requester, if it is known.
    pub(super) fn username(&self) -> Option<&str> {
        match self {
            Self::Requester { username, .. } => Some(username),
            Self::Unknown { .. } => None,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Requester { username, .. } => username.clone(),
            Self::Unknown { unknown: PENDING } => PENDING.to_owned(),
            Self::Unknown { unknown } => format!("unknown({unknown})"),
        }
    }
}

/// Askers of the secrets of a successful admission, in the order of its targets; none for other records.
pub(super) fn askers(
    record: &Value,
    position: LinePosition,
    attribution: Option<&RecordAttribution>,
) -> Vec<PrintedAsker> {
    let is_admission = [
        Action::AdmitPod,
        Action::AdmitWorkload,
        Action::AdmitDefaults,
    ]
    .iter()
    .any(|action| text(record, &["action"]) == action.as_str());
    if !is_admission || text(record, &["outcome"]) != RecordOutcome::Success.as_str() {
        return Vec::new();
    }
    let targets = field(record, &["targets"]).as_array().into_iter().flatten();
    let asker = |(index, target): (u32, &Value)| {
        let found = attribution.and_then(|attribution| {
            let mut targets = attribution.targets.iter();
            targets.find(|found| found.target == index)
        });
        let asked_by = match found.map(|found| &found.asked_by) {
            Some(AskedBy::Requester { requester, source }) => PrintedAskedBy::Requester {
                username: requester.username.clone(),
                uid: requester.uid.clone(),
                position: source.0,
            },
            Some(AskedBy::Unknown(reason)) => PrintedAskedBy::Unknown {
                unknown: reason.as_str(),
            },
            None if attribution.is_some_and(|attribution| attribution.is_pending) => {
                PrintedAskedBy::Unknown { unknown: PENDING }
            }
            None => PrintedAskedBy::Requester {
                username: actor(record),
                uid: text(record, &["actor", "uid"]),
                position: position.0,
            },
        };
        PrintedAsker {
            backend: text(target, &["backend"]),
            namespace: text(target, &["namespace"]),
            name: text(target, &["name"]),
            asked_by,
        }
    };
    (0..).zip(targets).map(asker).collect()
}

/// Askers in one cell: the name of the only one, or one for each secret.
pub(super) fn cell(askers: &[PrintedAsker]) -> String {
    let Some(first) = askers.first() else {
        return String::new();
    };
    let is_same = |asker: &PrintedAsker| asker.asked_by.shown() == first.asked_by.shown();
    if askers.iter().all(is_same) {
        return first.asked_by.shown();
    }
    let named = |asker: &PrintedAsker| {
        let PrintedAsker {
            namespace, name, ..
        } = asker;
        format!("{namespace}/{name}={}", asker.asked_by.shown())
    };
    let mut cells: Vec<String> = askers.iter().map(named).collect();
    cells.dedup();
    cells.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::asked_by::{Requester, UnknownReason};
    use crate::store::TargetAttribution;
    use serde_json::json;

    fn record() -> Value {
        json!({
            "action": "pod.admit", "outcome": "success", "actor": {"username": "controller", "uid": "c"},
            "targets": [
                {"backend": "kubernetes", "namespace": "jobs", "name": "a"},
                {"backend": "kubernetes", "namespace": "jobs", "name": "b"},
            ],
        })
    }

    fn attribution(is_pending: bool, askers: &[(u32, AskedBy)]) -> RecordAttribution {
        let target = |(target, asked_by): &(u32, AskedBy)| TargetAttribution {
            target: *target,
            asked_by: asked_by.clone(),
        };
        RecordAttribution {
            position: LinePosition(9),
            is_pending,
            targets: askers.iter().map(target).collect(),
        }
    }

    fn alice() -> AskedBy {
        AskedBy::Requester {
            requester: Requester {
                username: "alice".to_owned(),
                uid: "u".to_owned(),
            },
            source: LinePosition(3),
        }
    }

    fn found(attribution: Option<&RecordAttribution>) -> Vec<PrintedAsker> {
        askers(&record(), LinePosition(9), attribution)
    }

    #[test]
    fn cell_has_each_asker_of_different_ones() {
        let unknown = AskedBy::Unknown(UnknownReason::NoRecord);
        let cell = |attribution: RecordAttribution| cell(&found(Some(&attribution)));
        assert_eq!(cell(attribution(false, &[])), "controller");
        assert_eq!(cell(attribution(true, &[])), "pending");
        let both = [(0, alice()), (1, alice())];
        assert_eq!(cell(attribution(false, &both)), "alice");
        let differing = [(0, alice()), (1, unknown)];
        assert_eq!(
            cell(attribution(false, &differing)),
            "jobs/a=alice jobs/b=unknown(no-record)"
        );
        assert_eq!(
            cell(attribution(true, &both[..1])),
            "jobs/a=alice jobs/b=pending"
        );
        assert_eq!(super::cell(&found(None)), "controller");
    }

    #[test]
    fn asker_is_printed_with_its_record() {
        let unknown = AskedBy::Unknown(UnknownReason::OwnerGone);
        let known = attribution(false, &[(0, alice()), (1, unknown)]);
        let expected = json!([
            {"backend": "kubernetes", "namespace": "jobs", "name": "a", "username": "alice", "uid": "u", "position": 3},
            {"backend": "kubernetes", "namespace": "jobs", "name": "b", "unknown": "owner-gone"},
        ]);
        assert_eq!(serde_json::to_value(found(Some(&known))).unwrap(), expected);
    }

    #[test]
    fn other_records_have_no_askers() {
        for (field, value) in [("outcome", "denied"), ("action", "system.start")] {
            let mut record = record();
            record[field] = value.into();
            assert!(askers(&record, LinePosition(1), None).is_empty());
        }
    }
}
