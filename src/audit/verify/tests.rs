//! Verification case by case. `tests/pure/audit_verify.rs` has trails and edits at random.

use rstest::rstest;

use super::*;
use crate::audit::chain::{Chain, Line};
use crate::audit::link::Tip;
use crate::audit::test_support::{admission, emitter, id, key};

/// Lines of a chain, the first and the last record included.
fn chain_of(pod: &str, lines: usize) -> (Chain, Vec<Line>) {
    let mut chain = Chain::new(id(pod));
    let mut written = vec![chain.append(emitter().start(None))];
    for _ in 2..lines {
        written.push(chain.append(admission("db", 1)));
    }
    written.push(chain.append(emitter().stop()));
    (chain, written)
}

fn tip_of(line: &Line, pod: &str) -> Tip {
    Tip {
        chain: id(pod),
        hash: line.hash,
        seq: line.seq,
    }
}

/// Chain of `admin` with a checkpoint of these lines, signed by the key of this seed.
fn checkpoint_of(tips: &[Tip], seed: u8) -> String {
    let record = emitter().checkpoints(tips).remove(0);
    Chain::new(id("admin"))
        .append_signed(record, &key(seed))
        .json
}

fn verified(lines: &[&str], options: VerifyOptions) -> TrailReport {
    verify(lines, options)
}

fn sentences(report: &TrailReport) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

fn found(report: &TrailReport) -> Vec<(&'static str, u64, u64)> {
    let finding = |found: &TrailFinding| (found.kind.as_str(), found.from, found.to);
    report.findings.iter().map(finding).collect()
}

#[test]
fn intact_chain_is_confirmed_by_a_checkpoint() {
    let (chain, lines) = chain_of("a", 3);
    let checkpoint = checkpoint_of(&[chain.tip().clone()], 1);
    let mut input: Vec<&str> = lines.iter().map(|line| line.json.as_str()).collect();
    input.push(&checkpoint);
    let report = verified(&input, VerifyOptions::default());
    assert_eq!((report.verdict(), report.records), (Verdict::Intact, 4));
    assert_eq!(report.trusted_on_first_use, Some(key(1).public_key()));
    let expected = ChainReport {
        chain: id("a"),
        lines: 3,
        last: 3,
        intact_to: 3,
        confirmed_to: 3,
    };
    assert_eq!(report.chains[0], expected);
    assert_eq!(
        sentences(&report),
        [
            "chain admin/1: line 1 is the last one, without a farewell: pod admin still runs, or stopped after it and its \
             container log may have more"
        ]
    );
}

#[rstest]
#[case::changed(&[0, 1, 2], Some(1), &[("changed", 2, 2)])]
#[case::missing(&[0, 2], None, &[("missing", 2, 2)])]
#[case::moved(&[0, 2, 1], None, &[("moved", 2, 2)])]
#[case::duplicate(&[0, 1, 1, 2], None, &[("duplicate", 2, 2)])]
#[case::cut(&[0, 1], None, &[("tail-cut", 3, 3)])]
#[case::absent(&[], None, &[("missing", 1, 3)])]
fn damage_is_named(
    #[case] order: &[usize],
    #[case] changed: Option<usize>,
    #[case] expected: &[(&str, u64, u64)],
) {
    let (chain, lines) = chain_of("a", 3);
    let mut input: Vec<String> = lines.into_iter().map(|line| line.json).collect();
    if let Some(at) = changed {
        input[at] = input[at].replace("\"db\"", "\"other\"");
    }
    let checkpoint = checkpoint_of(&[chain.tip().clone()], 1);
    let mut verifier = Verifier::new(VerifyOptions::default());
    verifier.trust(checkpoint.as_bytes()).unwrap();
    for at in order {
        verifier.push(input[*at].as_bytes());
    }
    verifier.push(checkpoint.as_bytes());
    let report = verifier.finish();
    let damage: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.kind.is_damage())
        .collect();
    let kinds: Vec<_> = damage
        .iter()
        .map(|found| (found.kind.as_str(), found.from, found.to))
        .collect();
    assert_eq!(kinds, expected);
    assert_eq!(report.verdict(), Verdict::Damaged);
    let chain = report.chains.iter().find(|chain| chain.chain == id("a"));
    let intact = chain.map_or(0, |chain| chain.intact_to);
    assert_eq!(
        intact,
        (expected[0].1 - 1).min(chain.map_or(0, |chain| chain.last))
    );
}

