//! One chain, as far as its lines were read: its last line, what is missing before it, and what is known of later ones.

use super::findings::FindingList;
use super::recent::RecentLines;
use super::report::{ChainReport, TrailFindingKind as Kind};
use crate::audit::digest::Digest;
use crate::audit::link::ChainId;

/// Gaps of one chain that later lines may fill. The first of more is reported as missing.
pub const MAX_GAPS: usize = 16;

/// Lines of one chain that checkpoints know and that are still to be read. A later one proves all lines before it, so
/// the first of more is dropped.
const MAX_ANCHORS: usize = 4;

/// Line that another record knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    pub seq: u64,
    pub hash: Digest,
    /// Whether a checkpoint knows it. The start of the next process knows a line as well, and anybody can write one.
    pub is_signed: bool,
}

/// Lines that are missing so far.
#[derive(Clone, Debug)]
struct Gap {
    from: u64,
    to: u64,
    /// Hash of the line before the gap.
    before: Digest,
    /// `prev` of the line after the gap.
    after: Digest,
    /// Broken lines that were read between the two.
    broken: u64,
}

/// Lines of the trail that could not be read, and are not yet known to be the missing ones of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BrokenLines {
    /// All that were read; a chain remembers how many there were at its last line.
    pub total: u64,
    pub unassigned: u64,
}

impl BrokenLines {
    /// Whether missing lines are explained by as many broken ones where they should be.
    fn explain(&mut self, missing: u64, broken: u64) -> bool {
        let explained = missing <= broken.min(self.unassigned);
        if explained {
            self.unassigned -= missing;
        }
        explained
    }
}

#[derive(Debug)]
pub(super) struct ChainState {
    pub id: ChainId,
    /// Number and hash of the last line.
    pub last: u64,
    pub hash: Digest,
    /// Lines that were read.
    pub lines: u64,
    /// Whether the last record, or the start of the next process, was read.
    pub ended: bool,
    /// Last line that retention has announced to delete.
    retained: Option<(u64, Digest)>,
    confirmed_to: u64,
    gaps: Vec<Gap>,
    anchors: Vec<Anchor>,
    /// The last line does not link to the one before. The next line shows which of the two changed.
    is_loose: bool,
    /// A checkpoint has another hash for the last line.
    is_refuted: bool,
    /// Hash of a second line with the last number.
    alternative: Option<Digest>,
    broken_seen: u64,
    damaged_from: Option<u64>,
}

impl ChainState {
    pub(super) fn new(id: ChainId) -> Self {
        Self {
            hash: id.root(),
            id,
            last: 0,
            lines: 0,
            ended: false,
            retained: None,
            confirmed_to: 0,
            gaps: Vec::new(),
            anchors: Vec::new(),
            is_loose: false,
            is_refuted: false,
            alternative: None,
            broken_seen: 0,
            damaged_from: None,
        }
    }

    pub(super) fn report(&mut self, kind: Kind, from: u64, to: u64, findings: &mut FindingList) {
        if kind.is_damage() {
            self.damaged_from = Some(self.damaged_from.map_or(from, |first| first.min(from)));
        }
        findings.add(kind, Some(&self.id), from, to);
    }

    /// Adds a line with its number and its links. `recent` has the chain's latest lines.
    pub(super) fn add(
        &mut self,
        (seq, prev, hash): (u64, Digest, Digest),
        recent: &RecentLines,
        broken: &mut BrokenLines,
        findings: &mut FindingList,
    ) {
        self.lines += 1;
        if seq <= self.last {
            self.add_late((seq, prev, hash), recent, findings);
            return;
        }
        if seq == self.last + 1 {
            self.follow(prev, findings);
        } else {
            self.settle_last(findings);
            if self.gaps.len() == MAX_GAPS {
                let gap = self.gaps.remove(0);
                self.settle_gap(&gap, false, broken, findings);
            }
            self.gaps.push(Gap {
                from: self.last + 1,
                to: seq - 1,
                before: self.hash,
                after: prev,
                broken: broken.total - self.broken_seen,
            });
        }
        (self.last, self.hash) = (seq, hash);
        self.alternative = None;
        self.broken_seen = broken.total;
        self.is_refuted = !self.check_anchors(seq, hash);
    }

