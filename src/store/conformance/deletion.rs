//! Clauses about retention.

use jiff::Timestamp;

use super::{Trail, exported, fill, second, start, stored};
use crate::store::{
    AppendError, AuditStore, EventFilter, LinePosition, RetentionRule, SecretFilter,
};

fn older_than(seconds: i64) -> RetentionRule {
    RetentionRule {
        older_than: second(seconds),
        min_age: Timestamp::MAX,
        max_bytes: None,
    }
}

pub async fn old_lines_are_deleted(store: &dyn AuditStore) {
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    let lines = fill(store, &mut a, 2_500).await;
    fill(store, &mut b, 3).await;
    let last = b.stop();
    store.append(b.batch(&[last])).await.unwrap();
    let plan = store.plan_retention(older_than(2_400)).await.unwrap();
    assert_eq!(plan.tips.len(), 2);
    assert_eq!((plan.tips[0].seq, &plan.tips[1]), (2_400, &b.tip()));
    assert_eq!(store.counts().await.unwrap().lines, 2_504);
    assert_eq!(store.retain(plan).await, Ok(2_404));
    assert_eq!(
        exported(store, start(), second(9_999)).await,
        lines[2_400..]
    );
    let secret = SecretFilter {
        namespace: "jobs".to_owned(),
        name: "db".to_owned(),
    };
    let filter = EventFilter {
        secret: Some(secret),
        ..EventFilter::default()
    };
    let page = store.query(&super::query(filter)).await.unwrap();
    assert_eq!(page.events.len(), 100);
    let chains = store.chains().await.unwrap();
    // The ended chain is gone.
    assert_eq!(
        (chains.len(), chains[0].retained, chains[0].lines),
        (1, 2_400, 100)
    );
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.lines, counts.missing), (100, 0));
    // A position is not given out again.
    let before = *store.committed().borrow();
    fill(store, &mut a, 1).await;
    assert_eq!(*store.committed().borrow(), LinePosition(before.0 + 1));
}

pub async fn young_lines_are_never_deleted(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    fill(store, &mut trail, 100).await;
    let full = |max_bytes| RetentionRule {
        older_than: start(),
        min_age: second(40),
        max_bytes,
    };
    let plan = store.plan_retention(full(None)).await.unwrap();
    assert_eq!(plan.tips, []);
    let plan = store.plan_retention(full(Some(u64::MAX))).await.unwrap();
    assert_eq!(plan.tips, []);
    let plan = store.plan_retention(full(Some(0))).await.unwrap();
    assert_eq!(plan.tips[0].seq, 40);
    assert_eq!(store.retain(plan).await, Ok(40));
    let bytes = store.counts().await.unwrap().bytes;
    let little = store.plan_retention(RetentionRule {
        min_age: Timestamp::MAX,
        ..full(Some(bytes - bytes / 4))
    });
    let seq = little.await.unwrap().tips[0].seq;
    assert!((45..80).contains(&seq), "{seq}");
}

pub async fn deletion_is_announced_by_hash(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    fill(store, &mut trail, 5).await;
    let mut plan = store.plan_retention(older_than(3)).await.unwrap();
    plan.tips[0].hash = trail.tip().hash;
    assert_eq!(store.retain(plan).await, Ok(0));
    assert_eq!(stored(store).await.len(), 5);
}

pub async fn chain_goes_on_after_deletion(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut lines = fill(store, &mut trail, 5).await;
    let plan = store.plan_retention(older_than(99)).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(5));
    assert_eq!(stored(store).await.len(), 0);
    lines.extend(trail.lines(2));
    // Deleted lines are durable: they were.
    let again = store.append(trail.batch(&lines[..5])).await.unwrap();
    assert_eq!((again.durable, again.added), (5, 0));
    let gap = store.append(trail.batch(&lines[6..])).await;
    assert!(matches!(
        gap,
        Err(AppendError::OutOfOrder { wanted: 6, .. })
    ));
    let appended = store.append(trail.batch(&lines)).await.unwrap();
    assert_eq!((appended.durable, appended.added), (7, 2));
    assert_eq!(exported(store, start(), second(99)).await, lines[5..]);
}

pub async fn last_deleted_lines_are_known(store: &dyn AuditStore) {
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    fill(store, &mut a, 3).await;
    let deleted = a.tip();
    fill(store, &mut a, 2).await;
    fill(store, &mut b, 3).await;
    assert_eq!(store.retained().await, Ok(vec![]));
    let plan = store.plan_retention(older_than(3)).await.unwrap();
    store.retain(plan).await.unwrap();
    // The other chain has no line.
    assert_eq!(store.retained().await, Ok(vec![deleted.clone()]));
    let last = b.tip();
    fill(store, &mut b, 1).await;
    assert_eq!(store.retained().await, Ok(vec![deleted, last]));
}
