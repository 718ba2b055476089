//! Ids of records and of the chain of a process: UUIDs of version 7, which are sorted by their times.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

use crate::audit::link::ChainId;
use crate::audit::text::Text;

/// Uid in the id of a chain whose process does not know its pod.
pub const UNKNOWN_POD: &str = "unknown";

/// New id of a record.
#[must_use]
pub fn record_id(time: Timestamp) -> Text<64> {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let millis = u64::try_from(time.as_millisecond()).unwrap_or_default();
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    Text::new(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

/// Id of the chain of a process that starts at `time`: the uid of its pod, and an id of the start that no other start
/// has, even if the clock was set back. A uid that cannot be part of an id is replaced by `unknown`.
#[must_use]
pub fn chain_of_process(pod_uid: Option<&str>, time: Timestamp) -> ChainId {
    let start = record_id(time);
    let id = |pod: &str| ChainId::parse(&format!("{pod}/{}", start.as_str()));
    pod_uid
        .and_then(|uid| id(uid).ok())
        .or_else(|| id(UNKNOWN_POD).ok())
        .unwrap_or_else(|| unreachable!("a word and a UUID are the id of a chain"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn time() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn ids_are_uuids_of_version_7_in_the_order_of_their_times() {
        let (one, other) = (record_id(time()), record_id(time()));
        assert_ne!(one, other);
        for id in [&one, &other] {
            let uuid: Uuid = id.as_str().parse().unwrap();
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        }
        let later = time() + jiff::SignedDuration::from_millis(1);
        assert!(record_id(later) > one);
        assert_eq!(record_id(Timestamp::MIN).as_str().len(), 36);
    }

    #[rstest]
    #[case(
        Some("0b1d6a52-1111-4222-8333-444455556666"),
        "0b1d6a52-1111-4222-8333-444455556666"
    )]
    #[case(Some("a b"), "unknown")]
    #[case(Some(""), "unknown")]
    #[case(None, "unknown")]
    fn chain_has_the_uid_of_the_pod(#[case] uid: Option<&str>, #[case] expected: &str) {
        let chain = chain_of_process(uid, time());
        assert_eq!(chain.pod_uid(), expected);
        assert_ne!(chain, chain_of_process(uid, time()));
    }
}
