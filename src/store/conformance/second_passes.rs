//! Clauses about second passes of a pod.

use jiff::{SignedDuration, Timestamp};

use super::{Trail, exported, query, second, start};
use crate::audit::record::{Record, RecordOutcome};
use crate::audit::stored::StoredLine;
use crate::audit::text::Text;
use crate::store::import::Import;
use crate::store::{
    AuditStore, EventFilter, LinePosition, MAX_IMPORT_BYTES, RetentionRule, StoredEvent,
};

/// Admission of a pod by the request `uid`, whose annotation has the request `found`.
fn pass(trail: &Trail, uid: &str, found: &str, time: Timestamp) -> Record {
    let mut record = trail.record();
    let request = record.request.as_mut().unwrap();
    (request.admission_uid, request.found_event) = (Text::new(uid), Text::new(found));
    record.time = time;
    record
}

fn later(milliseconds: i64) -> Timestamp {
    start() + SignedDuration::from_millis(milliseconds)
}

/// Appends a record as the next line of a chain.
async fn append(store: &dyn AuditStore, trail: &mut Trail, record: Record) -> LinePosition {
    let line = trail.line_of(record);
    store.append(trail.batch(&[line])).await.unwrap();
    *store.committed().borrow()
}

async fn events(store: &dyn AuditStore, filter: EventFilter) -> Vec<StoredEvent> {
    let mut filter = query(filter);
    filter.from = i64::MIN;
    let page = store.query(&filter).await.unwrap();
    let followed = store.follow(&filter.filter, LinePosition::default());
    let mut followed = followed.await.unwrap().events;
    let mut events = page.events;
    assert_eq!(events.len(), followed.len());
    events.sort_by_key(|event| event.position);
    followed.sort_by_key(|event| event.position);
    assert_eq!(events, followed);
    events
}

/// Positions of uses.
async fn uses(store: &dyn AuditStore) -> Vec<LinePosition> {
    let events = events(store, EventFilter::default()).await;
    assert!(events.iter().all(|event| event.second_pass_of.is_none()));
    events.iter().map(|event| event.position).collect()
}

/// Positions of second passes with those of the first ones.
async fn pairs(store: &dyn AuditStore) -> Vec<(LinePosition, LinePosition)> {
    let filter = EventFilter {
        second_passes: true,
        ..EventFilter::default()
    };
    let events = events(store, filter).await.into_iter();
    let pair = |event: StoredEvent| Some((event.position, event.second_pass_of?));
    events.filter_map(pair).collect()
}

pub async fn second_pass_is_one_use(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let record = pass(&trail, "705ab4f5-6393-11e8-b7cc-42010a800002", "", start());
    let first = append(store, &mut trail, record).await;
    let record = pass(
        &trail,
        "2",
        "705ab4f5-6393-11e8-b7cc-42010a800002",
        later(4),
    );
    let again = append(store, &mut trail, record).await;
    assert_eq!(uses(store).await, [first]);
    assert_eq!(pairs(store).await, [(again, first)]);
    assert_eq!(exported(store, start(), second(9)).await.len(), 2);
    assert_eq!(store.counts().await.unwrap().lines, 2);
    // A record that is named is found.
    for (id, request_uid) in [(Some("a-2"), None), (None, Some("2"))] {
        let filter = EventFilter {
            id: id.map(str::to_owned),
            request_uid: request_uid.map(str::to_owned),
            ..EventFilter::default()
        };
        let found = events(store, filter).await;
        assert_eq!((found.len(), found[0].second_pass_of), (1, Some(first)));
    }
}

pub async fn second_pass_is_found_in_both_orders(store: &dyn AuditStore) {
    let (mut one, mut other) = (Trail::new("a"), Trail::new("b"));
    let record = pass(&other, "2", "1", later(4));
    let again = append(store, &mut other, record).await;
    assert_eq!(uses(store).await, [again]);
    let record = pass(&one, "1", "", start());
    let first = append(store, &mut one, record).await;
    assert_eq!(uses(store).await, [first]);
    assert_eq!(pairs(store).await, [(again, first)]);
    // The clock of the second replica is behind.
    let record = pass(&other, "4", "3", later(-4_000));
    append(store, &mut other, record).await;
    let record = pass(&one, "3", "", start());
    append(store, &mut one, record).await;
    assert_eq!(pairs(store).await.len(), 2);
}

