//! Clauses about imports.

use super::{Trail, exported, fill, second, start, stored};
use crate::audit::stored::StoredLine;
use crate::audit::verify::{VerifyOptions, verify};
use crate::store::import::{Import, ImportReport};
use crate::store::{AuditStore, MAX_IMPORT_BYTES, Provenance, RetentionRule};
use jiff::Timestamp;

async fn import(store: &dyn AuditStore, lines: &[String]) -> ImportReport {
    let mut import = Import::new(store, MAX_IMPORT_BYTES);
    for line in lines {
        let line = StoredLine::parse(line.as_bytes()).unwrap();
        import.push(line).await.unwrap();
    }
    import.finish().await.unwrap()
}

/// Stores the lines 1 to 3 and 7 to 9 of ten.
async fn with_a_gap(store: &dyn AuditStore) -> (Trail, Vec<String>) {
    let mut trail = Trail::new("a");
    let lines = trail.lines(10);
    store.append(trail.batch(&lines[..3])).await.unwrap();
    let after = trail.batch(&lines[6..9]).lost_before();
    store.append(after).await.unwrap();
    (trail, lines)
}

async fn count_of(store: &dyn AuditStore, provenance: Provenance) -> usize {
    let events = stored(store).await;
    let found = events.iter().filter(|event| event.provenance == provenance);
    found.count()
}

async fn missing(store: &dyn AuditStore) -> Vec<(u64, u64)> {
    store.chains().await.unwrap().remove(0).missing
}

pub async fn missing_range_is_filled(store: &dyn AuditStore) {
    let (_, lines) = with_a_gap(store).await;
    assert_eq!(missing(store).await, [(4, 6)]);
    // From one side first.
    let report = import(store, &lines[3..4]).await;
    assert_eq!((report.added, report.one_sided), (1, 1));
    assert_eq!(missing(store).await, [(5, 6)]);
    let report = import(store, &lines[..9]).await;
    assert_eq!((report.added, report.one_sided, report.present), (2, 0, 7));
    assert_eq!(missing(store).await, []);
    assert_eq!(count_of(store, Provenance::Confirmed).await, 3);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.lines, counts.missing), (9, 0));
    let again = import(store, &lines[..9]).await;
    assert_eq!((again.added, again.present), (0, 9));
}

pub async fn tail_is_kept_as_one_sided(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut lines = fill(store, &mut trail, 2).await;
    lines.extend(trail.lines(2));
    let report = import(store, &lines).await;
    assert_eq!((report.added, report.one_sided), (2, 2));
    assert_eq!(count_of(store, Provenance::OneSided).await, 2);
    // The process still runs and sends them, too.
    lines.extend(trail.lines(1));
    let appended = store.append(trail.batch(&lines)).await.unwrap();
    assert_eq!((appended.added, appended.durable), (1, 5));
}

pub async fn checkpoint_confirms_a_tail(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut lines = fill(store, &mut trail, 2).await;
    lines.extend(trail.lines(2));
    let mut admin = Trail::new("admin");
    let checkpoint = admin.checkpoint(&[trail.tip()]);
    lines.extend(trail.lines(1));
    store.append(admin.batch(&[checkpoint])).await.unwrap();
    let report = import(store, &lines[2..]).await;
    assert_eq!((report.added, report.one_sided), (3, 1));
    assert_eq!(count_of(store, Provenance::Confirmed).await, 2);
    let mut other = Trail::new("b");
    let all = other.lines(3);
    let checkpoint = admin.checkpoint(&[other.tip()]);
    store.append(admin.batch(&[checkpoint])).await.unwrap();
    // The checkpoint alone confirms a range of a chain that is not stored.
    let report = import(store, &all[1..]).await;
    assert_eq!((report.added, report.one_sided), (2, 2));
    assert_eq!(store.counts().await.unwrap().missing, 1);
}

pub async fn range_without_neighbours_is_refused(store: &dyn AuditStore) {
    let (_, lines) = with_a_gap(store).await;
    let report = import(store, &lines[4..5]).await;
    assert_eq!(report.added, 0);
    let rejected = &report.rejected[0];
    assert_eq!((rejected.first, rejected.last), (5, 5));
    assert_eq!(rejected.second_history, None);
    let other = Trail::new("b").lines(3);
    assert_eq!(import(store, &other[1..]).await.rejected.len(), 1);
    assert_eq!(stored(store).await.len(), 6);
}

