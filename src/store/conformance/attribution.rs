//! Clauses about attribution.

use super::{Trail, second, start, target};
use crate::audit::asked_by::{Requester, UnknownReason};
use crate::audit::record::{Action, ObjectFields, OwnerFields, Record, RecordOutcome};
use crate::audit::stored::AuthorObject;
use crate::audit::text::Text;
use crate::store::{
    AskedBy, AttributedRecord, AuditStore, LinePosition, MAX_OBJECT_RECORDS, MAX_UNATTRIBUTED,
    RecordAttribution, RetentionRule, TargetAttribution,
};

/// Admission of a pod of a `ReplicaSet`.
fn owned(trail: &Trail) -> Record {
    let mut record = trail.record();
    record.object = Some(ObjectFields {
        kind: Text::new("Pod"),
        namespace: Text::new("jobs"),
        owner: Some(OwnerFields {
            kind: Text::new("ReplicaSet"),
            name: Text::new("dbt-7c5f"),
            uid: Text::new("9e31"),
        }),
        ..ObjectFields::default()
    });
    record
}

/// Admission of a Deployment.
fn workload(trail: &Trail, name: &str) -> Record {
    let mut record = trail.record();
    record.action = Action::AdmitWorkload;
    record.object = Some(ObjectFields {
        kind: Text::new("Deployment"),
        name: Text::new(name),
        namespace: Text::new("jobs"),
        ..ObjectFields::default()
    });
    record
}

async fn append(store: &dyn AuditStore, trail: &mut Trail, records: Vec<Record>) -> LinePosition {
    let line = |record| trail.line_of(record);
    let lines: Vec<String> = records.into_iter().map(line).collect();
    store.append(trail.batch(&lines)).await.unwrap();
    *store.committed().borrow()
}

async fn unattributed(store: &dyn AuditStore) -> Vec<LinePosition> {
    let found = store.unattributed(LinePosition::default()).await.unwrap();
    found.iter().map(|event| event.position).collect()
}

fn found(target: u32, username: &str) -> TargetAttribution {
    TargetAttribution {
        target,
        asked_by: AskedBy::Requester {
            requester: Requester {
                username: username.to_owned(),
                uid: format!("uid-{username}"),
            },
            source: LinePosition(1),
        },
    }
}

fn unknown(target: u32, reason: UnknownReason) -> TargetAttribution {
    TargetAttribution {
        target,
        asked_by: AskedBy::Unknown(reason),
    }
}

fn result(
    position: LinePosition,
    is_final: bool,
    targets: &[TargetAttribution],
) -> Vec<AttributedRecord> {
    vec![AttributedRecord {
        position,
        targets: targets.to_vec(),
        is_final,
    }]
}

async fn attribution(store: &dyn AuditStore, position: LinePosition) -> RecordAttribution {
    let found = store.attributions(&[position]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.into_iter().next().unwrap()
}

pub async fn records_with_other_authors_are_unattributed(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut defaults = trail.record();
    defaults.targets = vec![target("db"), target("cache")];
    defaults.targets[1].origin = "namespace";
    let mut refused = owned(&trail);
    refused.outcome = RecordOutcome::Denied;
    let records = vec![trail.record(), owned(&trail), refused, defaults];
    let last = append(store, &mut trail, records).await;
    let expected = [LinePosition(last.0 - 2), last];
    assert_eq!(unattributed(store).await, expected);
    let after = store.unattributed(expected[0]).await.unwrap();
    assert_eq!((after.len(), after[0].since), (1, None));
    assert!(after[0].line.contains(r#""origin":"namespace""#));
    let many = vec![owned(&trail); MAX_UNATTRIBUTED];
    append(store, &mut trail, many).await;
    assert_eq!(unattributed(store).await.len(), MAX_UNATTRIBUTED);
}

pub async fn admissions_are_found_by_object_and_time(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut refused = workload(&trail, "api");
    refused.outcome = RecordOutcome::Denied;
    // At 0, 1, 2, 3 and 4 seconds.
    let mut records = vec![
        workload(&trail, "api"),
        workload(&trail, "api"),
        refused,
        workload(&trail, "other"),
        workload(&trail, "api"),
    ];
    for (record, seconds) in records.iter_mut().zip(0..) {
        record.time = second(seconds);
    }
    append(store, &mut trail, records).await;
    let object = AuthorObject {
        namespace: "jobs".to_owned(),
        kind: "Deployment".to_owned(),
        name: "api".to_owned(),
    };
    let times = async |since, until| {
        let found = store.object_records(&object, second(since), second(until));
        let found = found.await.unwrap().into_iter();
        found
            .map(|event| (event.time - start()).get_seconds())
            .collect::<Vec<_>>()
    };
    assert_eq!(times(0, 9).await, [4, 1, 0]);
    assert_eq!(times(1, 4).await, [4, 1]);
    assert_eq!(times(2, 3).await, [] as [i64; 0]);
    let more = vec![workload(&trail, "api"); MAX_OBJECT_RECORDS + 3];
    append(store, &mut trail, more).await;
    assert_eq!(times(0, 9_999).await.len(), MAX_OBJECT_RECORDS + 1);
}

pub async fn result_is_written_until_it_is_final(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let record = owned(&trail);
    let position = append(store, &mut trail, vec![record]).await;
    let first = result(position, false, &[found(1, "bob")]);
    store.attribute(first.clone(), second(10)).await.unwrap();
    store.attribute(first, second(20)).await.unwrap();
    let pending = store.unattributed(LinePosition::default()).await.unwrap();
    assert_eq!(pending[0].since, Some(second(10)), "the first attempt");
    let known = attribution(store, position).await;
    assert!(known.is_pending);
    assert_eq!(known.targets, [found(1, "bob")]);
    let targets = [unknown(0, UnknownReason::NoRecord), found(1, "alice")];
    let last = result(position, true, &targets);
    store.attribute(last, second(30)).await.unwrap();
    assert_eq!(unattributed(store).await, []);
    let late = result(position, true, &[found(0, "mallory")]);
    store.attribute(late, second(40)).await.unwrap();
    let known = attribution(store, position).await;
    assert!(!known.is_pending);
    assert_eq!(known.targets, targets);
    let nothing = attribution(store, LinePosition(position.0 + 1)).await;
    assert!(!nothing.is_pending && nothing.targets.is_empty());
}

pub async fn deleted_lines_have_no_attribution(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let records = vec![workload(&trail, "api"), owned(&trail), owned(&trail)];
    let position = append(store, &mut trail, records).await;
    let known = result(position, true, &[found(0, "alice")]);
    store.attribute(known, second(10)).await.unwrap();
    let rule = RetentionRule {
        older_than: second(99),
        min_age: second(99),
        max_bytes: None,
    };
    let plan = store.plan_retention(rule).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(3));
    assert_eq!(unattributed(store).await, []);
    assert!(attribution(store, position).await.targets.is_empty());
    let late = LinePosition(position.0 - 1);
    let known = result(late, true, &[found(0, "alice")]);
    store.attribute(known, second(10)).await.unwrap();
    assert!(attribution(store, late).await.targets.is_empty());
    let object = AuthorObject {
        namespace: "jobs".to_owned(),
        kind: "Deployment".to_owned(),
        name: "api".to_owned(),
    };
    let found = store.object_records(&object, start(), second(99));
    assert_eq!(found.await.unwrap(), []);
}
