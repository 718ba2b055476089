//! Checkpoints, keys and retention beside a store that is written to.

use testing::wait_until;

use super::*;
use crate::backend::kubernetes::fake_api::ApiFault;

mod testing {
    use std::time::{Duration, Instant};

    /// Waits until a condition holds.
    pub(super) async fn wait_until(what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !holds().await {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn checkpoints(fixture: &Fixture) -> Vec<Value> {
    of_action(&fixture.export().await, Action::Checkpoint)
}

#[tokio::test]
async fn checkpoint_has_the_chains_that_moved() {
    let fixture = Fixture::new().await;
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    fixture.fill(&mut a, 5).await;
    fixture.fill(&mut b, 3).await;
    let process = fixture.process("pod-a/1").await;
    let mut checkpoints_of_process = process.checkpoints();
    checkpoints_of_process.write().await.unwrap();
    let own = |seq| ("pod-a/1".to_owned(), seq);
    let of = |pod: &str, seq| (format!("{pod}/1"), seq);
    let first = checkpoints(&fixture).await;
    assert_eq!(tips(&first[0]), [of("a", 5), of("b", 3), own(1)]);
    assert_eq!(process.metrics.checkpoint_time.get(), start().as_second());
    // A checkpoint is no reason for another one.
    fixture.set_time(DAY);
    checkpoints_of_process.write().await.unwrap();
    assert_eq!(checkpoints(&fixture).await.len(), 1);
    let now = start() + SignedDuration::from_hours(24);
    assert_eq!(process.metrics.checkpoint_time.get(), now.as_second());
    fixture.fill(&mut b, 1).await;
    checkpoints_of_process.write().await.unwrap();
    let second = checkpoints(&fixture).await;
    assert_eq!(tips(&second[1]), [of("b", 4), own(2)]);
    // Records of the own chain are a reason.
    process.trail.append(process.record()).await.unwrap();
    checkpoints_of_process.write().await.unwrap();
    assert_eq!(tips(&checkpoints(&fixture).await[2]), [own(4)]);
}

#[tokio::test]
async fn process_confirms_what_the_one_before_has_left() {
    let fixture = Fixture::new().await;
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    fixture.fill(&mut a, 5).await;
    let process = fixture.process("pod-a/1").await;
    process.checkpoints().write().await.unwrap();
    fixture.fill(&mut b, 3).await;
    // It is killed here.
    let process = fixture.process("pod-b/1").await;
    process.checkpoints().write().await.unwrap();
    let all = checkpoints(&fixture).await;
    let expected = [("pod-a/1", 2), ("b/1", 3), ("pod-b/1", 1)];
    assert_eq!(
        tips(&all[1]),
        expected.map(|(chain, seq)| (chain.to_owned(), seq))
    );
}

#[tokio::test]
async fn many_chains_are_in_several_records() {
    let fixture = Fixture::new().await;
    for pod in 0..60 {
        fixture.fill(&mut Trail::new(&format!("p{pod}")), 1).await;
    }
    let process = fixture.process("pod-a/1").await;
    process.checkpoints().write().await.unwrap();
    let counts: Vec<usize> = checkpoints(&fixture)
        .await
        .iter()
        .map(|record| tips(record).len())
        .collect();
    assert_eq!(counts, [24, 24, 13]);
    let report = verified(&fixture.export().await, options(fixture.public_key()));
    assert_eq!(damage(&report), []);
    let confirmed = report
        .chains
        .iter()
        .filter(|chain| chain.confirmed_to == chain.last);
    assert_eq!(confirmed.count(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_bring_a_checkpoint_before_its_time() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(process.checkpoints().every(DAY).run(stop.clone()));
    wait_until("the first checkpoint", async || {
        process.metrics.checkpoint_time.get() > 0
    })
    .await;
    let before = checkpoints(&fixture).await.len();
    let mut a = Trail::new("a");
    fixture.fill(&mut a, 900).await;
    assert_eq!(checkpoints(&fixture).await.len(), before);
    fixture.fill(&mut a, 100).await;
    wait_until("a checkpoint of 1,000 lines", async || {
        checkpoints(&fixture).await.len() > before
    })
    .await;
    fixture.fill(&mut a, 1).await;
    stop.cancel();
    running.await.unwrap();
    // The last one has the line that nothing else has confirmed.
    let last = tips(&checkpoints(&fixture).await.pop().unwrap());
    assert!(last.contains(&("a/1".to_owned(), 1_001)), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interval_brings_a_checkpoint_of_few_lines() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    let stop = CancellationToken::new();
    let checkpoints_of_process = process.checkpoints().every(Duration::from_millis(20));
    let running = tokio::spawn(checkpoints_of_process.run(stop.clone()));
    fixture.fill(&mut Trail::new("a"), 1).await;
    wait_until("a checkpoint", async || {
        let all = checkpoints(&fixture).await;
        all.iter()
            .flat_map(tips)
            .any(|tip| tip == ("a/1".to_owned(), 1))
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_wait_for_the_key_and_records_do_not() {
    let fixture = Fixture::new().await;
    fixture.api.always(Some(ApiFault::Status(503)));
    let process = fixture.process("pod-a/1").await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(process.checkpoints().run(stop.clone()));
    wait_until("a request for the key", async || {
        !fixture.api.seen().is_empty()
    })
    .await;
    process.trail.append(process.record()).await.unwrap();
    assert_eq!(checkpoints(&fixture).await.len(), 0);
    fixture.api.always(None);
    wait_until("a checkpoint", async || {
        !checkpoints(&fixture).await.is_empty()
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn upkeep_signs_a_last_checkpoint_before_the_end() {
    let fixture = Fixture::new().await;
    let settings = TrailSettings {
        names: names("pod-a/1"),
        retention: RetentionSettings {
            max_age: 90 * DAY,
            min_age: 7 * DAY,
        },
        key: Some(fixture.secret()),
    };
    let parts = TrailParts::new(settings, std::io::sink(), fixture.clock(), &mut registry());
    let store: Arc<dyn AuditStore> = Arc::clone(&fixture.store) as Arc<dyn AuditStore>;
    let (_trail, upkeep) = parts.unwrap().start(&store).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(upkeep.run(stop.clone()));
    fixture.fill(&mut Trail::new("a"), 7).await;
    stop.cancel();
    running.await.unwrap();
    let lines = fixture.export().await;
    let records = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<Value> = records.collect();
    // A checkpoint that was written when the end came is followed by one of the own chain alone.
    let is_confirming =
        |record: &Value| record["tips"].is_array() && tips(record).contains(&("a/1".to_owned(), 7));
    assert!(records.iter().any(is_confirming), "{lines:?}");
    assert_eq!(records[records.len() - 1]["action"], "system.stop");
    let report = verified(&lines, options(fixture.public_key()));
    assert_eq!(damage(&report), []);
}

#[tokio::test]
async fn upkeep_without_a_secret_signs_and_deletes_nothing() {
    let fixture = Fixture::new().await;
    fixture.fill(&mut Trail::new("a"), 5).await;
    fixture.set_time(99 * DAY);
    let process = fixture.process_with("pod-a/1", None).await;
    process.retention(90 * DAY, 7 * DAY).run_once().await;
    process.checkpoints().run(CancellationToken::new()).await;
    assert_eq!(fixture.export().await.len(), 6);
}

#[tokio::test]
async fn new_key_is_announced_under_the_one_before() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    process.checkpoints().write().await.unwrap();
    let pinned = fixture.public_key();
    fixture.ask_for_a_new_key().await;
    // The next process has not used the key before.
    let process = fixture.process("pod-a/2").await;
    process.checkpoints().write().await.unwrap();
    assert_ne!(fixture.public_key(), pinned);
    let secret = fixture.api.stored("floe", "audit-key").unwrap();
    assert_eq!(secret["metadata"]["annotations"], json!({}));
    let lines = fixture.export().await;
    let announced = of_action(&lines, Action::Key);
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0]["key"], json!(fixture.public_key().to_string()));
    assert_eq!(announced[0]["signature"]["key"], json!(pinned.to_string()));
    for key in [pinned, fixture.public_key()] {
        assert_eq!(damage(&verified(&lines, options(key))), [], "{key}");
    }
}

#[tokio::test]
async fn processes_that_start_together_use_one_key() {
    let fixture = Fixture::new().await;
    let (one, other) = (
        fixture.process("pod-a/1").await,
        fixture.process("pod-b/1").await,
    );
    let (one, other) = tokio::join!(one.signer.key(), other.signer.key());
    let keys = [one.unwrap().public_key(), other.unwrap().public_key()];
    assert_eq!(keys, [fixture.public_key(); 2]);
}

#[tokio::test]
async fn old_lines_are_announced_and_deleted() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    fixture.fill(&mut a, 500).await;
    fixture.fill(&mut b, 3).await;
    process.checkpoints().write().await.unwrap();
    fixture.set_time(90 * DAY + Duration::from_mins(5));
    let mut retention = process.retention(90 * DAY, 7 * DAY);
    retention.run_once().await;
    let lines = fixture.export().await;
    let announced = of_action(&lines, Action::Retention);
    assert_eq!(tips(&announced[0]).len(), 3, "{announced:?}");
    assert!(process.metrics.deleted.get() > 300);
    let report = verified(&lines, options(fixture.public_key()));
    assert_eq!(damage(&report), []);
    // Nothing else is old, and what was announced is not announced again.
    let count = lines.len();
    retention.run_once().await;
    assert_eq!(fixture.export().await.len(), count);
}

#[tokio::test]
async fn announcement_is_renewed_before_it_is_deleted() {
    let fixture = Fixture::new().await;
    let mut a = Trail::new("a");
    fixture.fill(&mut a, 100).await;
    let process = fixture.process("pod-a/1").await;
    let mut retention = process.retention(9 * DAY, 7 * DAY);
    let mut checkpoints = process.checkpoints();
    // The first lines go on the ninth day; the chain goes on, and announcements are deleted as well.
    for day in 1..40 {
        fixture.set_time(day * DAY);
        let mut record = a.record();
        record.time = start() + SignedDuration::from_hours(24 * i64::from(day));
        if day == 8 || day % 17 == 0 {
            let line = a.line_of(record);
            fixture.store.append(a.batch(&[line])).await.unwrap();
        }
        checkpoints.write().await.unwrap();
        retention.run_once().await;
        let report = verified(&fixture.export().await, options(fixture.public_key()));
        assert_eq!(damage(&report), [], "day {day}");
    }
    let announced = of_action(&fixture.export().await, Action::Retention);
    assert!((8..60).contains(&announced.len()), "{}", announced.len());
}

#[tokio::test]
async fn full_store_deletes_as_soon_as_lines_are_old_enough() {
    let fixture = Fixture::with_size(Some(1 << 20)).await;
    let process = fixture.process("pod-a/1").await;
    process.signer.key().await.unwrap();
    let mut a = Trail::new("a");
    let mut refused = a.lines(20);
    while fixture.store.append(a.batch(&refused)).await.is_ok() {
        refused = a.lines(20);
    }
    while process.trail.append(process.record()).await.is_ok() {}
    let before = fixture.store.counts().await.unwrap();
    let mut retention = process.retention(90 * DAY, 7 * DAY);
    retention.run_once().await;
    assert_eq!(process.metrics.is_blocked.get(), 1);
    assert_eq!(fixture.store.counts().await.unwrap(), before);
    fixture.set_time(8 * DAY);
    retention.run_once().await;
    assert_eq!(process.metrics.is_blocked.get(), 0);
    let after = fixture.store.counts().await.unwrap();
    assert!(
        after.lines < before.lines && after.lines > before.lines / 2,
        "{after:?}"
    );
    assert!(after.bytes <= (1 << 20) / 100 * 90, "{after:?}");
    fixture.store.append(a.batch(&refused)).await.unwrap();
    let report = verified(&fixture.export().await, options(fixture.public_key()));
    assert_eq!(damage(&report), []);
}