    /// Compares the link of the next line. Two loose links in a row are those of the line between them.
    fn follow(&mut self, prev: Digest, findings: &mut FindingList) {
        let is_linked = prev == self.hash || Some(prev) == self.alternative;
        if is_linked {
            if self.is_refuted {
                self.report(Kind::TwoHistories, self.last, self.last, findings);
            }
            self.is_refuted = false;
            self.settle_last(findings);
        } else if self.is_loose {
            self.is_refuted = true;
            self.settle_last(findings);
        } else {
            self.is_loose = true;
            self.is_refuted = false;
        }
    }

    /// Reports a loose link whose next line will not show more.
    fn settle_last(&mut self, findings: &mut FindingList) {
        let changed = match (self.is_refuted, self.is_loose) {
            (true, _) => self.last,
            (false, true) => self.last.saturating_sub(1).max(1),
            (false, false) => return,
        };
        (self.is_loose, self.is_refuted) = (false, false);
        self.report(Kind::Changed, changed, changed, findings);
    }

    /// Adds a line whose number is not beyond the last one.
    fn add_late(
        &mut self,
        (seq, prev, hash): (u64, Digest, Digest),
        recent: &RecentLines,
        findings: &mut FindingList,
    ) {
        let gap = self
            .gaps
            .iter()
            .position(|gap| (gap.from..=gap.to).contains(&seq));
        let Some(at) = gap else {
            let known = recent
                .get(&self.id, seq)
                .or((seq == self.last).then_some(self.hash));
            let kind = match known {
                Some(known) if known != hash => Kind::TwoHistories,
                _ => Kind::Duplicate,
            };
            if kind == Kind::TwoHistories && seq == self.last {
                self.alternative = Some(hash);
            }
            self.report(kind, seq, seq, findings);
            return;
        };
        let gap = self.gaps.remove(at);
        let links_back = seq > gap.from || prev == gap.before;
        let links_on = seq < gap.to || hash == gap.after;
        let kind = if links_back && links_on {
            Kind::Moved
        } else {
            Kind::Changed
        };
        self.report(kind, seq, seq, findings);
        if seq < gap.to {
            let rest = Gap {
                from: seq + 1,
                before: hash,
                ..gap.clone()
            };
            self.gaps.insert(at, rest);
        }
        if seq > gap.from {
            let rest = Gap {
                to: seq - 1,
                after: prev,
                ..gap
            };
            self.gaps.insert(at, rest);
        }
        if !self.check_anchors(seq, hash) {
            self.report(Kind::TwoHistories, seq, seq, findings);
        }
    }

    /// Whether no checkpoint has another hash for this line.
    fn check_anchors(&mut self, seq: u64, hash: Digest) -> bool {
        let (mut is_confirmed, mut is_refuted) = (false, false);
        self.anchors.retain(|anchor| {
            let is_this = anchor.seq == seq;
            is_confirmed |= is_this && anchor.hash == hash && anchor.is_signed;
            is_refuted |= is_this && anchor.hash != hash;
            !is_this
        });
        if is_confirmed {
            self.confirmed_to = self.confirmed_to.max(seq);
        }
        !is_refuted
    }

    /// Adds what another record knows about a line.
    pub(super) fn anchor(
        &mut self,
        anchor: Anchor,
        recent: &RecentLines,
        findings: &mut FindingList,
    ) {
        let Anchor { seq, hash, .. } = anchor;
        let is_missing = |gap: &Gap| (gap.from..=gap.to).contains(&seq);
        if seq > self.last || self.gaps.iter().any(is_missing) {
            self.anchors.push(anchor);
            self.anchors.sort_unstable_by_key(|anchor| anchor.seq);
            if self.anchors.len() > MAX_ANCHORS {
                self.anchors.remove(0);
            }
            return;
        }
        let known = if seq == self.last {
            Some(self.hash)
        } else {
            recent.get(&self.id, seq)
        };
        match known {
            Some(known) if known == hash && anchor.is_signed => {
                self.confirmed_to = self.confirmed_to.max(seq);
            }
            Some(known) if known == hash => {}
            Some(_) if seq == self.last => self.is_refuted = true,
            // The next link shows that this line changed, or has shown it.
            Some(_) if self.is_loose && seq + 1 == self.last => {}
            Some(_) if findings.has(Kind::Changed, &self.id, seq) => {}
            Some(_) => self.report(Kind::TwoHistories, seq, seq, findings),
            None => {}
        }
    }

