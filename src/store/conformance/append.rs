//! Clauses about appends.

use std::collections::BTreeSet;

use super::{Trail, exported, fill, second, start, stored};
use crate::store::{
    AppendError, Appended, AuditStore, Batch, LinePosition, MAX_FOLLOWED, MovedChains, Provenance,
};

pub async fn batch_is_stored_verbatim(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let empty = Batch::parse(trail.id(), b"").unwrap();
    let nothing = Appended {
        durable: 0,
        added: 0,
    };
    assert_eq!(store.append(empty.clone()).await, Ok(nothing));
    let committed = store.committed();
    let lines = trail.lines(3);
    let appended = Appended {
        durable: 3,
        added: 3,
    };
    assert_eq!(store.append(trail.batch(&lines)).await, Ok(appended));
    let last = *committed.borrow();
    let events = stored(store).await;
    let found: Vec<&str> = events
        .iter()
        .rev()
        .map(|event| event.line.as_str())
        .collect();
    assert_eq!(found, lines);
    assert_eq!(events[0].position, last);
    assert!(
        events
            .iter()
            .all(|event| event.provenance == Provenance::Received)
    );
    let durable = store.append(empty).await.unwrap();
    assert_eq!((durable.durable, durable.added), (3, 0));
}

pub async fn repeated_lines_are_stored_once(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut lines = fill(store, &mut trail, 3).await;
    lines.extend(trail.lines(2));
    for (from, to, added) in [(0, 3, 0), (1, 2, 0), (1, 4, 1), (0, 5, 1)] {
        let appended = store.append(trail.batch(&lines[from..to])).await.unwrap();
        assert_eq!(appended.added, added);
    }
    assert_eq!(stored(store).await.len(), 5);
}

pub async fn gap_is_refused_with_the_wanted_number(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let lines = trail.lines(5);
    let refused = |first, wanted| {
        Err(AppendError::OutOfOrder {
            chain: trail.id(),
            first,
            wanted,
        })
    };
    assert_eq!(store.append(trail.batch(&lines[1..2])).await, refused(2, 1));
    store.append(trail.batch(&lines[..2])).await.unwrap();
    assert_eq!(store.append(trail.batch(&lines[3..])).await, refused(4, 3));
    assert_eq!(stored(store).await.len(), 2);
    store.append(trail.batch(&lines[2..])).await.unwrap();
    assert_eq!(stored(store).await.len(), 5);
}

pub async fn second_history_is_refused(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    fill(store, &mut trail, 1).await;
    let mut other = trail.clone();
    fill(store, &mut trail, 1).await;
    let mut record = other.record();
    record.decision = "mutated";
    let forked = [other.line_of(record), other.lines(1).remove(0)];
    let refused = Err(AppendError::SecondHistory {
        chain: trail.id(),
        seq: 2,
    });
    // Another line with the number of a stored one, alone and with a new line; a new line that links to it.
    assert_eq!(store.append(trail.batch(&forked[..1])).await, refused);
    assert_eq!(store.append(trail.batch(&forked)).await, refused);
    assert_eq!(store.append(trail.batch(&forked[1..])).await, refused);
    assert_eq!(stored(store).await.len(), 2);
    fill(store, &mut trail, 1).await;
    assert_eq!(stored(store).await.len(), 3);
}

pub async fn lost_lines_are_counted(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let lines = trail.lines(9);
    let lost = trail.batch(&lines[2..3]).lost_before();
    assert_eq!(store.append(lost).await.unwrap().durable, 3);
    let lost = trail.batch(&lines[6..8]).lost_before();
    assert_eq!(store.append(lost).await.unwrap().durable, 8);
    let chain = store.chains().await.unwrap().remove(0);
    assert_eq!(chain.missing, [(1, 2), (4, 6)]);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.lines, counts.missing), (3, 5));
    // The sender had declared them as lost.
    let late = store.append(trail.batch(&lines[4..5])).await;
    assert!(matches!(
        late,
        Err(AppendError::OutOfOrder { wanted: 9, .. })
    ));
}