pub async fn deleted_lines_confirm_by_the_last_one_alone(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let mut lines = fill(store, &mut trail, 5).await;
    let rule = RetentionRule {
        older_than: second(99),
        min_age: Timestamp::MAX,
        max_bytes: None,
    };
    let plan = store.plan_retention(rule).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(5));
    let mut fork = Trail::new("a");
    let mut forged = fork.lines(2);
    let mut record = fork.record();
    record.decision = "mutated";
    forged.push(fork.line_of(record));
    // Deleted lines are not known, and nothing is stored for them.
    assert_eq!(import(store, &forged).await.added, 0);
    forged.extend(fork.lines(3));
    let report = import(store, &forged).await;
    assert_eq!(report.rejected[0].second_history, Some(5));
    assert_eq!(
        import(store, &forged[5..]).await.rejected[0].second_history,
        Some(5)
    );
    lines.extend(trail.lines(2));
    let report = import(store, &lines[2..]).await;
    assert_eq!((report.added, report.one_sided, report.present), (2, 2, 3));
    assert_eq!(exported(store, start(), second(99)).await, lines[5..]);
}

pub async fn second_history_is_not_imported(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let lines = trail.lines(3);
    store.append(trail.batch(&lines)).await.unwrap();
    let mut other = trail.clone();
    let after = trail.lines(3);
    let lost = trail.batch(&after[1..]).lost_before();
    store.append(lost).await.unwrap();
    // A line with another content fits the line before and not the one after.
    let mut record = other.record();
    record.decision = "mutated";
    let forged = other.line_of(record);
    let report = import(store, std::slice::from_ref(&forged)).await;
    assert_eq!(report.rejected[0].second_history, Some(5));
    let with_next = [forged, other.lines(1).remove(0)];
    let report = import(store, &with_next).await;
    assert_eq!(report.rejected[0].second_history, Some(5));
    let mut fork = Trail::new("a");
    let mut record = fork.record();
    record.decision = "mutated";
    let first = fork.line_of(record);
    let report = import(store, &[first]).await;
    assert_eq!(report.rejected[0].second_history, Some(1));
    assert_eq!(
        (stored(store).await.len(), missing(store).await.len()),
        (5, 1)
    );
}

pub async fn export_has_imported_lines_in_place(store: &dyn AuditStore) {
    let (mut trail, mut lines) = with_a_gap(store).await;
    import(store, &lines[3..6]).await;
    // The last one is imported, too, and one comes after it.
    import(store, &lines[8..]).await;
    lines.extend(trail.lines(1));
    store.append(trail.batch(&lines[10..])).await.unwrap();
    let all = exported(store, start(), second(99)).await;
    assert_eq!(all, lines);
    assert_eq!(exported(store, second(4), second(9)).await, lines[4..9]);
    let report = verify(&all, VerifyOptions::default());
    assert!(
        report
            .findings
            .iter()
            .all(|finding| !finding.kind.is_damage()),
        "{report:?}"
    );
}

pub async fn ranges_in_any_order_are_imported(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let lines = trail.lines(20);
    store.append(trail.batch(&lines[..2])).await.unwrap();
    let mut shuffled = lines[9..].to_vec();
    shuffled.extend_from_slice(&lines[4..12]);
    shuffled.extend_from_slice(&lines[1..6]);
    let report = import(store, &shuffled).await;
    assert_eq!((report.added, report.rejected.len()), (18, 0));
    assert_eq!(exported(store, start(), second(99)).await, lines);
    // Ranges of a bounded size.
    let mut other = Trail::new("b");
    let lines = other.lines(30);
    let mut import = Import::new(store, lines[0].len() * 4);
    for line in &lines {
        import
            .push(StoredLine::parse(line.as_bytes()).unwrap())
            .await
            .unwrap();
    }
    assert_eq!(import.finish().await.unwrap().added, 30);
}

pub async fn whole_chain_is_kept_as_one_sided(store: &dyn AuditStore) {
    let mut trail = Trail::new("a");
    let lines = trail.lines(5);
    let report = import(store, &lines).await;
    assert_eq!((report.added, report.one_sided), (5, 5));
    let chain = store.chains().await.unwrap().remove(0);
    assert_eq!((chain.tip, chain.lines), (trail.tip(), 5));
}