#[test]
fn second_history_is_named() {
    let (_, lines) = chain_of("a", 4);
    let mut other = Chain::new(id("a"));
    let mut input: Vec<String> = lines.iter().map(|line| line.json.clone()).collect();
    other.append(emitter().start(None));
    input.push(other.append(admission("stolen", 1)).json);
    let report = verify(&input, VerifyOptions::default());
    assert_eq!(found(&report), [("two-histories", 2, 2)]);
}

#[test]
fn next_process_knows_the_end_of_the_one_before() {
    let (_, lines) = chain_of("pod", 3);
    let mut next = Chain::new(ChainId::parse("pod/2").unwrap());
    let start = next
        .append(emitter().start(Some(tip_of(&lines[2], "pod"))))
        .json;
    let cut = [&lines[0].json, &lines[1].json, &start];
    let report = verify(cut, VerifyOptions::default());
    assert_eq!(found(&report), [("tail-cut", 3, 3), ("no-farewell", 1, 1)]);
    // A process of another pod cannot know that.
    let mut other = Chain::new(id("other"));
    let start = other
        .append(emitter().start(Some(tip_of(&lines[2], "pod"))))
        .json;
    let report = verify(
        [&lines[0].json, &lines[1].json, &start],
        VerifyOptions::default(),
    );
    assert_eq!(
        found(&report),
        [("no-farewell", 2, 2), ("no-farewell", 1, 1)]
    );
}

#[test]
fn partial_input_may_begin_late() {
    let (_, lines) = chain_of("a", 4);
    let late = [&lines[2].json, &lines[3].json];
    let partial = VerifyOptions {
        partial: true,
        ..VerifyOptions::default()
    };
    assert_eq!(found(&verify(late, partial)), [("begins-late", 1, 2)]);
    assert_eq!(
        found(&verify(late, VerifyOptions::default())),
        [("missing", 1, 2)]
    );
}

#[test]
fn retention_explains_deleted_lines_if_it_is_signed() {
    let (_, lines) = chain_of("a", 4);
    let record = || emitter().retention(&[tip_of(&lines[1], "a")]).remove(0);
    let signed = Chain::new(id("admin"))
        .append_signed(record(), &key(1))
        .json;
    let left = [&lines[2].json, &lines[3].json, &signed];
    let report = verify(left, VerifyOptions::default());
    assert_eq!(found(&report), [("retained", 1, 2), ("no-farewell", 1, 1)]);
    let unsigned = Chain::new(id("admin")).append(record()).json;
    let report = verify([&lines[2].json, &unsigned], VerifyOptions::default());
    assert_eq!(report.verdict(), Verdict::Damaged);
    let less = [&lines[3].json, &signed];
    let report = verify(less, VerifyOptions::default());
    assert_eq!(found(&report)[0], ("missing", 3, 3));
}

#[test]
fn pinned_key_is_the_only_trusted_one() {
    let (chain, lines) = chain_of("a", 3);
    let tip = chain.tip().clone();
    let pinned = || VerifyOptions {
        keys: vec![key(1).public_key()],
        partial: false,
    };
    let foreign = checkpoint_of(std::slice::from_ref(&tip), 2);
    let report = verify(
        [&lines[0].json, &lines[1].json, &lines[2].json, &foreign],
        pinned(),
    );
    assert_eq!(found(&report)[0], ("foreign-signature", 1, 1));
    assert_eq!(report.trusted_on_first_use, None);
    let mut verifier = Verifier::new(pinned());
    let own = checkpoint_of(&[tip], 1);
    assert_eq!(
        verifier.trust(foreign.as_bytes()),
        Err(InvalidCheckpoint::OtherKey)
    );
    assert_eq!(verifier.trust(own.as_bytes()), Ok(()));
    let changed = own.replace("prod", "test");
    assert_eq!(
        verifier.trust(changed.as_bytes()),
        Err(InvalidCheckpoint::WrongSignature)
    );
    let line = lines[0].json.as_bytes();
    assert_eq!(verifier.trust(line), Err(InvalidCheckpoint::NotACheckpoint));
}

#[test]
fn announced_key_is_trusted_and_so_are_confirmed_ones_before_it() {
    let mut admin = Chain::new(id("admin"));
    let first = emitter()
        .checkpoints(&[tip_of(&chain_of("a", 3).1[2], "a")])
        .remove(0);
    let mut lines: Vec<String> = chain_of("a", 3)
        .1
        .into_iter()
        .map(|line| line.json)
        .collect();
    lines.push(admin.append_signed(first, &key(1)).json);
    lines.push(
        admin
            .append_signed(emitter().key(key(2).public_key()), &key(1))
            .json,
    );
    let last = emitter().checkpoints(&[admin.tip().clone()]).remove(0);
    lines.push(admin.append_signed(last, &key(2)).json);
    for seed in [1, 2] {
        let options = VerifyOptions {
            keys: vec![key(seed).public_key()],
            partial: false,
        };
        let report = verify(&lines, options);
        assert_eq!(found(&report), [("no-farewell", 3, 3)], "key {seed}");
        assert_eq!(report.chains[0].confirmed_to, 3, "key {seed}");
    }
}

