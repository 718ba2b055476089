//! Second passes: a pod that the API server sends again in the same request, because another webhook changed it later.
//!
//! The second review has a uid of its own, and its pod has the uid of the first one in `audit.floe.dev/event`. Anybody
//! may write that annotation. So a record is a second pass only if all that both passes have to share is the same.

use jiff::SignedDuration;
use serde_json::Value;

use super::CLOCK_TOLERANCE;
use super::stored::StoredLine;

/// Time after the first pass within which the second one is decided. The API server responds to a request within a
/// minute, and the calls between two passes usually take milliseconds.
pub const MAX_PASS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// Whether a record is the second pass of the use that another one is. A record that is a second pass itself has none:
/// the API server sends a pod to a webhook at most twice.
#[must_use]
pub fn is_second_pass(first: &StoredLine, second: &StoredLine) -> bool {
    let delay = second.time.duration_since(first.time);
    let names_it = second.found_event == first.request_uid && !second.found_event.is_empty();
    names_it
        && first.is_use()
        && second.is_use()
        && first.found_event.is_empty()
        && delay < MAX_PASS_DELAY
        && delay >= -CLOCK_TOLERANCE
        && (&first.actor, &first.actor_uid) == (&second.actor, &second.actor_uid)
        && first.namespace == second.namespace
        && shared_fields(first) == shared_fields(second)
}

/// Fields without an index that both passes share: the object with its owner and names, and the secrets of the part.
fn shared_fields(line: &StoredLine) -> Option<[Value; 3]> {
    let mut record: Value = serde_json::from_str(&line.json).ok()?;
    let fields = ["object", "part", "targets"].map(|name| record.get_mut(name).map(Value::take));
    Some(fields.map(Option::unwrap_or_default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::record::{Action, Actor, ObjectFields, Record, RecordOutcome, RequestFields};
    use crate::audit::target::RecordPart;
    use crate::audit::test_support::{admission, id};
    use crate::audit::text::Text;
    use rstest::rstest;

    fn stored(record: Record) -> StoredLine {
        let line = Chain::new(id("a")).append(record);
        StoredLine::parse(line.json.as_bytes()).unwrap()
    }

    fn is_accepted(change: impl Fn(&mut Record, &mut Record)) -> bool {
        let mut first = admission("db", 2);
        let mut second = first.clone();
        let request = second.request.as_mut().unwrap();
        request.found_event = request.admission_uid.clone();
        request.admission_uid = Text::new("other");
        second.time += SignedDuration::from_millis(4);
        change(&mut first, &mut second);
        is_second_pass(&stored(first), &stored(second))
    }

    #[test]
    fn second_pass_has_a_request_of_its_own() {
        assert!(is_accepted(|_, _| {}));
        // Fields that passes need not share.
        assert!(is_accepted(|_, second| {
            (second.decision, second.duration_us) = ("skipped", Some(1));
            second.service.replica = Text::new("other");
        }));
    }

    #[rstest]
    #[case(-5_001, false)]
    #[case(-5_000, true)]
    #[case(0, true)]
    #[case(29_999, true)]
    #[case(30_000, false)]
    fn second_pass_follows_soon(#[case] milliseconds: i64, #[case] expected: bool) {
        let is_accepted = is_accepted(|first, second| {
            second.time = first.time + SignedDuration::from_millis(milliseconds);
        });
        assert_eq!(is_accepted, expected);
    }

    fn object(record: &mut Record) -> &mut ObjectFields {
        record.object.as_mut().unwrap()
    }

    fn request(record: &mut Record) -> &mut RequestFields {
        record.request.as_mut().unwrap()
    }

    fn actor(record: &mut Record) -> &mut Actor {
        record.actor.as_mut().unwrap()
    }

    type Change = fn(&mut Record, &mut Record);

    const CHANGES: &[(&str, Change)] = &[
        ("forged", |_, second| {
            request(second).found_event = Text::new("forged");
        }),
        ("no annotation", |_, second| {
            request(second).found_event = Text::default();
        }),
        ("no uid", |first, second| {
            request(first).admission_uid = Text::default();
            request(second).found_event = Text::default();
        }),
        ("third pass", |first, _| {
            request(first).found_event = Text::new("earlier");
        }),
        ("requester", |_, second| {
            actor(second).username = Text::new("mallory");
        }),
        ("uid of the requester", |_, second| {
            actor(second).uid = Text::new("0b1e");
        }),
        ("namespace", |_, second| {
            object(second).namespace = Text::new("web");
        }),
        ("kind", |_, second| {
            object(second).kind = Text::new("Job");
        }),
        ("name", |_, second| {
            object(second).name = Text::new("copy");
        }),
        ("prefix", |_, second| {
            object(second).generate_name = Text::new("copy-");
        }),
        ("owner", |_, second| {
            object(second).owner.as_mut().unwrap().uid = Text::new("9e32");
        }),
        ("no owner", |_, second| {
            object(second).owner = None;
        }),
        ("secret", |_, second| {
            second.targets.truncate(1);
        }),
        ("origin", |_, second| {
            second.targets[0].origin = "namespace";
        }),
        ("part", |_, second| {
            second.part = Some(RecordPart {
                n: 2,
                of: 2,
                omitted: 0,
            });
        }),
        ("refused", |_, second| {
            second.outcome = RecordOutcome::Denied;
        }),
        ("first refused", |first, _| {
            first.outcome = RecordOutcome::Failure;
        }),
        ("workload", |first, second| {
            first.action = Action::AdmitWorkload;
            second.action = Action::AdmitWorkload;
        }),
        ("no secret", |first, second| {
            first.targets.clear();
            second.targets.clear();
        }),
    ];

    #[test]
    fn other_record_is_a_use_of_its_own() {
        for (name, change) in CHANGES {
            assert!(!is_accepted(change), "{name}");
        }
    }
}
