//! Tables and properties of the rules.

use proptest::prelude::*;
use rstest::rstest;

use super::super::asking_record::AskingOrigin;
use super::*;
use crate::audit::asked_by::Requester;
use crate::store::LinePosition;

/// Time some seconds after the creation of the object.
fn at(seconds: f64) -> Timestamp {
    let created: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
    created
        .checked_add(SignedDuration::from_secs_f64(seconds))
        .unwrap()
}

fn secret(name: &str) -> AskedSecret {
    AskedSecret {
        backend: "kubernetes".to_owned(),
        namespace: "jobs".to_owned(),
        name: name.to_owned(),
    }
}

/// Record as `SECONDS REQUESTER SECRETS`, with a `+` before the requester of a creation.
fn record(number: usize, text: &str) -> AskingRecord {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (seconds, requester, secrets) = (word().parse().unwrap(), word(), word());
    AskingRecord {
        position: LinePosition(number as u64),
        time: at(seconds),
        id: format!("{text}-{number}"),
        is_create: requester.starts_with('+'),
        requester: Requester {
            username: requester.trim_start_matches('+').to_owned(),
            uid: String::new(),
        },
        namespace: "jobs".to_owned(),
        owner: None,
        service_account: String::new(),
        targets: secrets
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| (secret(name), AskingOrigin::Object))
            .collect(),
    }
}

/// Records as `RECORD; RECORD`, newest first.
fn records(text: &str) -> Vec<AskingRecord> {
    let records = text.split("; ").filter(|text| !text.is_empty());
    let mut records: Vec<_> = (1..).zip(records).collect();
    records.reverse();
    let read = |(number, text)| record(number, text);
    records.into_iter().map(read).collect()
}

fn asker_of(history: Result<AskingHistory, UnknownReason>, name: &str, moment: Moment) -> String {
    let history = match history {
        Ok(history) => history,
        Err(reason) => return reason.as_str().to_owned(),
    };
    match history.asker(&secret(name), moment) {
        Ok(record) => format!("{} {}", record.requester.username, record.position.0),
        Err(reason) => reason.as_str().to_owned(),
    }
}

const ALICE_THEN_BOB: &str = "0 +alice a; 100 bob a,b";

/// Records, the secret, the time of the pod's record, and who asked in which record.
#[rstest]
#[case::author_of_a_creation("0 +alice a", "a", 1.0, "alice 1")]
#[case::added_by_another(ALICE_THEN_BOB, "a", 200.0, "alice 1")]
#[case::adds(ALICE_THEN_BOB, "b", 200.0, "bob 2")]
#[case::not_yet_added(ALICE_THEN_BOB, "b", 50.0, "not-named")]
#[case::removed("0 +alice a; 100 bob ", "a", 200.0, "not-named")]
#[case::removed_and_added_again("0 +alice a; 100 bob ; 200 carol a", "a", 300.0, "carol 3")]
#[case::replaced("0 +alice a; 100 bob b; 200 carol a,b", "b", 300.0, "bob 2")]
#[case::kept_by_others("0 +alice a; 50 bob a; 60 carol a,b; 70 dave a", "a", 300.0, "alice 1")]
#[case::never_recorded("", "a", 1.0, "no-record")]
#[case::other_secret("0 +alice b", "a", 1.0, "not-named")]
#[case::creation_was_not_seen("100 bob a", "a", 200.0, "bob 1")]
#[case::recorded_later_than_the_pod("100 bob a", "a", 50.0, "no-record")]
#[case::namesake_of_last_week("-600000 +alice a", "a", 1.0, "no-record")]
#[case::namesake_before_a_creation("-4 alice a; 0 +bob a", "a", 1.0, "bob 2")]
#[case::creation_of_a_slow_admission("-4.9 +alice a", "a", 1.0, "alice 1")]
#[case::failed_creation_of_another("0 +alice a; 30 +mallory ", "a", 60.0, "alice 1")]
#[case::failed_creation_that_asks("0 +alice a; 30 +mallory a,b", "b", 60.0, "not-named")]
#[case::two_creators_at_a_time("0 +alice a; 2 +bob a", "a", 60.0, "ambiguous")]
#[case::one_creator_twice("0 +alice a; 2 +alice a", "a", 60.0, "alice 2")]
#[case::clock_behind("0 +alice a; 103 bob a,b", "b", 100.0, "bob 2")]
#[case::change_within_the_tolerance("0 +alice a; 98 bob ", "a", 100.0, "alice 1")]
#[case::two_runs_within_the_tolerance("0 +alice a; 98 bob ; 99 carol a", "a", 100.0, "ambiguous")]
fn records_show_who_asked(
    #[case] text: &str,
    #[case] name: &str,
    #[case] pod: f64,
    #[case] expected: &str,
) {
    let history = AskingHistory::new(records(text), Vec::new(), at(0.0));
    let found = asker_of(history, name, Moment::of_record(at(pod)));
    assert_eq!(found, expected);
}

