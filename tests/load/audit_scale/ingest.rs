//! Appends at a steady rate, while queries read and retention deletes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use floe_secrets_webhook::audit::verify::{Verdict, Verifier, VerifyOptions};
use floe_secrets_webhook::store::sqlite::SqliteStore;
use floe_secrets_webhook::store::{AuditStore as _, ExportRange, LinePosition, RetentionRule};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::print_line;
use super::queries::QueryMaker;
use super::records::Admin;
use super::report::{Durations, cpu_time};
use super::store::FilledStore;

/// Lines of an append, and the interval of appends: 1,000 lines a second.
const LINES: u64 = 50;
const INTERVAL: Duration = Duration::from_millis(50);

/// Duration of one measurement.
const DURATION: Duration = Duration::from_secs(30);

/// Pause of retention between two plans, as `admin` has it.
const PAUSE: Duration = Duration::from_secs(1);

/// Promise of an append while retention deletes: 99 of 100.
const PROMISE: Duration = Duration::from_millis(100);

/// Work beside appends.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    pub name: &'static str,
    pub queries: bool,
    pub retention: bool,
}

const fn beside(name: &'static str, queries: bool, retention: bool) -> Beside {
    Beside {
        name,
        queries,
        retention,
    }
}

const ARMS: &[Beside] = &[
    beside("alone", false, false),
    beside("beside queries", true, false),
    beside("beside retention", false, true),
    beside("beside both", true, true),
];

/// Measures the appends with each work beside them. Returns the kinds that exceed the promise.
pub async fn measure(filled: &mut FilledStore) -> Vec<String> {
    let mut exceeded = Vec::new();
    for arm in ARMS {
        let appends = measure_arm(filled, *arm).await;
        if arm.retention && appends.at(99) > PROMISE {
            exceeded.push(format!("append {}", arm.name));
        }
    }
    exceeded
}

pub async fn measure_arm(filled: &mut FilledStore, arm: Beside) -> Durations {
    let mut beside = JoinSet::new();
    if arm.queries {
        let (store, maker) = (Arc::clone(&filled.store), QueryMaker::new(filled).await);
        beside.spawn(query_always(store, maker));
    }
    if arm.retention {
        let (store, admin) = (Arc::clone(&filled.store), Arc::clone(&filled.admin));
        beside.spawn(delete_always(store, admin, filled.cluster.time()));
    }
    let before = filled.store.counts().await.expect("counts").lines;
    let (appends, appended, cpu) = append(filled).await;
    let after = filled.store.counts().await.expect("counts").lines;
    beside.shutdown().await;
    print_line(&format!(
        "append, {:<16}: {appends}; {appended} lines appended, {} deleted; {} % of a CPU, makers included",
        arm.name,
        before + appended - after,
        cpu.as_millis() * 100 / DURATION.as_millis().max(1),
    ));
    appends
}

/// Appends for a while. Returns the times, the lines, and the CPU time.
async fn append(filled: &mut FilledStore) -> (Durations, u64, Duration) {
    let line = u32::try_from(LINES).map_or(INTERVAL, |lines| INTERVAL / lines);
    let step = SignedDuration::try_from(line).expect("a short time");
    let now = Timestamp::now().max(filled.cluster.time());
    filled.cluster.skip_to(now, step);
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut appends, mut lines) = (JoinSet::new(), 0);
    while began.elapsed() < DURATION {
        tick.tick().await;
        let batch = filled.cluster.batch(LINES);
        lines += batch.lines;
        let store = Arc::clone(&filled.store);
        appends.spawn(async move {
            let began = Instant::now();
            store.append(batch.batch).await.expect("durable lines");
            began.elapsed()
        });
    }
    filled.rows += lines;
    let appends = appends.join_all().await.into_iter().collect();
    (appends, lines, cpu_time().saturating_sub(cpu))
}

/// Queries one after the other, half of them by secret.
async fn query_always(store: Arc<SqliteStore>, mut maker: QueryMaker) {
    loop {
        for kind in [
            "secret, always",
            "time, an hour long ago",
            "secret, a day",
            "user, 31 days",
        ] {
            let query = maker.query(kind);
            store.query(&query).await.expect("a page");
        }
    }
}

/// Deletes the oldest lines, plan by plan, as `admin` does it in a store that is too large.
async fn delete_always(store: Arc<SqliteStore>, admin: Arc<Mutex<Admin>>, end: Timestamp) {
    let rule = RetentionRule {
        older_than: Timestamp::MIN,
        min_age: end - SignedDuration::from_hours(24),
        max_bytes: Some(0),
    };
    loop {
        let plan = store.plan_retention(rule).await.expect("a plan");
        announce_and_delete(&store, &admin, plan).await;
        sleep(PAUSE).await;
    }
}

async fn announce_and_delete(
    store: &SqliteStore,
    admin: &Mutex<Admin>,
    plan: floe_secrets_webhook::store::RetentionPlan,
) -> u64 {
    let mut admin = admin.lock().await;
    let announcement = admin.retention(&plan.tips, Timestamp::now());
    store.append(announcement).await.expect("durable lines");
    store.retain(plan).await.expect("deleted lines")
}

/// Deletes all but the youngest lines of a day, and checks that none of these went.
pub async fn young_lines_stay(filled: &FilledStore) {
    let min_age = filled.cluster.time() - SignedDuration::from_hours(24);
    let connection = Connection::open(&filled.path).expect("the store");
    let nanoseconds = i64::try_from(min_age.as_nanosecond()).expect("a time of this century");
    let count = |sql: &str| -> u64 {
        let count = connection.query_row(sql, [nanoseconds], |row| row.get(0));
        count.expect("a number")
    };
    let young = "SELECT count(*) FROM event WHERE time >= ?1";
    let before = count(young);
    let rule = RetentionRule {
        older_than: Timestamp::MIN,
        min_age,
        max_bytes: Some(0),
    };
    let began = Instant::now();
    let mut deleted = 0;
    for _ in 0..2 {
        let plan = filled.store.plan_retention(rule).await.expect("a plan");
        deleted += announce_and_delete(&filled.store, &filled.admin, plan).await;
    }
    print_line(&format!(
        "retention alone: {deleted} lines in {:.1?}",
        began.elapsed()
    ));
    // Announcements are young lines, too.
    assert!(
        count(young) >= before && deleted > 0,
        "young lines were deleted"
    );
}

/// Verifies an export of the whole store.
pub async fn trail_is_intact(filled: &FilledStore) {
    let range = ExportRange {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let (mut verifier, mut after) = (Verifier::new(VerifyOptions::default()), LinePosition(0));
    let began = Instant::now();
    loop {
        let (lines, next) = filled.store.export(range, after).await.expect("lines");
        for line in &lines {
            verifier.push(line.as_bytes());
        }
        let Some(next) = next else { break };
        after = next;
    }
    let report = verifier.finish();
    print_line(&format!(
        "verify: {} records of {} chains in {:.0?}: {:?}",
        report.records,
        report.chains.len(),
        began.elapsed(),
        report.verdict()
    ));
    assert!(
        matches!(report.verdict(), Verdict::Intact),
        "{:?}",
        report.findings
    );
}
