//! Age of the value that a running container has, by its start and the last change of the Secret. Pure.

use jiff::{SignedDuration, Timestamp};

use super::found::ValueAge;
use super::secret_head::DataChange;

/// Time after a change in which a container of an older pod may start with the value from before it: the kubelet takes
/// the variables from its cache, and creates and starts the container after that.
pub(super) const START_MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// Age of the value of a container that reads the Secret only at its start, in a pod that was created at that time.
/// Times have whole seconds, so a start in the second of the change is not decided.
///
/// The variables of a pod's first containers are taken after the pod's creation, so that the margin applies to pods from
/// before the change alone. Otherwise no pod that Reloader replaces at once would ever be current.
pub(super) fn value_age(
    created: Option<Timestamp>,
    started: Timestamp,
    change: DataChange,
) -> ValueAge {
    let is_newer_pod = created.is_some_and(|created| created >= change.latest);
    let margin = if is_newer_pod {
        SignedDuration::ZERO
    } else {
        START_MARGIN
    };
    // A sum after the latest possible time is an unknown change.
    let undecided = change.latest.checked_add(margin).unwrap_or(Timestamp::MAX);
    if started < change.earliest {
        ValueAge::Old
    } else if started <= undecided {
        ValueAge::PossiblyOld
    } else {
        ValueAge::Current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[rstest::rstest]
    #[case(9, ValueAge::Old)]
    #[case(10, ValueAge::PossiblyOld)]
    #[case(20, ValueAge::PossiblyOld)]
    #[case(30, ValueAge::PossiblyOld)]
    #[case(31, ValueAge::Current)]
    fn value_is_compared_with_both_times_and_the_margin(
        #[case] started: i64,
        #[case] expected: ValueAge,
    ) {
        let change = DataChange {
            earliest: second(10),
            latest: second(20),
        };
        assert_eq!(
            value_age(Some(second(5)), second(started), change),
            expected
        );
    }

    #[rstest::rstest]
    #[case::pod_from_before(Some(9), 20, 21)]
    #[case::pod_without_a_time(None, 20, 21)]
    #[case::pod_from_after(Some(10), 10, 11)]
    fn margin_is_for_pods_from_before_the_change(
        #[case] created: Option<i64>,
        #[case] undecided: i64,
        #[case] current: i64,
    ) {
        let change = DataChange {
            earliest: second(10),
            latest: second(10),
        };
        let age = |started| value_age(created.map(second), second(started), change);
        assert_eq!(
            [9, 10, undecided, current].map(age),
            [
                ValueAge::Old,
                ValueAge::PossiblyOld,
                ValueAge::PossiblyOld,
                ValueAge::Current
            ]
        );
    }

    #[test]
    fn docs_contain_the_margin() {
        let page = include_str!("../../docs/ROTATION.md");
        let sentence = format!("within {} seconds after the change", START_MARGIN.as_secs());
        assert!(page.contains(&sentence), "{sentence}");
    }
}
