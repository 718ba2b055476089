//! Check of a range that is imported against the stored lines around it.
//!
//! Stored lines with consecutive numbers are always linked. So an imported line is confirmed on a side if the lines next
//! to it, up to one that was received or that a checkpoint names, are stored.

use std::collections::HashMap;

use super::chain_row::ChainRow;
use super::{ImportOutcome, ImportRange};
use crate::audit::digest::Digest;
use crate::audit::stored::StoredLine;

/// Stored lines around a range, and what is known of the lines in it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub chain: Option<ChainRow>,
    /// Hashes of stored lines, from the one before the range to its last one.
    pub hashes: HashMap<u64, Digest>,
    /// Number of the stored line after the range, and its hash of the line before.
    pub next: Option<(u64, Digest)>,
    /// Numbers and hashes in checkpoints, the last number first. A checkpoint that is confirmed on one side alone confirms
    /// nothing.
    pub named: Vec<(u64, Digest)>,
}

/// Range that stored lines confirm.
#[derive(Debug)]
pub(super) struct CheckedRange<'r> {
    /// Lines that are not stored and were not deleted.
    pub absent: Vec<&'r StoredLine>,
    /// Lines that are stored, or were deleted by retention.
    pub present: u64,
    /// Last line that a checkpoint names.
    pub named: Option<u64>,
}

impl Surroundings {
    /// Checks a range, and finds its absent lines.
    pub(super) fn check<'r>(
        &self,
        range: &'r ImportRange,
    ) -> Result<CheckedRange<'r>, ImportOutcome> {
        let (Some(first), Some(tip)) = (range.lines.first(), range.lines.last()) else {
            return Err(ImportOutcome::Unconfirmed);
        };
        let (absent, compared) = self.compare(range)?;
        let neighbours = self.neighbours(first, tip)?;
        let named = self.last_named(&range.lines);
        if compared == 0 && neighbours == 0 && named.is_none() {
            return Err(ImportOutcome::Unconfirmed);
        }
        Ok(CheckedRange {
            present: (range.lines.len() - absent.len()) as u64,
            absent,
            named,
        })
    }

    /// Absent lines, and the number of those that are the same as stored ones. Of deleted lines, only the last one of the
    /// chain is known.
    fn compare<'r>(
        &self,
        range: &'r ImportRange,
    ) -> Result<(Vec<&'r StoredLine>, u64), ImportOutcome> {
        let (mut absent, mut same) = (Vec::new(), 0);
        for line in &range.lines {
            match self.stored(line.seq) {
                None if self.chain.is_some_and(|chain| chain.has_deleted(line)) => {}
                None => absent.push(line),
                Some(hash) if hash == line.hash => same += 1,
                Some(_) => return Err(ImportOutcome::SecondHistory { seq: line.seq }),
            }
        }
        Ok((absent, same))
    }

    /// Number of lines next to a range that link to it.
    fn neighbours(&self, first: &StoredLine, tip: &StoredLine) -> Result<u64, ImportOutcome> {
        let before = if first.seq == 1 {
            Some(first.chain.root())
        } else {
            self.stored(first.seq - 1)
        };
        let mut linked = 0;
        match before {
            Some(hash) if hash != first.prev => {
                let seq = first.seq.saturating_sub(1).max(1);
                return Err(ImportOutcome::SecondHistory { seq });
            }
            Some(_) => linked += 1,
            None => {}
        }
        match self.next {
            Some((seq, prev)) if prev != tip.hash => {
                return Err(ImportOutcome::SecondHistory { seq });
            }
            Some(_) => linked += 1,
            None => {}
        }
        Ok(linked)
    }

    /// Hash of a line, as far as it is known. The last one of a chain is known after its deletion.
    fn stored(&self, seq: u64) -> Option<Digest> {
        let last = self.chain.filter(|chain| chain.last_seq == seq);
        last.map_or_else(
            || self.hashes.get(&seq).copied(),
            |chain| Some(chain.last_hash),
        )
    }

    /// Last of some consecutive lines that a checkpoint names.
    fn last_named(&self, lines: &[StoredLine]) -> Option<u64> {
        let first = lines.first()?.seq;
        let is_named = |(seq, hash): &&(u64, Digest)| {
            let at = seq.checked_sub(first).map(usize::try_from);
            let line = at.and_then(Result::ok).and_then(|at| lines.get(at));
            line.is_some_and(|line| line.hash == *hash)
        };
        self.named.iter().find(is_named).map(|(seq, _)| *seq)
    }
}

/// Parts of missing ranges that are left when a range is filled.
pub(super) fn left_missing(
    missing: &[(u64, u64)],
    (first, last): (u64, u64),
) -> impl Iterator<Item = (u64, u64)> {
    let parts = missing
        .iter()
        .flat_map(move |(from, to)| [(*from, first.saturating_sub(1)), (last + 1, *to)]);
    parts.filter(|(from, to)| from <= to)
}