/// Records of a Deployment, the secret, the creation of a `ReplicaSet`, and the time of its pod.
#[rstest]
#[case::first_revision(ALICE_THEN_BOB, "a", 0.0, 500.0, "alice 1")]
#[case::second_revision(ALICE_THEN_BOB, "b", 100.0, 500.0, "bob 2")]
#[case::truncated_time("0 +alice a; 100.9 bob a,b", "b", 100.0, 500.0, "bob 2")]
#[case::pod_of_an_old_revision("0 +alice a; 100 bob ", "a", 0.0, 500.0, "alice 1")]
#[case::secret_of_a_later_revision(ALICE_THEN_BOB, "b", 10.0, 500.0, "not-named")]
#[case::pod_is_recorded_before("0 +alice a; 3 bob ; 5.5 carol a", "a", 0.0, 0.2, "alice 1")]
#[case::pod_may_be_of_two_revisions(
    "0 +alice a; 3 bob ; 5.5 carol a",
    "a",
    0.0,
    500.0,
    "ambiguous"
)]
fn revision_shows_who_asked(
    #[case] text: &str,
    #[case] name: &str,
    #[case] created: f64,
    #[case] pod: f64,
    #[case] expected: &str,
) {
    let history = AskingHistory::new(records(text), Vec::new(), at(0.0));
    let moment = Moment::of_creation(at(created), at(pod));
    assert_eq!(asker_of(history, name, moment), expected);
}

/// Records with the name, creations with its prefix, the secret, and who asked.
#[rstest]
#[case::only_creation("", "0 +alice a", "a", "alice 1")]
#[case::same_requester("", "0 +alice a; 1 +alice b", "a", "alice 1")]
#[case::several_requesters("", "0 +alice a; 1 +bob b", "a", "ambiguous")]
#[case::other_objects("", "-60 +bob a; 0 +alice a; 60 +bob a", "a", "alice 2")]
#[case::only_other_objects("", "-60 +bob a; 60 +bob a", "a", "no-record")]
#[case::not_named("", "0 +alice b", "a", "not-named")]
#[case::change_keeps_the_run("50 bob a,b", "0 +alice a", "a", "alice 1")]
#[case::change_adds("50 bob a,b", "0 +alice a", "b", "bob 1")]
#[case::change_of_one_of_several("50 bob a", "0 +alice a; 1 +alice b", "a", "ambiguous")]
fn generated_name_is_joined_by_its_prefix(
    #[case] named: &str,
    #[case] generated: &str,
    #[case] name: &str,
    #[case] expected: &str,
) {
    let history = AskingHistory::new(records(named), records(generated), at(0.0));
    let moment = Moment::of_record(at(100.0));
    assert_eq!(asker_of(history, name, moment), expected);
}

#[test]
fn parts_of_a_record_are_one() {
    let mut parts = records("0 +alice a; 0 +alice b; 9 bob a,b");
    parts[2].id = parts[1].id.clone();
    let history = AskingHistory::new(parts, Vec::new(), at(0.0));
    for name in ["a", "b"] {
        let moment = Moment::of_record(at(100.0));
        assert_eq!(asker_of(history.clone(), name, moment), "alice 1");
    }
}

#[test]
fn records_are_limited() {
    let updates = |count: usize| {
        let records = (0..count).rev();
        records
            .map(|number| record(number, &format!("{number} alice a")))
            .collect::<Vec<_>>()
    };
    let moment = Moment::of_record(at(9_000.0));
    let full = AskingHistory::new(updates(MAX_OBJECT_RECORDS), Vec::new(), at(0.0));
    assert_eq!(asker_of(full, "a", moment), "alice 0");
    let mut more = updates(MAX_OBJECT_RECORDS + 1);
    let cut = AskingHistory::new(more.clone(), Vec::new(), at(0.0));
    assert_eq!(asker_of(cut, "a", moment), "too-many-records");
    // The run begins within the records that are read.
    more[3].targets.clear();
    let cut = AskingHistory::new(more, Vec::new(), at(0.0));
    let expected = format!("alice {}", MAX_OBJECT_RECORDS - 2);
    assert_eq!(asker_of(cut, "a", moment), expected);
    let generated = AskingHistory::new(Vec::new(), updates(MAX_OBJECT_RECORDS + 1), at(0.0));
    assert_eq!(asker_of(generated, "a", moment), "too-many-records");
}

proptest! {
    /// The asker has a record that names the secret, and all records from it to the pod's do.
    #[test]
    fn asker_has_named_the_secret_since(
        changes in proptest::collection::vec((0_u8..3, prop::bool::ANY, prop::bool::ANY), 1..12),
        pod in 0_u8..130,
    ) {
        let text = |(index, (who, a, b)): (usize, &(u8, bool, bool))| {
            let names = [(*a, "a"), (*b, "b")].into_iter().filter_map(|(named, name)| named.then_some(name));
            let names = names.collect::<Vec<_>>().join(",");
            let creates = if index == 0 { "+" } else { "" };
            format!("{} {creates}user-{who} {names}", index * 10)
        };
        let texts: Vec<String> = changes.iter().enumerate().map(text).collect();
        let history = AskingHistory::new(records(&texts.join("; ")), Vec::new(), at(0.0)).unwrap();
        let moment = Moment::of_record(at(f64::from(pod)));
        // A record every ten seconds: at most one within the tolerance of five.
        let last = (usize::from(pod) / 10).min(changes.len() - 1);
        if let Ok(found) = history.asker(&secret("a"), moment) {
            let first = usize::try_from(found.position.0).unwrap() - 1;
            prop_assert!(changes[first].1);
            let bound = changes.len().min(last + 2);
            let unbroken = |last: usize| last >= first && changes[first..=last].iter().all(|change| change.1);
            prop_assert!((last.saturating_sub(1)..bound).any(unbroken), "{texts:?}");
            prop_assert!(first == 0 || !changes[first - 1].1, "the run began earlier");
        }
    }
}
