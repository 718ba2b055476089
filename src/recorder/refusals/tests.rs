use super::*;
use crate::audit::emitter::Emitter;
use crate::audit::record::{
    Action, Actor, Class, Interval, ObjectFields, OwnerFields, RecordOutcome, Service,
};
use crate::audit::target::TargetSecret;
use crate::audit::text::Text;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

fn time(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

/// Refusal in a namespace, of a pod of this owner.
fn refusal(namespace: &str, owner: &str, seconds: i64) -> Box<Record> {
    let emitter = Emitter {
        cluster: Text::new("prod"),
        service: Service::default(),
        time: time(seconds),
        id: Text::new("id"),
    };
    let mut record = emitter.record(Class::Injection, Action::AdmitPod, RecordOutcome::Denied);
    record.actor = Some(Actor {
        kind: "kubernetes",
        username: Text::new("system:serviceaccount:kube-system:replicaset-controller"),
        ..Actor::default()
    });
    record.decision = "denied";
    record.object = Some(ObjectFields {
        kind: Text::new("Pod"),
        namespace: Text::new(namespace),
        owner: Some(OwnerFields {
            kind: Text::new("ReplicaSet"),
            name: Text::new(owner),
            ..OwnerFields::default()
        }),
        ..ObjectFields::default()
    });
    record.reason = "not_found";
    record.targets = vec![TargetSecret {
        name: Text::new("db"),
        ..TargetSecret::default()
    }];
    Box::new(record)
}

/// Refusals on a clock that the test moves.
struct Scenario {
    refusals: Refusals,
    start: Instant,
    written: Vec<Record>,
}

impl Scenario {
    fn new() -> Self {
        Self {
            refusals: Refusals::default(),
            start: Instant::now(),
            written: Vec::new(),
        }
    }

    /// Refuses a pod as the writer does, and returns whether that has a record of its own.
    fn refuse(&mut self, namespace: &str, owner: &str, seconds: i64) -> bool {
        self.advance(seconds);
        let now = self.at(seconds);
        let record = self
            .refusals
            .filter(refusal(namespace, owner, seconds), now);
        let is_written = record.is_some();
        self.written.extend(record.map(|record| *record));
        is_written
    }

    fn at(&self, seconds: i64) -> Instant {
        self.start + Duration::from_secs(seconds.unsigned_abs())
    }

    fn advance(&mut self, seconds: i64) {
        let now = self.at(seconds);
        self.written.extend(self.refusals.take_due(now));
    }

    /// Number of refusals that the records stand for.
    fn accounted(&self) -> u64 {
        let count = |record: &Record| record.repeat.map_or(1, |repeat| repeat.count);
        self.written.iter().map(count).sum()
    }
}

#[test]
fn repeated_refusal_has_a_record_at_once_and_one_per_minute() {
    let mut scenario = Scenario::new();
    assert!(scenario.refuse("jobs", "dbt", 0));
    for seconds in 1..180 {
        assert!(!scenario.refuse("jobs", "dbt", seconds), "{seconds}");
    }
    scenario.advance(180);
    let counts: Vec<_> = scenario
        .written
        .iter()
        .map(|record| record.repeat)
        .collect();
    let repeat = |count, from, to| {
        let (from, to) = (time(from), time(to));
        Some(Interval { count, from, to })
    };
    assert_eq!(
        counts,
        [
            None,
            repeat(59, 1, 59),
            repeat(60, 60, 119),
            repeat(60, 120, 179)
        ]
    );
    assert_eq!(scenario.written[1].targets, scenario.written[0].targets);
    assert_eq!(scenario.written[1].object, scenario.written[0].object);
    // A refusal that does not repeat for a minute is forgotten.
    scenario.advance(240);
    assert_eq!(scenario.refusals.due(), None);
    assert!(scenario.refuse("jobs", "dbt", 241));
    assert_eq!(scenario.accounted(), 181);
}

#[test]
fn different_refusals_have_records_of_their_own() {
    let mut scenario = Scenario::new();
    assert!(scenario.refuse("jobs", "dbt", 0));
    assert!(scenario.refuse("jobs", "other", 0));
    assert!(scenario.refuse("other", "dbt", 0));
    let mut by_reason = refusal("jobs", "dbt", 0);
    by_reason.reason = "conflict";
    let mut by_secret = refusal("jobs", "dbt", 0);
    by_secret.targets[0].name = Text::new("db2");
    let mut by_requester = refusal("jobs", "dbt", 0);
    by_requester.object = Some(ObjectFields {
        namespace: Text::new("jobs"),
        ..ObjectFields::default()
    });
    for record in [by_reason, by_secret, by_requester] {
        let repeated = record.clone();
        assert!(scenario.refusals.filter(record, scenario.start).is_some());
        assert!(scenario.refusals.filter(repeated, scenario.start).is_none());
    }
}

#[test]
fn admitted_object_always_has_a_record() {
    let mut scenario = Scenario::new();
    for decision in ["injected", "skipped", "mutated", "degraded", "validated"] {
        for _ in 0..1_000 {
            let mut record = refusal("jobs", "dbt", 0);
            record.decision = decision;
            assert!(scenario.refusals.filter(record, scenario.start).is_some());
        }
    }
    assert_eq!(scenario.refusals.due(), None);
}

#[test]
fn refusals_beyond_the_limit_of_a_namespace_are_one_record_per_minute() {
    let mut scenario = Scenario::new();
    for owner in 0..1_000 {
        let written = scenario.refuse("jobs", &format!("owner-{owner}"), owner / 50);
        assert_eq!(written, owner < i64::from(MAX_REFUSED_RECORDS), "{owner}");
    }
    assert!(
        scenario.refuse("other", "dbt", 20),
        "another namespace is not affected"
    );
    scenario.advance(60);
    let record = scenario.written.last().unwrap();
    let repeat = record.repeat.unwrap();
    assert_eq!(
        (repeat.count, repeat.from, repeat.to),
        (940, time(1), time(19))
    );
    assert_eq!(record.object.as_ref().unwrap().namespace.as_str(), "jobs");
    assert!(record.actor.is_none() && record.targets.is_empty() && record.reason.is_empty());
    assert_eq!(scenario.accounted(), 1_001);
}

#[test]
fn records_of_one_namespace_stay_within_the_limit_for_hours() {
    let mut scenario = Scenario::new();
    for seconds in 0..7_200 {
        for attempt in 0..5 {
            // Some owners repeat, and others are new each time.
            let owner = if attempt < 2 {
                seconds % 90
            } else {
                seconds * 5 + attempt
            };
            scenario.refuse("jobs", &format!("owner-{owner}"), seconds);
        }
        assert!(scenario.refusals.keys <= 2 * MAX_REFUSED_RECORDS as usize);
    }
    scenario.written.extend(scenario.refusals.take_all());
    assert_eq!(
        scenario.accounted(),
        5 * 7_200,
        "each refusal is counted once"
    );
    let limit = 121 * (MAX_REFUSED_RECORDS as usize + 1) + 2 * MAX_REFUSED_RECORDS as usize;
    assert!(
        scenario.written.len() <= limit,
        "{}",
        scenario.written.len()
    );
}

#[test]
fn memory_is_bounded_for_many_namespaces_and_owners() {
    let mut scenario = Scenario::new();
    for namespace in 0..2_000 {
        for owner in 0..3 {
            scenario.refuse(&format!("n-{namespace}"), &format!("o-{owner}"), 0);
        }
        assert!(scenario.refusals.namespaces.len() <= MAX_NAMESPACES);
        assert!(scenario.refusals.keys <= MAX_KEYS);
    }
    scenario.advance(60);
    assert_eq!(scenario.accounted(), 6_000);
    let shared = scenario
        .written
        .iter()
        .filter(|record| record.object.is_none());
    assert_eq!(
        shared.count(),
        1,
        "namespaces beyond the limit share a record"
    );
    scenario.advance(121);
    assert!(scenario.refusals.namespaces.is_empty() && scenario.refusals.keys == 0);
}

#[test]
fn end_reports_what_is_counted() {
    let mut scenario = Scenario::new();
    for seconds in 0..10 {
        scenario.refuse("jobs", "dbt", seconds);
    }
    let records = scenario.refusals.take_all();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].repeat.unwrap().count, 9);
    assert!(scenario.refusals.take_all().is_empty());
}
