//! Batch of lines of one chain, checked as far as the lines show it themselves.

use thiserror::Error;

use crate::audit::delivery::MAX_LINES;
use crate::audit::link::ChainId;
use crate::audit::stored::{InvalidLine, StoredLine};

/// Bytes of a batch: at least 255 of the longest lines, and 1,500 usual ones.
pub const MAX_BATCH_BYTES: usize = MAX_LINES;

/// Bytes beyond its limit of size that a store has for announcements of deletions: without them, a full store could
/// never delete. That of the most lines that go at a time takes half of it.
pub const RESERVED_BYTES: u64 = 8 << 20;

/// Lines of one chain, in order and linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub(super) chain: ChainId,
    pub(super) lines: Vec<StoredLine>,
    pub(super) lost_before: bool,
    pub(super) is_reserved: bool,
}

/// Reason why bytes are not a batch. `line` counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidBatch {
    #[error(
        "the batch has {bytes} bytes, and at most {MAX_BATCH_BYTES} are allowed: send fewer lines"
    )]
    TooLarge { bytes: usize },
    #[error("line {line} of the batch {error}")]
    Line { line: usize, error: InvalidLine },
    #[error("line {line} of the batch is of another chain than {chain}: send one chain in a batch")]
    OtherChain { line: usize, chain: ChainId },
    #[error(
        "line {line} of the batch has number {found} where {expected} follows: send the lines in order"
    )]
    Gap {
        line: usize,
        expected: u64,
        found: u64,
    },
    #[error(
        "line {line} of the batch does not have the hash of the line before: send the lines as they were written"
    )]
    Unlinked { line: usize },
}

impl Batch {
    /// Reads lines that end with newlines. The last newline may be absent.
    ///
    /// # Errors
    ///
    /// The batch is too large, or a line is not the one that has to follow.
    pub fn parse(chain: ChainId, bytes: &[u8]) -> Result<Self, InvalidBatch> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(InvalidBatch::TooLarge { bytes: bytes.len() });
        }
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut lines: Vec<StoredLine> = Vec::new();
        // No line at all is an empty batch, and not an empty line.
        let texts = bytes.split(|byte| *byte == b'\n');
        for (at, text) in texts.enumerate().filter(|_| !bytes.is_empty()) {
            let line = at + 1;
            let read =
                StoredLine::parse(text).map_err(|error| InvalidBatch::Line { line, error })?;
            check(&chain, lines.last(), &read, line)?;
            lines.push(read);
        }
        Ok(Self {
            chain,
            lines,
            lost_before: false,
            is_reserved: false,
        })
    }

    /// Declares that the sender does not have the lines between the stored ones and the first of this batch any more.
    #[must_use]
    pub fn lost_before(mut self) -> Self {
        self.lost_before = true;
        self
    }

    /// Lets a full store take the batch, because it announces a deletion. See [`RESERVED_BYTES`].
    #[must_use]
    pub fn reserved(mut self) -> Self {
        self.is_reserved = true;
        self
    }

    #[must_use]
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Checks that a line follows the one before. The first line of a chain follows the chain's id.
fn check(
    chain: &ChainId,
    before: Option<&StoredLine>,
    read: &StoredLine,
    line: usize,
) -> Result<(), InvalidBatch> {
    if read.chain != *chain {
        let chain = chain.clone();
        return Err(InvalidBatch::OtherChain { line, chain });
    }
    let is_linked = match before {
        Some(before) if read.seq != before.seq + 1 => {
            return Err(InvalidBatch::Gap {
                line,
                expected: before.seq + 1,
                found: read.seq,
            });
        }
        Some(before) => read.prev == before.hash,
        None => read.seq > 1 || read.prev == chain.root(),
    };
    if is_linked {
        Ok(())
    } else {
        Err(InvalidBatch::Unlinked { line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Trail, chain_id};

    fn parse(lines: &[String]) -> Result<Batch, InvalidBatch> {
        Batch::parse(chain_id("a"), lines.join("\n").as_bytes())
    }

    #[test]
    fn batch_has_lines_in_order() {
        let lines = Trail::new("a").lines(3);
        assert_eq!(parse(&lines).unwrap().len(), 3);
        assert_eq!(parse(&lines[1..]).unwrap().len(), 2);
        let with_end = lines.join("\n") + "\n";
        let batch = Batch::parse(chain_id("a"), with_end.as_bytes()).unwrap();
        assert_eq!(batch.len(), 3);
        assert!(Batch::parse(chain_id("a"), b"").unwrap().is_empty());
    }

    #[test]
    fn batch_names_the_line_that_does_not_fit() {
        let lines = Trail::new("a").lines(3);
        let with = |line: &str| [lines[0].clone(), line.to_owned()];
        let not_json = InvalidBatch::Line {
            line: 2,
            error: InvalidLine::NotJson,
        };
        assert_eq!(parse(&with("x")), Err(not_json.clone()));
        let empty = [lines[0].clone(), String::new(), lines[1].clone()];
        assert_eq!(parse(&empty), Err(not_json));
        let too_long = InvalidBatch::Line {
            line: 2,
            error: InvalidLine::TooLong,
        };
        assert_eq!(parse(&with(&"x".repeat(9 << 10))), Err(too_long));
        let gap = InvalidBatch::Gap {
            line: 2,
            expected: 2,
            found: 3,
        };
        assert_eq!(parse(&with(&lines[2])), Err(gap));
        let changed = lines[1].replace("injected", "rejected");
        let unlinked = parse(&[lines[0].clone(), changed, lines[2].clone()]);
        assert_eq!(unlinked, Err(InvalidBatch::Unlinked { line: 3 }));
        let other = parse(&Trail::new("b").lines(1)).unwrap_err().to_string();
        assert!(other.contains("another chain than a/1"), "{other}");
        let root = chain_id("a").root().to_string();
        let first = lines[0].replace(&root, &root.chars().rev().collect::<String>());
        assert_eq!(parse(&[first]), Err(InvalidBatch::Unlinked { line: 1 }));
    }

    #[test]
    fn size_is_limited() {
        let most = vec![b'x'; MAX_BATCH_BYTES];
        let parse = |bytes: &[u8]| Batch::parse(chain_id("a"), bytes).unwrap_err();
        assert!(matches!(parse(&most), InvalidBatch::Line { .. }));
        let more = [most.as_slice(), b"x"].concat();
        let bytes = MAX_BATCH_BYTES + 1;
        assert_eq!(parse(&more), InvalidBatch::TooLarge { bytes });
    }
}
