//! Import of lines from logs: they are stored where the store lacks them, if hashes confirm that they belong there.

use std::collections::HashMap;

use super::{AuditStore, StoreError};
use crate::audit::link::ChainId;
use crate::audit::stored::StoredLine;

/// Bytes of lines that an import keeps before it stores them. A gap that is longer is filled in several ranges.
pub const MAX_IMPORT_BYTES: usize = 64 << 20;

/// Consecutive lines of one chain, each linked to the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRange {
    pub(super) chain: ChainId,
    pub(super) lines: Vec<StoredLine>,
}

/// Result for one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    Stored {
        /// Lines that the store lacked.
        added: u64,
        /// Those of them that only one side confirms.
        one_sided: u64,
        /// Lines that are stored, or were deleted by retention.
        present: u64,
    },
    /// No line that is stored confirms the range. Nothing was stored.
    Unconfirmed,
    /// The store has another line with this number, or another link next to it. Nothing was stored.
    SecondHistory { seq: u64 },
}

/// Range that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRange {
    pub chain: ChainId,
    pub first: u64,
    pub last: u64,
    /// Number at which the store has another history; none if nothing confirms the range.
    pub second_history: Option<u64>,
}

/// Result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    pub added: u64,
    pub one_sided: u64,
    pub present: u64,
    pub rejected: Vec<RejectedRange>,
}

/// Import of the lines of an input, in any order.
#[derive(Debug)]
pub struct Import<'s> {
    store: &'s dyn AuditStore,
    open: HashMap<ChainId, ImportRange>,
    /// Ranges that are complete, or that nothing confirmed so far.
    waiting: Vec<ImportRange>,
    bytes: usize,
    max_bytes: usize,
    report: ImportReport,
}

impl<'s> Import<'s> {
    #[must_use]
    pub fn new(store: &'s dyn AuditStore, max_bytes: usize) -> Self {
        Self {
            store,
            open: HashMap::new(),
            waiting: Vec::new(),
            bytes: 0,
            max_bytes,
            report: ImportReport::default(),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn push(&mut self, line: StoredLine) -> Result<(), StoreError> {
        let size = line.json.len();
        if self.bytes + size > self.max_bytes {
            self.store_waiting().await?;
            // Ranges that nothing confirms so far make room for lines that may be confirmed.
            self.reject_waiting();
        }
        if let Some(range) = self.open.get_mut(&line.chain) {
            if range.has(&line) {
                return Ok(());
            }
            if !range.is_followed_by(&line) {
                self.waiting.extend(self.open.remove(&line.chain));
            }
        }
        self.bytes += size;
        let chain = line.chain.clone();
        let range = self.open.entry(chain.clone());
        let lines = Vec::new();
        let range = range.or_insert(ImportRange { chain, lines });
        range.lines.push(line);
        Ok(())
    }

    /// Stores what is left.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn finish(mut self) -> Result<ImportReport, StoreError> {
        self.store_waiting().await?;
        self.reject_waiting();
        Ok(self.report)
    }

    /// Stores ranges until no further one is confirmed: a range may confirm another one.
    async fn store_waiting(&mut self) -> Result<(), StoreError> {
        self.waiting
            .extend(self.open.drain().map(|(_, range)| range));
        self.waiting
            .sort_by_key(|range| (range.chain.clone(), range.first()));
        loop {
            let before = self.waiting.len();
            for range in std::mem::take(&mut self.waiting) {
                match self.store.import(range.clone()).await? {
                    ImportOutcome::Unconfirmed => self.waiting.push(range),
                    ImportOutcome::SecondHistory { seq } => self.reject(&range, Some(seq)),
                    ImportOutcome::Stored {
                        added,
                        one_sided,
                        present,
                    } => {
                        self.report.added += added;
                        self.report.one_sided += one_sided;
                        self.report.present += present;
                    }
                }
            }
            if self.waiting.is_empty() || self.waiting.len() == before {
                self.bytes = self.waiting.iter().map(ImportRange::size).sum();
                return Ok(());
            }
        }
    }

    fn reject_waiting(&mut self) {
        for range in std::mem::take(&mut self.waiting) {
            self.reject(&range, None);
        }
        self.bytes = 0;
    }

    fn reject(&mut self, range: &ImportRange, second_history: Option<u64>) {
        let (first, last) = range.bounds();
        self.report.rejected.push(RejectedRange {
            chain: range.chain.clone(),
            first,
            last,
            second_history,
        });
    }
}

impl ImportRange {
    pub(super) fn first(&self) -> u64 {
        self.lines.first().map_or(0, |line| line.seq)
    }

    /// First and last number.
    pub(super) fn bounds(&self) -> (u64, u64) {
        let last = self.lines.last();
        (self.first(), last.map_or(0, |line| line.seq))
    }

    fn size(&self) -> usize {
        self.lines.iter().map(|line| line.json.len()).sum()
    }

    fn has(&self, line: &StoredLine) -> bool {
        let at = line.seq.checked_sub(self.first());
        let at = at.and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| self.lines.get(at));
        found.is_some_and(|found| found.hash == line.hash)
    }

    fn is_followed_by(&self, line: &StoredLine) -> bool {
        let last = self.lines.last();
        last.is_some_and(|last| line.seq == last.seq + 1 && line.prev == last.hash)
    }
}
