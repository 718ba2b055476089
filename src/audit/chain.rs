//! Chain of one process: numbers its records without a gap, and links each to the line before it.
//!
//! The hash of a record is the SHA-256 of its line without the newline. `chain.prev` of a record is the hash of the line
//! before; that of the first record is the hash of the chain's id.

use super::digest::Digest;
use super::link::{ChainId, ChainLink, Tip};
use super::record::Record;
use super::signature::SigningKey;
use super::unlinked::UnlinkedLine;

/// A record as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// JSON without a newline.
    pub json: String,
    pub hash: Digest,
    pub seq: u64,
}

/// End of a chain that is being written.
#[derive(Clone, Debug)]
pub struct Chain {
    tip: Tip,
}

impl Chain {
    #[must_use]
    pub fn new(id: ChainId) -> Self {
        let hash = id.root();
        Self {
            tip: Tip {
                chain: id,
                hash,
                seq: 0,
            },
        }
    }

    /// Last line; number 0 before the first one.
    #[must_use]
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Numbers, links and writes a record.
    pub fn append(&mut self, mut record: Record) -> Line {
        let seq = self.link(&mut record);
        self.extend(seq, record.to_json())
    }

    /// Like [`Self::append`], if the line has at most `max` bytes. Otherwise the record is returned, and the chain is as
    /// it was. Most records fit, and are written only once so.
    ///
    /// # Errors
    /// The record, if its line is too long.
    pub fn append_within(
        &mut self,
        mut record: Box<Record>,
        max: usize,
    ) -> Result<Line, Box<Record>> {
        let seq = self.link(&mut record);
        let json = record.to_json();
        if json.len() <= max {
            Ok(self.extend(seq, json))
        } else {
            Err(record)
        }
    }

    /// Numbers and links a record that is JSON already, and writes its line behind those in `lines`, with a newline.
    pub fn append_unlinked(&mut self, line: &UnlinkedLine, lines: &mut Vec<u8>) {
        let (start, seq) = (lines.len(), self.tip.seq + 1);
        line.write(&self.tip.chain, self.tip.hash, seq, lines);
        let written = lines.get(start..).unwrap_or_default();
        (self.tip.hash, self.tip.seq) = (Digest::of(written), seq);
        lines.push(b'\n');
    }

    /// Like [`Self::append`], and signs the line as it is without the signature.
    pub fn append_signed(&mut self, mut record: Record, key: &SigningKey) -> Line {
        let seq = self.link(&mut record);
        record.signature = Some(key.sign(record.to_json().as_bytes()));
        self.extend(seq, record.to_json())
    }

    fn link(&self, record: &mut Record) -> u64 {
        let seq = self.tip.seq + 1;
        record.signature = None;
        record.chain = Some(ChainLink {
            id: self.tip.chain.clone(),
            prev: self.tip.hash,
            seq,
        });
        seq
    }

    fn extend(&mut self, seq: u64, json: String) -> Line {
        let hash = Digest::of(json.as_bytes());
        (self.tip.hash, self.tip.seq) = (hash, seq);
        Line { json, hash, seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::test_support::{emitter, id, key};

    #[test]
    fn chain_links_each_line_to_the_one_before() {
        let mut chain = Chain::new(id("a"));
        let first = chain.append(emitter().start(None));
        let second = chain.append_signed(emitter().stop(), &key(1));
        let root = Digest::of(id("a").as_str().as_bytes());
        assert_eq!((first.seq, second.seq), (1, 2));
        assert!(
            first.json.contains(&format!(r#""prev":"{root}","seq":1"#)),
            "{}",
            first.json
        );
        assert!(
            second
                .json
                .contains(&format!(r#""prev":"{}","seq":2"#, first.hash))
        );
        assert_eq!(second.hash, Digest::of(second.json.as_bytes()));
        assert_eq!((chain.tip().seq, chain.tip().hash), (2, second.hash));
    }

    #[test]
    fn line_that_is_too_long_is_not_in_the_chain() {
        let (mut chain, mut other) = (Chain::new(id("a")), Chain::new(id("a")));
        let record = Box::new(emitter().start(None));
        let line = other.append(emitter().start(None));
        let length = line.json.len();
        let record = chain.append_within(record, length - 1).unwrap_err();
        assert_eq!(chain.tip().seq, 0);
        assert_eq!(chain.append_within(record, length), Ok(line));
    }
}