    /// Adds an announcement that the lines up to this one are deleted.
    pub(super) fn retain(&mut self, seq: u64, hash: Digest) {
        if self.retained.is_none_or(|(before, _)| before < seq) {
            self.retained = Some((seq, hash));
        }
    }

    /// Whether a checkpoint confirms a line: one of a later line, from which links lead back to it.
    pub(super) fn confirms(&self, seq: u64) -> bool {
        let is_linked = !self.is_loose && !self.is_refuted;
        let is_whole = self
            .damaged_from
            .is_none_or(|from| from > self.confirmed_to);
        let has_gap = self.gaps.iter().any(|gap| gap.to >= seq);
        seq <= self.confirmed_to && is_linked && is_whole && !has_gap
    }

    /// Reports what no later line can change. `is_partial`: the input need not have all chains from their first line.
    pub(super) fn finish(
        mut self,
        is_partial: bool,
        broken: &mut BrokenLines,
        findings: &mut FindingList,
    ) -> Option<ChainReport> {
        self.settle_last(findings);
        for gap in std::mem::take(&mut self.gaps) {
            self.settle_gap(&gap, is_partial, broken, findings);
        }
        let known = self.anchors.last().map_or(0, |anchor| anchor.seq);
        if self.lines == 0 {
            self.settle_absent(known, is_partial, findings);
        } else if known > self.last {
            let (from, lost) = (self.last + 1, known - self.last);
            let is_explained = broken.explain(lost, broken.total.saturating_sub(self.broken_seen));
            let kind = if is_explained {
                Kind::Changed
            } else {
                Kind::TailCut
            };
            self.report(kind, from, known, findings);
        } else if !self.ended {
            self.report(Kind::NoFarewell, self.last, self.last, findings);
        }
        let intact_to = self
            .damaged_from
            .map_or(self.last, |from| from.saturating_sub(1));
        (self.lines > 0).then(|| ChainReport {
            lines: self.lines,
            last: self.last,
            intact_to: intact_to.min(self.last),
            confirmed_to: self.confirmed_to,
            chain: self.id,
        })
    }

    fn settle_gap(
        &mut self,
        gap: &Gap,
        is_partial: bool,
        broken: &mut BrokenLines,
        findings: &mut FindingList,
    ) {
        let mut from = gap.from;
        if from == 1 {
            if let Some((seq, hash)) = self.retained {
                self.report(Kind::Retained, 1, seq.min(gap.to), findings);
                if seq == gap.to && hash != gap.after {
                    self.report(Kind::TwoHistories, seq + 1, seq + 1, findings);
                }
                from = seq + 1;
            } else if is_partial {
                self.report(Kind::BeginsLate, 1, gap.to, findings);
                return;
            }
        }
        if from <= gap.to {
            let is_explained = broken.explain(gap.to - from + 1, gap.broken);
            let kind = if is_explained {
                Kind::Changed
            } else {
                Kind::Missing
            };
            self.report(kind, from, gap.to, findings);
        }
    }

    /// Reports a chain of which no line was read, up to the last line that a checkpoint knows.
    fn settle_absent(&mut self, known: u64, is_partial: bool, findings: &mut FindingList) {
        let retained = self.retained.map_or(0, |(seq, _)| seq);
        if retained > 0 {
            self.report(Kind::Retained, 1, retained, findings);
        }
        if known > retained && !is_partial {
            self.report(Kind::Missing, retained + 1, known, findings);
        }
    }
}
