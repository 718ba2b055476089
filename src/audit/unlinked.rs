//! Record as JSON before it has a place in a chain, so that whoever keeps the chain has only to put the place in.

use std::io::Write as _;

use super::MAX_LINE;
use super::digest::Digest;
use super::link::{ChainId, MAX_CHAIN_ID};
use super::parts::MAX_TARGETS;
use super::record::Record;

/// Bytes that a place in a chain adds to a line at most.
const MAX_LINK_BYTES: usize =
    r#","chain":{"id":"","prev":"","seq":18446744073709551615}"#.len() + MAX_CHAIN_ID + 64;

/// Start of the field behind that of the chain. It is not in a text before it, where quotes are escaped.
const NEXT_FIELD: &[u8; 8] = br#","class""#;

/// Line of a record without the field `chain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlinkedLine {
    json: Vec<u8>,
    /// Position of the field `chain`.
    position: usize,
}

impl UnlinkedLine {
    /// Line of a record, if it is one line in any chain. `None`: the record may need parts.
    #[must_use]
    pub fn new(record: &Record) -> Option<Self> {
        if record.targets.len() > MAX_TARGETS || record.chain.is_some() {
            return None;
        }
        let json = record.to_bytes();
        let mut places = json.array_windows();
        let position = places.position(|bytes| bytes == NEXT_FIELD)?;
        (json.len() + MAX_LINK_BYTES <= MAX_LINE).then_some(Self { json, position })
    }

    /// Writes the line with its place in a chain.
    pub(super) fn write(&self, id: &ChainId, prev: Digest, seq: u64, out: &mut Vec<u8>) {
        // The position was found in these bytes.
        let (before, after) = self.json.split_at(self.position);
        out.reserve(self.json.len() + MAX_LINK_BYTES + 1);
        out.extend_from_slice(before);
        // Ids and digests have no characters that JSON writes otherwise.
        out.extend_from_slice(br#","chain":{"id":""#);
        out.extend_from_slice(id.as_str().as_bytes());
        out.extend_from_slice(br#"","prev":""#);
        out.extend_from_slice(&prev.digits());
        out.extend_from_slice(br#"","seq":"#);
        // A vector takes all that is written.
        let _ = write!(out, "{seq}}}");
        out.extend_from_slice(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::record::{Actor, MAX_INTEGER};
    use crate::audit::test_support::{admission, emitter, fullest, id};
    use crate::audit::text::Text;

    #[test]
    fn line_is_that_of_its_record() {
        let mut named_like_the_field = admission("db", 1);
        named_like_the_field.actor = Some(Actor {
            kind: "kubernetes",
            username: Text::new(r#"x","class":"y"#),
            ..Actor::default()
        });
        let (mut chain, mut other) = (Chain::new(id("a")), Chain::new(id("a")));
        let mut lines = Vec::new();
        for record in [
            admission("db", 1),
            admission("db", 20),
            named_like_the_field,
            emitter().start(None),
        ] {
            lines.clear();
            let line = UnlinkedLine::new(&record).unwrap();
            chain.append_unlinked(&line, &mut lines);
            let expected = other.append(record).json;
            assert_eq!(String::from_utf8_lossy(&lines), expected + "\n");
            assert_eq!(chain.tip(), other.tip());
        }
    }

    #[test]
    fn record_that_may_need_parts_has_no_such_line() {
        assert_eq!(UnlinkedLine::new(&admission("db", MAX_TARGETS + 1)), None);
        let mut long = fullest();
        long.targets = admission(&"n".repeat(253), MAX_TARGETS).targets;
        assert_eq!(UnlinkedLine::new(&long), None);
    }

    #[test]
    fn place_has_at_most_the_reserved_bytes() {
        let widest = format!("{}/1", "p".repeat(MAX_CHAIN_ID - 2));
        let line = UnlinkedLine::new(&admission("db", 1)).unwrap();
        let mut out = Vec::new();
        let prev = Digest::of(b"");
        line.write(&ChainId::parse(&widest).unwrap(), prev, u64::MAX, &mut out);
        assert_eq!(out.len(), line.json.len() + MAX_LINK_BYTES);
        const { assert!(MAX_INTEGER < u64::MAX) };
    }
}