pub async fn lines_of_a_newer_program_are_kept(store: &dyn AuditStore) {
    let trail = Trail::new("a");
    let line = Trail::new("a").lines(1).remove(0);
    let newer = line
        .replace(r#""v":1"#, r#""v":9,"x":{"y":[1,"\u2028"]}"#)
        .replace("pod.admit", "pod.evict");
    store
        .append(trail.batch(std::slice::from_ref(&newer)))
        .await
        .unwrap();
    assert_eq!(stored(store).await[0].line, newer);
    assert_eq!(exported(store, start(), second(9)).await, [newer]);
}

pub async fn concurrent_appends_are_all_durable(store: &dyn AuditStore) {
    let append = |pod: usize| async move {
        let mut trail = Trail::new(&format!("pod-{pod}"));
        for _ in 0..10 {
            fill(store, &mut trail, 3).await;
        }
    };
    futures::future::join_all((0..10).map(append)).await;
    let events = stored(store).await;
    let positions: BTreeSet<u64> = events.iter().map(|event| event.position.0).collect();
    assert_eq!(positions.len(), 300);
    assert_eq!(Some(&store.committed().borrow().0), positions.last());
}

pub async fn chains_have_their_tips(store: &dyn AuditStore) {
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    fill(store, &mut a, 2).await;
    fill(store, &mut b, 1).await;
    let last = a.stop();
    store.append(a.batch(&[last])).await.unwrap();
    let chains = store.chains().await.unwrap();
    assert_eq!((&chains[0].tip, &chains[1].tip), (&a.tip(), &b.tip()));
    assert_eq!((chains[0].ended, chains[1].ended), (true, false));
    assert_eq!((chains[0].lines, chains[0].time), (3, second(2)));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.chains, counts.lines, counts.missing), (2, 4, 0));
    assert!(counts.bytes > 0);
}

pub async fn moved_chains_are_those_with_new_lines(store: &dyn AuditStore) {
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    let moved = async |after| store.moved(LinePosition(after)).await.unwrap();
    assert_eq!(moved(0).await, MovedChains::default());
    fill(store, &mut a, 3).await;
    fill(store, &mut b, 2).await;
    let all = moved(0).await;
    assert_eq!(
        (all.tips, all.position),
        (vec![a.tip(), b.tip()], LinePosition(5))
    );
    fill(store, &mut a, 2).await;
    let later = moved(5).await;
    assert_eq!(
        (later.tips, later.position),
        (vec![a.tip()], LinePosition(7))
    );
    let none = moved(7).await;
    assert_eq!((none.tips, none.position), (vec![], LinePosition(7)));
    assert_eq!(moved(99).await.position, LinePosition(99));
    // Of many lines, some at a time.
    for _ in 0..6 {
        fill(store, &mut b, 2_000).await;
    }
    let some = moved(7).await;
    assert_eq!(some.tips, [b.tip()]);
    assert_eq!(some.position, LinePosition(7 + MAX_FOLLOWED));
    assert_eq!(moved(some.position.0).await.position, LinePosition(12_007));
}

pub async fn checkpoints_confirm_lines_of_chains(store: &dyn AuditStore) {
    let (mut a, mut b, mut admin) = (Trail::new("a"), Trail::new("b"), Trail::new("admin"));
    fill(store, &mut a, 3).await;
    let confirmed = a.tip();
    fill(store, &mut a, 1).await;
    fill(store, &mut b, 2).await;
    let checkpoint = admin.checkpoint(&[confirmed]);
    store.append(admin.batch(&[checkpoint])).await.unwrap();
    // The start of a process confirms a line, too, and is not signed.
    let start = admin.start_after(b.tip());
    store.append(admin.batch(&[start])).await.unwrap();
    let chains = store.chains().await.unwrap();
    let confirmed: Vec<u64> = chains.iter().map(|chain| chain.confirmed).collect();
    assert_eq!(confirmed, [3, 0, 0]);
}
