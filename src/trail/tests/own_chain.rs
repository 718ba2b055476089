//! The own chain: order, durability, and faults of the store.

use futures::future::join_all;
use tokio::time::timeout;

use super::faulty_store::AppendFault;
use super::*;

fn is_intact(lines: &[String]) -> bool {
    damage(&verified(lines, VerifyOptions::default())).is_empty()
}

#[tokio::test]
async fn own_chain_is_in_the_store_and_on_standard_output() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    assert_eq!(process.trail.append(process.record()).await, Ok(2));
    let first = process.trail.tip().await;
    let out = process.stop().await;
    let lines = fixture.export().await;
    assert_eq!(out, lines);
    assert_eq!(lines.len(), 3);
    let report = verified(&lines, VerifyOptions::default());
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    // The next process in the pod names the last line of this one. Processes without a pod name none.
    for (chain, predecessor) in [
        ("pod-a/2", Some(3)),
        ("pod-b/1", None),
        ("unknown/1", None),
        ("unknown/2", None),
    ] {
        drop(fixture.process(chain).await.stop().await);
        let starts = of_action(&fixture.export().await, Action::Start);
        let start = starts.last().unwrap();
        assert_eq!(start["predecessor"]["seq"].as_u64(), predecessor, "{chain}");
    }
    assert_eq!(first.seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_records_are_all_durable_and_in_order() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    let appends = (0..50).map(|_| process.trail.append(process.record()));
    let mut numbers: Vec<u64> = join_all(appends)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..52).collect::<Vec<_>>());
    let lines = fixture.export().await;
    assert!(lines.len() == 51 && is_intact(&lines));
}

#[tokio::test]
async fn failed_append_numbers_nothing() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    fixture.store.next(&[AppendFault::NotStored]);
    let error = process.trail.append(process.record()).await.unwrap_err();
    assert!(matches!(error, OwnTrailError::Append(_)), "{error}");
    assert_eq!(process.trail.append(process.record()).await, Ok(2));
    let out = process.stop().await;
    let lines = fixture.export().await;
    assert_eq!((lines.len(), &lines), (3, &out));
    assert!(is_intact(&lines));
}

#[tokio::test]
async fn append_that_was_stored_with_an_error_counts_as_durable() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    fixture.store.next(&[AppendFault::Stored]);
    assert_eq!(process.trail.append(process.record()).await, Ok(2));
    assert_eq!(process.trail.append(process.record()).await, Ok(3));
    let out = process.stop().await;
    let lines = fixture.export().await;
    assert_eq!((lines.len(), &lines), (4, &out));
    assert!(is_intact(&lines));
}

#[tokio::test]
async fn cancelled_append_leaves_the_chain_consistent() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    fixture.store.next(&[AppendFault::StoredWithoutReturn]);
    let append = process.trail.append(process.record());
    let cancelled = timeout(Duration::from_millis(200), append).await;
    assert!(cancelled.is_err());
    // The store has number 2, although nobody knows yet.
    fixture.store.next(&[AppendFault::NotStored]);
    assert!(process.trail.append(process.record()).await.is_err());
    assert_eq!(process.trail.append(process.record()).await, Ok(3));
    let out = process.stop().await;
    let lines = fixture.export().await;
    assert_eq!((lines.len(), &lines), (4, &out));
    assert!(is_intact(&lines));
}

#[tokio::test]
async fn start_precedes_the_first_record_that_the_store_takes() {
    let fixture = Fixture::new().await;
    fixture
        .store
        .next(&[AppendFault::NotStored, AppendFault::NotStored]);
    let process = fixture.process("pod-a/1").await;
    assert!(process.trail.append(process.record()).await.is_err());
    assert_eq!(fixture.export().await, [""; 0]);
    assert_eq!(process.trail.append(process.record()).await, Ok(2));
    let lines = fixture.export().await;
    assert_eq!(
        (lines.len(), of_action(&lines, Action::Start).len()),
        (2, 1)
    );
    assert!(is_intact(&lines));
}

#[tokio::test]
async fn record_with_many_targets_has_several_lines() {
    let fixture = Fixture::new().await;
    let process = fixture.process("pod-a/1").await;
    let mut record = process.record();
    let target = |n| crate::store::conformance::target(&format!("secret-{n}"));
    record.targets = (0..150).map(target).collect();
    assert_eq!(process.trail.append(record).await, Ok(4));
    assert!(is_intact(&fixture.export().await));
}
