//! Row of a chain, and whether a batch follows it: the rules of appending that need no database.

use super::{AppendError, Batch};
use crate::audit::digest::Digest;
use crate::audit::stored::StoredLine;

/// Row of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainRow {
    pub key: i64,
    pub last_seq: u64,
    pub last_hash: Digest,
    pub retained_seq: u64,
}

/// Lines of a batch that may be stored already, and those that are new.
pub(super) struct SplitBatch<'b> {
    pub known: &'b [StoredLine],
    pub new: &'b [StoredLine],
    /// Number of the chain's last stored line.
    pub last_seq: u64,
}

impl Batch {
    /// Splits the batch at the end of its chain, which the new lines have to follow.
    pub(super) fn split(&self, chain: Option<&ChainRow>) -> Result<SplitBatch<'_>, AppendError> {
        let (last_seq, last_hash) = chain.map_or((0, self.chain.root()), |chain| {
            (chain.last_seq, chain.last_hash)
        });
        let split = self.lines.partition_point(|line| line.seq <= last_seq);
        let (known, new) = self.lines.split_at(split);
        let chain = || self.chain.clone();
        match new.first() {
            Some(line) if line.seq == last_seq + 1 && line.prev != last_hash => {
                Err(AppendError::SecondHistory {
                    chain: chain(),
                    seq: last_seq,
                })
            }
            Some(line) if line.seq > last_seq + 1 && !self.lost_before => {
                Err(AppendError::OutOfOrder {
                    chain: chain(),
                    first: line.seq,
                    wanted: last_seq + 1,
                })
            }
            _ => Ok(SplitBatch {
                known,
                new,
                last_seq,
            }),
        }
    }
}

impl ChainRow {
    /// Whether retention has deleted a line of the chain. It was stored.
    pub(super) fn has_deleted(&self, line: &StoredLine) -> bool {
        line.seq <= self.retained_seq
    }

    /// Compares a line with the hash of the stored one of its number.
    pub(super) fn compare(
        &self,
        line: &StoredLine,
        stored: Option<Digest>,
    ) -> Result<(), AppendError> {
        match stored {
            Some(hash) if hash == line.hash => Ok(()),
            Some(_) => Err(AppendError::SecondHistory {
                chain: line.chain.clone(),
                seq: line.seq,
            }),
            // Declared as lost before: import fills the range.
            None => Err(AppendError::OutOfOrder {
                chain: line.chain.clone(),
                first: line.seq,
                wanted: self.last_seq + 1,
            }),
        }
    }
}
