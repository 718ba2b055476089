//! Proof of an export: real checkpoints, a pinned key, and edits of the export.

use super::*;
use crate::audit::chain::Chain;
use crate::audit::signature::SigningKey;
use crate::audit::verify::TrailFindingKind as Kind;

/// Export of two chains with checkpoints, a retention and an end, and the key that was pinned.
async fn export() -> (Vec<String>, crate::audit::signature::PublicKey) {
    let fixture = Fixture::new().await;
    // Its own lines are younger than those that are deleted.
    fixture.set_time(Duration::from_mins(1));
    let process = fixture.process("pod-a/1").await;
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    let mut checkpoints = process.checkpoints();
    for _ in 0..3 {
        fixture.fill(&mut a, 40).await;
        fixture.fill(&mut b, 10).await;
        checkpoints.write().await.unwrap();
    }
    fixture.set_time(DAY + Duration::from_secs(20));
    process.retention(DAY, DAY).run_once().await;
    for trail in [&mut a, &mut b] {
        let stop = trail.stop();
        fixture.store.append(trail.batch(&[stop])).await.unwrap();
    }
    checkpoints.write().await.unwrap();
    process.trail.stop().await;
    (fixture.export().await, fixture.public_key())
}

fn position(lines: &[String], chain: &str, seq: u64) -> usize {
    let is_it = |line: &String| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["chain"]["id"] == chain && record["chain"]["seq"] == seq
    };
    lines.iter().position(is_it).unwrap()
}

#[tokio::test]
async fn export_is_intact_with_the_pinned_key() {
    let (lines, key) = export().await;
    let report = verified(&lines, options(key));
    assert_eq!(damage(&report), []);
    let kinds: Vec<Kind> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(
        kinds.iter().all(|kind| *kind == Kind::Retained),
        "{kinds:?}"
    );
    for chain in &report.chains {
        let unconfirmed = chain.last - chain.confirmed_to;
        let is_own = chain.chain.pod_uid() == "pod-a";
        // The last checkpoint and the end of the own chain follow its last confirmed line.
        assert_eq!(unconfirmed, if is_own { 2 } else { 0 }, "{chain:?}");
    }
    assert_eq!(report.trusted_on_first_use, None);
}

#[tokio::test]
async fn cut_tail_is_found_by_the_checkpoint() {
    let (mut lines, key) = export().await;
    let stop = position(&lines, "a/1", 121);
    lines.remove(stop);
    let found = damage(&verified(&lines, options(key)));
    assert_eq!(found, [(Kind::TailCut, "a/1".to_owned())]);
}

#[tokio::test]
async fn changed_line_is_found() {
    let (mut lines, key) = export().await;
    let at = position(&lines, "a/1", 100);
    lines[at] = lines[at].replace("alice", "mallory");
    let found = damage(&verified(&lines, options(key)));
    assert_eq!(found, [(Kind::Changed, "a/1".to_owned())]);
}

#[tokio::test]
async fn rewritten_chain_is_found_by_the_checkpoint() {
    let (mut lines, key) = export().await;
    // A chain that agrees with itself, from its first line on.
    let mut forged = Chain::new(ChainId::parse("b/1").unwrap());
    let mut trail = Trail::new("b");
    lines.retain(|line| !line.contains(r#""chain":{"id":"b/1""#));
    for _ in 0..31 {
        let record = trail.record();
        lines.push(forged.append(record).json);
        trail.lines(1);
    }
    let found = damage(&verified(&lines, options(key)));
    assert!(
        !found.is_empty() && found.iter().all(|(_, chain)| chain == "b/1"),
        "{found:?}"
    );
}

#[tokio::test]
async fn signature_of_another_key_is_found() {
    let (lines, key) = export().await;
    let foreign = SigningKey::from_seed(&[9; 32]).unwrap();
    let found = damage(&verified(&lines, options(foreign.public_key())));
    assert!(
        found
            .iter()
            .all(|(kind, _)| *kind == Kind::ForeignSignature || *kind == Kind::Missing),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|(kind, _)| *kind == Kind::ForeignSignature)
    );
    // A checkpoint that somebody else has signed in the place of the last one.
    let mut lines = lines;
    let at = lines
        .iter()
        .rposition(|line| line.contains("system.checkpoint"))
        .unwrap();
    let signed: Value = serde_json::from_str(&lines[at]).unwrap();
    let mut record = signed.clone();
    record.as_object_mut().unwrap().shift_remove("signature");
    let signature = foreign.sign(record.to_string().as_bytes());
    record["signature"] = serde_json::to_value(&signature).unwrap();
    lines[at] = record.to_string();
    let found = damage(&verified(&lines, options(key)));
    assert!(
        found.contains(&(Kind::ForeignSignature, "pod-a/1".to_owned())),
        "{found:?}"
    );
}

#[tokio::test]
async fn checkpoint_outside_finds_what_was_cut_with_all_checkpoints() {
    let (lines, key) = export().await;
    let kept = lines
        .iter()
        .rfind(|line| line.contains("system.checkpoint"))
        .unwrap();
    // The trail up to the first checkpoint agrees with itself.
    let first = lines
        .iter()
        .position(|line| line.contains("system.checkpoint"))
        .unwrap();
    let mut verifier = Verifier::new(options(key));
    verifier.trust(kept.as_bytes()).unwrap();
    for line in &lines[..first] {
        verifier.push(line.as_bytes());
    }
    let found = damage(&verifier.finish());
    assert!(
        found
            .iter()
            .any(|(kind, chain)| *kind == Kind::TailCut && chain == "a/1"),
        "{found:?}"
    );
}
