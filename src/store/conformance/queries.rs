//! Clauses about queries.

use super::{Trail, exported, fill, query, second, start, target};
use crate::audit::record::{Action, Actor, Class, ObjectFields, RecordOutcome};
use crate::audit::text::Text;
use crate::store::{
    AuditStore, EventFilter, EventQuery, LinePosition, QueryArguments, SecretFilter, StoredEvent,
};

fn ids(events: &[StoredEvent]) -> Vec<String> {
    let id = |event: &StoredEvent| {
        let record: serde_json::Value = serde_json::from_str(&event.line).unwrap();
        record["id"].as_str().unwrap().to_owned()
    };
    events.iter().map(id).collect()
}

fn secret(name: &str) -> SecretFilter {
    SecretFilter {
        namespace: "jobs".to_owned(),
        name: name.to_owned(),
    }
}

/// Four events that differ in each field that is filtered.
async fn differing(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let usual = trail.record();
    let first = trail.line_of(usual);
    let mut record = trail.record();
    record.targets = vec![target("db"), target("cache"), target("db")];
    record.outcome = RecordOutcome::Denied;
    record.actor = Some(Actor {
        kind: "kubernetes",
        uid: Text::new("uid-bob"),
        username: Text::new("bob"),
        ..Actor::default()
    });
    let second = trail.line_of(record);
    let mut record = trail.record();
    (record.action, record.class) = (Action::AdmitDefaults, Class::Policy);
    record.object = Some(ObjectFields {
        kind: Text::new("Namespace"),
        name: Text::new("web"),
        ..ObjectFields::default()
    });
    record.targets.clear();
    let third = trail.line_of(record);
    store
        .append(trail.batch(&[first, second, third]))
        .await
        .unwrap();
    fill(store, &mut Trail::new("b"), 1).await;
}

/// Filters as `FIELD=TEXT`, with the ids of the events that they have.
const FILTERS: &[(&str, &[&str])] = &[
    ("", &["a-1", "a-2", "a-3", "b-1"]),
    ("secret=db", &["a-1", "a-2", "b-1"]),
    ("secret=cache", &["a-2"]),
    ("secret=other", &[]),
    ("namespace=web", &["a-3"]),
    ("namespace=jobs actor=alice", &["a-1", "b-1"]),
    ("actor=bob", &["a-2"]),
    ("actor=BOB", &[]),
    ("actor='OR'1'='1'--", &[]),
    ("actor_uid=uid-bob", &["a-2"]),
    ("actor_uid=", &[]),
    ("action=defaults.admit", &["a-3"]),
    ("outcome=denied", &["a-2"]),
    ("outcome=success", &["a-1", "a-3", "b-1"]),
    ("class=policy", &["a-3"]),
    ("chain=b/1", &["b-1"]),
    ("chain=c/1", &[]),
    ("id=a-2", &["a-2"]),
    ("id=a-2 secret=cache", &["a-2"]),
    ("id=a-1 secret=cache", &[]),
    ("request_uid=request-a-3", &["a-3"]),
    ("secret=db outcome=denied", &["a-2"]),
];

fn filter(text: &str) -> EventFilter {
    let mut filter = EventFilter::default();
    for part in text.split_whitespace() {
        let (field, value) = part.split_once('=').unwrap();
        let value = Some(value.to_owned());
        match field {
            "secret" => filter.secret = value.map(|name| secret(&name)),
            "namespace" => filter.namespace = value,
            "actor" => filter.actor = value,
            "actor_uid" => filter.actor_uid = value,
            "action" => filter.action = value,
            "outcome" => filter.outcome = value,
            "class" => filter.class = value,
            "chain" => filter.chain = value,
            "id" => filter.id = value,
            "request_uid" => filter.request_uid = value,
            _ => panic!("no field {field}"),
        }
    }
    filter
}

pub async fn filters_compare_each_field(store: &dyn AuditStore) {
    differing(store).await;
    for (text, expected) in FILTERS {
        let filter = filter(text);
        let page = store.query(&query(filter.clone())).await.unwrap();
        let followed = store.follow(&filter, LinePosition::default());
        for events in [page.events, followed.await.unwrap().events] {
            let mut found = ids(&events);
            found.sort();
            assert_eq!(found, *expected, "{text}");
        }
    }
}

pub async fn range_has_its_start_and_not_its_end(store: &dyn AuditStore) {
    fill(store, &mut Trail::new("a"), 5).await;
    for filter in [
        EventFilter::default(),
        EventFilter {
            secret: Some(secret("db")),
            ..EventFilter::default()
        },
    ] {
        let arguments = QueryArguments {
            filter,
            from: Some(second(1)),
            to: Some(second(3)),
            ..QueryArguments::default()
        };
        let query = EventQuery::new(arguments, start()).unwrap();
        let page = store.query(&query).await.unwrap();
        assert_eq!(ids(&page.events), ["a-3", "a-2"]);
    }
}

pub async fn pages_have_each_event_once(store: &dyn AuditStore) {
    // Each time is that of two events.
    for pod in ["a", "b"] {
        fill(store, &mut Trail::new(pod), 20).await;
    }
    let by_secret = EventFilter {
        secret: Some(secret("db")),
        ..EventFilter::default()
    };
    let by_actor = EventFilter {
        actor: Some("alice".to_owned()),
        ..EventFilter::default()
    };
    for filter in [EventFilter::default(), by_secret, by_actor] {
        let mut arguments = QueryArguments {
            filter,
            from: Some(start()),
            limit: Some(7),
            ..QueryArguments::default()
        };
        let mut found = Vec::new();
        loop {
            let query = EventQuery::new(arguments.clone(), second(3_600)).unwrap();
            let page = store.query(&query).await.unwrap();
            assert!(page.events.len() <= 7);
            found.extend(page.events);
            match page.next {
                Some(next) => arguments.cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(found.len(), 40);
        let order: Vec<_> = found
            .iter()
            .map(|event| (event.time, event.position))
            .collect();
        assert!(order.windows(2).all(|pair| pair[0] > pair[1]), "{order:?}");
    }
}

pub async fn followers_miss_nothing(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    fill(store, &mut trail, 1_100).await;
    let all = EventFilter::default();
    let (mut found, mut after) = (Vec::new(), LinePosition::default());
    for _ in 0..3 {
        let followed = store.follow(&all, after).await.unwrap();
        found.extend(ids(&followed.events));
        after = followed.position;
    }
    assert_eq!(after, *store.committed().borrow());
    assert_eq!(found.len(), 1_100);
    fill(store, &mut trail, 1).await;
    let followed = store.follow(&all, after).await.unwrap();
    assert_eq!(ids(&followed.events), ["a-1101"]);
    let rare = EventFilter {
        secret: Some(secret("other")),
        ..EventFilter::default()
    };
    let followed = store.follow(&rare, LinePosition::default()).await.unwrap();
    assert_eq!(followed.position, *store.committed().borrow());
    let beyond = LinePosition(u64::MAX >> 1);
    assert_eq!(store.follow(&all, beyond).await.unwrap().position, beyond);
}

pub async fn export_has_the_lines_of_a_range(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    assert_eq!(exported(store, start(), second(9)).await, [""; 0]);
    let lines = fill(store, &mut trail, 1_005).await;
    assert_eq!(exported(store, start(), second(2_000)).await, lines);
    assert_eq!(exported(store, second(2), second(4)).await, lines[2..4]);
}