pub async fn other_records_are_uses_of_their_own(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let usual = |found: &str, milliseconds| pass(&trail, "2", found, later(milliseconds));
    let mut other_requester = usual("1", 4);
    other_requester.actor.as_mut().unwrap().username = Text::new("mallory");
    let mut other_name = usual("1", 4);
    other_name.object.as_mut().unwrap().name = Text::new("copy");
    let mut other_secret = usual("1", 4);
    other_secret.targets[0].name = Text::new("cache");
    let mut refused = usual("1", 4);
    refused.outcome = RecordOutcome::Denied;
    let records = vec![
        usual("1", 30_000),
        usual("1", -5_001),
        usual("forged", 4),
        other_requester,
        other_name,
        other_secret,
        refused,
        // The pass of a pod that was copied from a second pass.
        usual("2", 4),
        pass(&trail, "1", "", start()),
        usual("1", 30_000),
    ];
    let count = records.len();
    for record in records {
        append(store, &mut trail, record).await;
    }
    assert_eq!(uses(store).await.len(), count);
    assert_eq!(pairs(store).await, []);
}

pub async fn use_has_one_second_pass(store: &dyn AuditStore) {
    let (mut one, mut other) = (Trail::new("a"), Trail::new("b"));
    let copy = |trail: &Trail, milliseconds| pass(trail, "2", "1", later(milliseconds));
    let record = copy(&other, 30);
    append(store, &mut other, record).await;
    let record = copy(&other, 20);
    let earlier = append(store, &mut other, record).await;
    let record = pass(&one, "1", "", start());
    let first = append(store, &mut one, record).await;
    assert_eq!(pairs(store).await, [(earlier, first)]);
    let record = copy(&other, 25);
    append(store, &mut other, record).await;
    assert_eq!(pairs(store).await, [(earlier, first)]);
    let record = copy(&one, 10);
    let earliest = append(store, &mut one, record).await;
    assert_eq!(pairs(store).await, [(earliest, first)]);
    assert_eq!(uses(store).await.len(), 4);
}

pub async fn deleted_pass_leaves_a_use(store: &dyn AuditStore) {
    let (mut one, mut other) = (Trail::new("a"), Trail::new("b"));
    let record = pass(&one, "1", "", start());
    append(store, &mut one, record).await;
    let record = pass(&other, "2", "1", later(4));
    let again = append(store, &mut other, record).await;
    let rule = RetentionRule {
        older_than: later(4),
        min_age: Timestamp::MAX,
        max_bytes: None,
    };
    let plan = store.plan_retention(rule).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(1));
    assert_eq!(uses(store).await, [again]);
    assert_eq!(pairs(store).await, []);
    // A line of another request has no part in what was deleted.
    let record = pass(&other, "3", "1", later(5));
    append(store, &mut other, record).await;
    let rule = RetentionRule {
        older_than: Timestamp::MAX,
        ..rule
    };
    let plan = store.plan_retention(rule).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(2));
    let record = pass(&one, "1", "", start());
    append(store, &mut one, record).await;
    assert_eq!(uses(store).await.len(), 1);
}

pub async fn imported_pass_is_found(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let record = pass(&trail, "1", "", start());
    let first = trail.line_of(record);
    let record = pass(&trail, "2", "1", later(4));
    let again = trail.line_of(record);
    let batch = trail.batch(std::slice::from_ref(&again)).lost_before();
    store.append(batch).await.unwrap();
    assert_eq!(uses(store).await.len(), 1);
    let mut import = Import::new(store, MAX_IMPORT_BYTES);
    let line = StoredLine::parse(first.as_bytes()).unwrap();
    import.push(line).await.unwrap();
    assert_eq!(import.finish().await.unwrap().added, 1);
    assert_eq!(uses(store).await.len(), 1);
    let pairs = pairs(store).await;
    assert!(pairs[0].0 < pairs[0].1, "{pairs:?}");
}
