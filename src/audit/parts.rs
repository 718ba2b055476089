//! Records that continue in further lines, because one line cannot name all of their targets.

use super::MAX_LINE;
use super::record::{MAX_INTEGER, Record};
use super::target::{RecordPart, TargetSecret};

/// Targets of one line: as many secrets as one object may request.
pub const MAX_TARGETS: usize = 64;

/// Targets of one record in all of its parts. An admission has at most 64 by the limits of annotations; more are counted
/// in the last part.
pub const MAX_RECORD_TARGETS: usize = 1_024;

/// Bytes that a chain, a signature and a part add to a record at most.
const LINK_BYTES: usize = 512;

/// Splits a record so that each part has at most [`MAX_TARGETS`] targets, and fits into a line of [`MAX_LINE`] bytes
/// with its chain and signature. All parts have the other fields, and the same id.
#[must_use]
pub fn parts(mut record: Record) -> Vec<Record> {
    let omitted = record.targets.len().saturating_sub(MAX_RECORD_TARGETS);
    record.targets.truncate(MAX_RECORD_TARGETS);
    let targets = std::mem::take(&mut record.targets);
    let room = MAX_LINE.saturating_sub(record.to_json().len() + LINK_BYTES);
    let (mut groups, mut group, mut length) = (Vec::new(), Vec::new(), 0);
    for target in targets {
        let bytes = written_length(&target);
        if !group.is_empty() && (group.len() == MAX_TARGETS || length + bytes > room) {
            groups.push(std::mem::take(&mut group));
            length = 0;
        }
        length += bytes;
        group.push(target);
    }
    groups.push(group);
    let of = groups.len() as u64;
    let part = |(n, targets)| {
        let n: u64 = n;
        let is_last = n + 1 == of;
        let part = RecordPart {
            n: n + 1,
            of,
            omitted: if is_last {
                (omitted as u64).min(MAX_INTEGER)
            } else {
                0
            },
        };
        Record {
            targets,
            part: (of > 1).then_some(part),
            ..record.clone()
        }
    };
    (0..).zip(groups).map(part).collect()
}

/// Bytes of a target and its comma in a line.
fn written_length(target: &TargetSecret) -> usize {
    serde_json::to_string(target).map_or(MAX_LINE, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::link::{ChainId, MAX_CHAIN_ID};
    use crate::audit::test_support::{admission, fullest, key, longest};
    use crate::audit::text::Text;
    use rstest::rstest;

    fn widest() -> ChainId {
        ChainId::parse(&format!("{}/1", "p".repeat(MAX_CHAIN_ID - 2))).unwrap()
    }

    #[rstest]
    #[case::none(0, &[0])]
    #[case::at_the_limit(64, &[64])]
    #[case::beyond(65, &[64, 1])]
    #[case::far_beyond(200, &[64, 64, 64, 8])]
    fn record_is_split_by_its_targets(#[case] targets: usize, #[case] expected: &[usize]) {
        let parts = parts(admission("db", targets));
        let found: Vec<usize> = parts.iter().map(|part| part.targets.len()).collect();
        assert_eq!(found, expected);
        let numbers = parts
            .iter()
            .map(|part| part.part.map(|part| (part.n, part.of)));
        let of = expected.len() as u64;
        let expected: Vec<_> = (1..=of).map(|n| (of > 1).then_some((n, of))).collect();
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn longest_record_fits_into_lines_and_loses_no_target() {
        let mut record = fullest();
        let target = TargetSecret {
            backend: Text::new(&longest()),
            name: Text::new(&longest()),
            namespace: Text::new(&longest()),
            origin: "serviceaccount",
        };
        record.targets = vec![target; MAX_TARGETS];
        let parts = parts(record);
        let targets: usize = parts.iter().map(|part| part.targets.len()).sum();
        assert_eq!(targets, MAX_TARGETS);
        let mut chain = Chain::new(widest());
        for part in parts {
            let line = chain.append_signed(part, &key(1));
            assert!(line.json.len() <= MAX_LINE, "{}", line.json.len());
        }
    }

    #[test]
    fn targets_beyond_the_limit_are_counted() {
        let parts = parts(admission("db", MAX_RECORD_TARGETS + 3));
        let omitted: Vec<u64> = parts
            .iter()
            .map(|part| part.part.unwrap().omitted)
            .collect();
        assert_eq!(omitted.last(), Some(&3));
        assert_eq!(omitted.iter().sum::<u64>(), 3);
    }
}
