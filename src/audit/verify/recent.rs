//! Latest lines of all chains, for checkpoints that come after the lines they are about.

use std::collections::{HashMap, VecDeque};

use crate::audit::digest::Digest;
use crate::audit::link::ChainId;

/// Lines whose hashes are remembered: a checkpoint comes after at most 1,000 records, so four of them are covered.
pub const MAX_RECENT: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct RecentLines {
    hashes: HashMap<(ChainId, u64), Digest>,
    order: VecDeque<(ChainId, u64)>,
}

impl RecentLines {
    /// Adds a line; the first one with a number counts.
    pub(super) fn add(&mut self, chain: &ChainId, seq: u64, hash: Digest) {
        let line = (chain.clone(), seq);
        if self.hashes.contains_key(&line) {
            return;
        }
        if self.order.len() == MAX_RECENT
            && let Some(first) = self.order.pop_front()
        {
            self.hashes.remove(&first);
        }
        self.order.push_back(line.clone());
        self.hashes.insert(line, hash);
    }

    pub(super) fn get(&self, chain: &ChainId, seq: u64) -> Option<Digest> {
        self.hashes.get(&(chain.clone(), seq)).copied()
    }
}
