//! Collected findings: neighbours are one, and their number is bounded.

use super::report::{TrailFinding, TrailFindingKind as Kind};
use crate::audit::link::ChainId;

/// Findings about damage that are reported one by one, and as many notes.
pub const MAX_FINDINGS: usize = 1_000;

/// Latest findings that a new one may extend.
const NEIGHBOURS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct FindingList {
    pub damage: Vec<TrailFinding>,
    pub notes: Vec<TrailFinding>,
    /// Damage beyond the limit.
    pub more: u64,
}

impl FindingList {
    pub(super) fn add(&mut self, kind: Kind, chain: Option<&ChainId>, from: u64, to: u64) {
        let list = if kind.is_damage() {
            &mut self.damage
        } else {
            &mut self.notes
        };
        let is_next = |found: &&mut TrailFinding| {
            found.kind == kind
                && found.chain.as_ref() == chain
                && from <= found.to.saturating_add(1)
                && to.saturating_add(1) >= found.from
        };
        if let Some(found) = list.iter_mut().rev().take(NEIGHBOURS).find(is_next) {
            (found.from, found.to) = (found.from.min(from), found.to.max(to));
        } else if list.len() < MAX_FINDINGS {
            let chain = chain.cloned();
            list.push(TrailFinding {
                kind,
                chain,
                from,
                to,
            });
        } else if kind.is_damage() {
            self.more += 1;
        }
    }

    pub(super) fn has(&self, kind: Kind, chain: &ChainId, seq: u64) -> bool {
        let is_this = |found: &TrailFinding| {
            found.kind == kind
                && found.chain.as_ref() == Some(chain)
                && (found.from..=found.to).contains(&seq)
        };
        self.damage.iter().any(is_this)
    }
}