/// Somebody who has no key writes chains that agree with each other.
#[test]
fn start_of_the_next_process_confirms_nothing() {
    let foreign = key(9);
    let (mut first, mut second) = (
        Chain::new(id("p")),
        Chain::new(ChainId::parse("p/2").unwrap()),
    );
    let mut lines = vec![first.append(emitter().start(None))];
    lines.push(first.append_signed(emitter().key(foreign.public_key()), &foreign));
    lines.push(second.append(emitter().start(Some(first.tip().clone()))));
    lines.push(second.append_signed(
        emitter().checkpoints(&[first.tip().clone()]).remove(0),
        &foreign,
    ));
    let lines: Vec<&str> = lines.iter().map(|line| line.json.as_str()).collect();
    let pinned = VerifyOptions {
        keys: vec![key(1).public_key()],
        ..VerifyOptions::default()
    };
    let report = verified(&lines, pinned);
    let foreign = report
        .findings
        .iter()
        .filter(|finding| finding.kind == Kind::ForeignSignature);
    assert_eq!(foreign.count(), 2, "{:?}", report.findings);
    assert!(
        report.chains.iter().all(|chain| chain.confirmed_to == 0),
        "{:?}",
        report.chains
    );
}

#[test]
fn input_without_records_is_no_proof() {
    let report = verified(&["serving", "{}", ""], VerifyOptions::default());
    assert_eq!(report.verdict(), Verdict::NoRecords);
}

#[test]
fn gaps_beyond_the_limit_are_missing_lines() {
    let (_, lines) = chain_of("a", 4 * MAX_GAPS);
    let odd: Vec<&String> = lines.iter().step_by(2).map(|line| &line.json).collect();
    let even: Vec<&String> = lines
        .iter()
        .skip(1)
        .step_by(2)
        .map(|line| &line.json)
        .collect();
    let report = verify(odd.iter().chain(&even), VerifyOptions::default());
    let count = |kind: Kind| {
        let of_kind = report.findings.iter().filter(|found| found.kind == kind);
        of_kind.map(|found| found.to - found.from + 1).sum::<u64>()
    };
    assert_eq!(count(Kind::Missing), MAX_GAPS as u64 - 1);
    assert_eq!(count(Kind::Moved), MAX_GAPS as u64);
}

#[test]
fn chains_beyond_the_limit_are_reported() {
    let template = Chain::new(id("a")).append(emitter().start(None)).json;
    let root = id("a").root().to_string();
    let mut verifier = Verifier::new(VerifyOptions::default());
    for n in 0..=MAX_CHAINS {
        let id = ChainId::parse(&format!("pod/{n}")).unwrap();
        let line = template.replace("a/1", id.as_str());
        verifier.push(line.replace(&root, &id.root().to_string()).as_bytes());
    }
    let report = verifier.finish();
    assert_eq!(found(&report)[0], ("too-many-chains", 16_385, 16_385));
    assert_eq!((report.chains.len(), report.more_findings), (MAX_CHAINS, 0));
    assert_eq!(
        report.findings.len(),
        1 + MAX_FINDINGS,
        "notes are bounded, too"
    );
}

#[test]
fn findings_beyond_the_limit_are_counted() {
    let mut list = FindingList::default();
    for n in 0..MAX_FINDINGS as u64 + 2 {
        list.add(Kind::Missing, Some(&id("a")), 2 * n, 2 * n);
        list.add(Kind::Torn, None, 2 * n, 2 * n);
    }
    assert_eq!(
        (list.damage.len(), list.notes.len(), list.more),
        (MAX_FINDINGS, MAX_FINDINGS, 2)
    );
}

#[test]
fn recent_lines_are_bounded() {
    let mut recent = RecentLines::default();
    let hash = Digest::of(b"");
    for seq in 0..=MAX_RECENT as u64 {
        recent.add(&id("a"), seq, hash);
    }
    assert_eq!(recent.get(&id("a"), 0), None);
    assert_eq!(recent.get(&id("a"), 1), Some(hash));
}
