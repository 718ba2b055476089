//! Age of the value that a running container has, by its start and the last change of the Secret. Pure.

use jiff::Timestamp;

use super::found::ValueAge;
use super::secret_head::DataChange;

/// Age of the value of a container that reads the Secret only at its start. Times have whole seconds, so a start in the
/// second of the change is not decided.
pub(super) fn value_age(started: Timestamp, change: DataChange) -> ValueAge {
    if started < change.earliest {
        ValueAge::Old
    } else if started <= change.latest {
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
    #[case(21, ValueAge::Current)]
    fn value_is_compared_with_both_times(#[case] started: i64, #[case] expected: ValueAge) {
        let change = DataChange {
            earliest: second(10),
            latest: second(20),
        };
        assert_eq!(value_age(second(started), change), expected);
    }

    #[test]
    fn start_in_the_second_of_the_change_is_not_decided() {
        let change = DataChange {
            earliest: second(10),
            latest: second(10),
        };
        let ages = [9, 10, 11].map(|started| value_age(second(started), change));
        assert_eq!(
            ages,
            [ValueAge::Old, ValueAge::PossiblyOld, ValueAge::Current]
        );
    }
}
