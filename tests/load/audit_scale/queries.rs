//! Queries of a filled store, by what a query names.

use std::time::{Duration, Instant};

use fastrand::Rng;
use floe_secrets_webhook::store::{
    AuditStore, EventFilter, EventPage, EventQuery, ExportRange, LinePosition, MAX_RANGE,
    QueryArguments, RetentionRule, SecretFilter,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::print_line;
use super::records::{
    CONTROLLERS, NAMESPACES, SECRETS_OF_NAMESPACE, namespace, secret, skewed, user,
};
use super::report::Durations;
use super::store::FilledStore;

/// Calls of each kind.
const CALLS: usize = 100;

/// Promise of a query by secret, by actor or by time: 99 of 100.
const PROMISE: Duration = Duration::from_millis(100);

/// Age of records that a query without a range finds anyway, because their secret or their actor's uid is named.
const ALL: SignedDuration = SignedDuration::from_hours(90 * 24);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Kinds of queries: name, and whether the promise is about it.
const KINDS: &[(&str, bool)] = &[
    ("secret, a day", true),
    ("secret, always", true),
    ("secret, refusals, always", true),
    ("secret and actor, always", true),
    ("user, 31 days", true),
    ("controller, 31 days", true),
    ("controller in a namespace", true),
    ("uid of a user, always", true),
    ("time, a day", true),
    ("time, an hour long ago", true),
    ("namespace, a day", true),
    ("refusals, 31 days", true),
    ("workloads, 31 days", true),
    ("an absent action, 31 days", true),
    ("an absent class, 31 days", true),
    ("id of a record", true),
    ("uid of a request", true),
];

/// Maker of queries with random names, for records of the store.
pub struct QueryMaker {
    pub random: Rng,
    /// Time of the last record.
    end: Timestamp,
    samples: Vec<Value>,
}

impl QueryMaker {
    pub async fn new(filled: &FilledStore) -> Self {
        let mut maker = Self {
            random: Rng::with_seed(2),
            end: filled.cluster.time(),
            samples: Vec::new(),
        };
        for _ in 0..20 {
            let query = maker.query("time, an hour long ago");
            let page = filled.store.query(&query).await.expect("a page");
            let records = page.events.iter().map(|event| &event.line);
            let records = records.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            // Checkpoints have no requester.
            let records = records.filter(|record| record.get("actor").is_some());
            maker.samples.extend(records);
        }
        maker
    }

    pub fn query(&mut self, kind: &str) -> EventQuery {
        let mut arguments = QueryArguments {
            filter: self.filter(kind),
            ..QueryArguments::default()
        };
        let is_found_by_id = kind.starts_with("id") || kind.starts_with("uid of a request");
        if kind == "time, an hour long ago" {
            let hours = self.random.i64(1..24 * 70);
            let from = self.end - SignedDuration::from_hours(hours);
            arguments.from = Some(from);
            arguments.to = Some(from + SignedDuration::from_hours(1));
        } else if !is_found_by_id {
            let range = if kind.contains("day") && !kind.contains("31") {
                DAY
            } else if kind.contains("always") {
                ALL
            } else {
                MAX_RANGE
            };
            arguments.from = Some(self.end - range);
        }
        EventQuery::new(arguments, self.end).expect("a query")
    }

    fn filter(&mut self, kind: &str) -> EventFilter {
        let mut filter = EventFilter::default();
        let of = skewed(&mut self.random, NAMESPACES);
        let someone = user(self.random.usize(0..400));
        if kind.starts_with("secret") {
            let number = self.random.usize(0..SECRETS_OF_NAMESPACE);
            filter.secret = Some(SecretFilter {
                namespace: namespace(of),
                name: secret(number),
            });
        }
        if kind.contains("actor") || kind.starts_with("user") {
            filter.actor = Some(someone);
        } else if kind.starts_with("controller") {
            let number = self.random.usize(0..CONTROLLERS.len());
            filter.actor = CONTROLLERS.get(number).map(|name| (*name).to_owned());
        }
        if kind.contains("namespace") {
            filter.namespace = Some(namespace(of));
        }
        if kind.contains("refusals") {
            filter.outcome = Some("denied".to_owned());
        }
        match kind {
            "workloads, 31 days" => filter.action = Some("workload.admit".to_owned()),
            "an absent action, 31 days" => filter.action = Some("defaults.admit".to_owned()),
            "an absent class, 31 days" => filter.class = Some("policy".to_owned()),
            "uid of a user, always" => filter.actor_uid = self.sample("/actor/uid"),
            "id of a record" => filter.id = self.sample("/id"),
            "uid of a request" => filter.request_uid = self.sample("/request/admission_uid"),
            _ => {}
        }
        filter
    }

    fn sample(&mut self, pointer: &str) -> Option<String> {
        let record = self.random.choice(&self.samples);
        let text = record.and_then(|record| record.pointer(pointer)?.as_str());
        text.map(str::to_owned)
    }
}

/// Measures all kinds, and what `admin` reads. Returns the kinds that exceed the promise.
pub async fn measure(filled: &FilledStore, state: &str) -> Vec<String> {
    let mut maker = QueryMaker::new(filled).await;
    let store = filled.store.as_ref();
    let mut exceeded = Vec::new();
    for (kind, is_promised) in KINDS {
        let (mut queries, mut attributions) = (Durations::default(), Durations::default());
        let mut found = 0;
        for _ in 0..CALLS {
            let query = maker.query(kind);
            let began = Instant::now();
            let page = store.query(&query).await;
            queries.push(began.elapsed());
            if let Ok(page) = page {
                found += page.events.len();
                attributions.push(join(store, &page).await);
            }
        }
        print_line(&format!(
            "query, {state}: {kind:<26} {queries}, {found} events"
        ));
        print_line(&format!("who asked, {state}: {kind:<22} {attributions}"));
        if *is_promised && queries.at(99) + attributions.at(99) > PROMISE {
            exceeded.push(format!("{kind}, {state}"));
        }
    }
    reads_of_admin(filled, &mut maker.random, state).await;
    exceeded
}

/// Time of reading who asked for the secrets of a page.
async fn join(store: &dyn AuditStore, page: &EventPage) -> Duration {
    let positions: Vec<_> = page.events.iter().map(|event| event.position).collect();
    let began = Instant::now();
    store.attributions(&positions).await.expect("attributions");
    began.elapsed()
}

/// Reads that no query makes: followers, exports, and the tasks of `admin`.
async fn reads_of_admin(filled: &FilledStore, random: &mut Rng, state: &str) {
    let store = filled.store.as_ref();
    let all = EventFilter::default();
    let rare = EventFilter {
        actor: Some(user(7)),
        ..EventFilter::default()
    };
    let range = ExportRange {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let rule = RetentionRule {
        older_than: filled.cluster.time() - SignedDuration::from_hours(79 * 24),
        min_age: Timestamp::MAX,
        max_bytes: Some(0),
    };
    for kind in [
        "follow",
        "follow a user",
        "export a page",
        "chains",
        "counts",
        "retained",
        "plan",
    ] {
        let mut calls = Durations::default();
        for _ in 0..CALLS / 5 {
            let position = LinePosition(random.u64(1..filled.rows.max(2)));
            let began = Instant::now();
            match kind {
                "follow" => drop(store.follow(&all, position).await.expect(kind)),
                "follow a user" => drop(store.follow(&rare, position).await.expect(kind)),
                "export a page" => drop(store.export(range, position).await.expect(kind)),
                "chains" => drop(store.chains().await.expect(kind)),
                "counts" => drop(store.counts().await.expect(kind)),
                "retained" => drop(store.retained().await.expect(kind)),
                _ => drop(store.plan_retention(rule).await.expect(kind)),
            }
            calls.push(began.elapsed());
        }
        print_line(&format!("read, {state}: {kind:<27} {calls}"));
    }
}
