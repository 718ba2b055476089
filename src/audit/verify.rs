//! Verification of a trail: reads lines once, in any of the [forms in which they are kept](super::line), and reports by
//! name what happened to them since they were written.
//!
//! A line's own hash, the link of the line after it, and the checkpoints have to agree. Within one input anybody can
//! write a chain that agrees with itself; only checkpoints that were copied elsewhere ([`Verifier::trust`]) or a pinned
//! key ([`VerifyOptions::keys`]) prove more. Memory is bounded for each chain, and so is the number of chains.

mod chain_state;
mod findings;
mod recent;
mod report;

use std::collections::HashMap;

use thiserror::Error;

pub use chain_state::MAX_GAPS;
pub use findings::MAX_FINDINGS;
pub use recent::MAX_RECENT;
pub use report::{ChainReport, MAX_CHAINS, TrailFinding, TrailFindingKind, TrailReport, Verdict};

use self::TrailFindingKind as Kind;
use super::digest::Digest;
use super::input::LineJoiner;
use super::line::{self, InputLine, ReadRecord, ReadTip};
use super::link::ChainId;
use super::record::Action;
use super::signature::PublicKey;
use chain_state::{Anchor, BrokenLines, ChainState};
use findings::FindingList;
use recent::RecentLines;

/// Keys that are trusted, announced ones included.
pub const MAX_KEYS: usize = 64;

/// Records of keys that are not trusted yet. More are reported as foreign.
const MAX_UNKNOWN: usize = 1_000;

/// Expectations of an input.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Pinned public keys. Without any, the key of the first signature is trusted, and reported.
    pub keys: Vec<PublicKey>,
    /// The input need not have all chains, or begin with the first line of each: one container's log, a range of time.
    pub partial: bool,
}

/// Reason why a line is not a checkpoint to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidCheckpoint {
    #[error(
        "the line is not a signed checkpoint: pass a line with the action system.checkpoint as it was written"
    )]
    NotACheckpoint,
    #[error("the signature of the checkpoint is wrong: pass the line as it was written")]
    WrongSignature,
    #[error(
        "the checkpoint is signed by another key than those passed: pass its key, or leave it out"
    )]
    OtherKey,
}

/// Signature of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The record need not be signed.
    Unsigned,
    Trusted,
    /// The signature is right, and its key is not trusted.
    UnknownKey,
    /// The signature is wrong, or absent where one has to be.
    Wrong,
}

/// Verification of one trail. Lines are pushed in the order of the input.
#[derive(Debug, Default)]
pub struct Verifier {
    options: VerifyOptions,
    is_pinned: bool,
    first_key: Option<PublicKey>,
    joiner: LineJoiner,
    chains: Vec<ChainState>,
    by_id: HashMap<ChainId, usize>,
    /// Chains by the hash of their last line.
    by_tip: HashMap<Digest, usize>,
    recent: RecentLines,
    broken: BrokenLines,
    broken_at: Vec<u64>,
    ends_torn: bool,
    /// Records with the signature of a key that is not trusted, each with its chain and number.
    unknown_keys: Vec<(usize, u64, ReadRecord)>,
    findings: FindingList,
    number: u64,
    records: u64,
}

/// Verifies the lines of an input.
pub fn verify<L: AsRef<[u8]>>(
    lines: impl IntoIterator<Item = L>,
    options: VerifyOptions,
) -> TrailReport {
    let mut verifier = Verifier::new(options);
    for line in lines {
        verifier.push(line.as_ref());
    }
    verifier.finish()
}

impl ReadTip {
    fn anchor(&self, is_signed: bool) -> Anchor {
        Anchor {
            seq: self.seq,
            hash: self.hash,
            is_signed,
        }
    }
}

impl Verifier {
    #[must_use]
    pub fn new(options: VerifyOptions) -> Self {
        Self {
            is_pinned: !options.keys.is_empty(),
            options,
            ..Self::default()
        }
    }

    /// Trusts a checkpoint that was kept outside of the trail: its key, the lines that it knows, and itself.
    ///
    /// # Errors
    ///
    /// The line is not a checkpoint, its signature is wrong, or pinned keys do not have its key.
    pub fn trust(&mut self, checkpoint: &[u8]) -> Result<(), InvalidCheckpoint> {
        let InputLine::Record(record) = line::read(checkpoint) else {
            return Err(InvalidCheckpoint::NotACheckpoint);
        };
        match record.signed {
            Some((key, true)) if record.action == Action::Checkpoint.as_str() => {
                if self.is_pinned && !self.options.keys.contains(&key) {
                    return Err(InvalidCheckpoint::OtherKey);
                }
                self.add_key(key);
            }
            Some((_, false)) => return Err(InvalidCheckpoint::WrongSignature),
            _ => return Err(InvalidCheckpoint::NotACheckpoint),
        }
        let (chain, seq, hash) = (record.chain, record.seq, record.hash);
        for tip in record
            .tips
            .into_iter()
            .chain([ReadTip { chain, seq, hash }])
        {
            self.anchor(&tip);
        }
        Ok(())
    }

    /// Reads one line of the input, without its newline.
    pub fn push(&mut self, line: &[u8]) {
        self.number += 1;
        if let Some(line) = self.joiner.push(line) {
            self.read(&line);
        }
    }

    fn read(&mut self, line: &[u8]) {
        match line::read(line) {
            InputLine::Other => {}
            InputLine::Broken { torn } => {
                self.ends_torn = torn;
                self.broken.total += 1;
                self.broken.unassigned += 1;
                if torn {
                    self.findings
                        .add(Kind::Torn, None, self.number, self.number);
                } else if self.broken_at.len() < MAX_FINDINGS {
                    self.broken_at.push(self.number);
                }
            }
            InputLine::Record(record) => {
                self.ends_torn = false;
                self.records += 1;
                self.add(&record);
            }
        }
    }

    fn add(&mut self, record: &ReadRecord) {
        // The line before proves where a line belongs, even if its chain or number was changed.
        let by_link = self.by_tip.get(&record.prev).copied();
        let Some(at) = by_link.or_else(|| self.chain(&record.chain)) else {
            self.findings
                .add(Kind::TooManyChains, None, self.number, self.number);
            return;
        };
        let trusted = self.trust_of(record);
        let Some(chain) = self.chains.get_mut(at) else {
            return;
        };
        let is_linked = chain.hash == record.prev;
        let seq = if is_linked {
            chain.last + 1
        } else {
            record.seq
        };
        if chain.id != record.chain || seq != record.seq {
            chain.report(Kind::Changed, seq, seq, &mut self.findings);
        }
        if trusted == Trust::UnknownKey && self.unknown_keys.len() < MAX_UNKNOWN {
            self.unknown_keys.push((at, seq, record.clone()));
        } else if matches!(trusted, Trust::UnknownKey | Trust::Wrong) {
            chain.report(Kind::ForeignSignature, seq, seq, &mut self.findings);
        }
        let before = chain.hash;
        let line = (seq, record.prev, record.hash);
        chain.add(line, &self.recent, &mut self.broken, &mut self.findings);
        chain.ended |= record.action == Action::Stop.as_str();
        self.recent.add(&chain.id, seq, record.hash);
        if chain.hash != before {
            self.by_tip.remove(&before);
            self.by_tip.insert(chain.hash, at);
        }
        if trusted == Trust::Trusted {
            self.follow(record);
        }
        // A process knows the chain before it in its own pod alone, and that may be in another input.
        if let Some(tip) = &record.predecessor
            && tip.chain.pod_uid() == record.chain.pod_uid()
            && let Some(at) = self.by_id.get(&tip.chain)
            && let Some(chain) = self.chains.get_mut(*at).filter(|chain| chain.lines > 0)
        {
            chain.ended = true;
            chain.anchor(tip.anchor(false), &self.recent, &mut self.findings);
        }
    }

    /// Follows what a signed record states about keys and other lines.
    fn follow(&mut self, record: &ReadRecord) {
        if let Some(key) = record.new_key {
            self.add_key(key);
        }
        for tip in &record.tips {
            if record.action != Action::Retention.as_str() {
                self.anchor(tip);
            } else if let Some(chain) = self
                .chain(&tip.chain)
                .and_then(|at| self.chains.get_mut(at))
            {
                chain.retain(tip.seq, tip.hash);
            }
        }
    }

    fn trust_of(&mut self, record: &ReadRecord) -> Trust {
        let signed = [Action::Checkpoint, Action::Key, Action::Retention];
        match record.signed {
            None if signed.iter().any(|action| action.as_str() == record.action) => Trust::Wrong,
            None => Trust::Unsigned,
            Some((_, false)) => Trust::Wrong,
            Some((key, true)) => {
                if self.options.keys.is_empty() {
                    self.first_key = Some(key);
                    self.add_key(key);
                }
                if self.options.keys.contains(&key) {
                    Trust::Trusted
                } else {
                    Trust::UnknownKey
                }
            }
        }
    }

    /// Follows records of keys before a trusted one, which a checkpoint of that one confirms. All others are foreign.
    fn follow_confirmed(&mut self) {
        for (at, seq, record) in std::mem::take(&mut self.unknown_keys) {
            let Some(chain) = self.chains.get_mut(at) else {
                continue;
            };
            if chain.confirms(seq) {
                self.follow(&record);
            } else {
                chain.report(Kind::ForeignSignature, seq, seq, &mut self.findings);
            }
        }
    }

    fn add_key(&mut self, key: PublicKey) {
        if !self.options.keys.contains(&key) && self.options.keys.len() < MAX_KEYS {
            self.options.keys.push(key);
        }
    }

    fn anchor(&mut self, tip: &ReadTip) {
        if let Some(chain) = self
            .chain(&tip.chain)
            .and_then(|at| self.chains.get_mut(at))
        {
            chain.anchor(tip.anchor(true), &self.recent, &mut self.findings);
        }
    }

    /// Index of a chain; a new one if there is room.
    fn chain(&mut self, id: &ChainId) -> Option<usize> {
        if let Some(at) = self.by_id.get(id) {
            return Some(*at);
        }
        let at = self.chains.len();
        if at == MAX_CHAINS {
            return None;
        }
        let chain = ChainState::new(id.clone());
        self.by_tip.insert(chain.hash, at);
        self.by_id.insert(id.clone(), at);
        self.chains.push(chain);
        Some(at)
    }

    /// Reports what was found. No line follows.
    #[must_use]
    pub fn finish(mut self) -> TrailReport {
        for line in std::mem::take(&mut self.joiner).finish() {
            self.read(&line);
        }
        if self.ends_torn {
            // The end of the input is lost with the end of this line: that is no change of the line.
            self.broken.total -= 1;
            self.broken.unassigned -= 1;
        }
        self.follow_confirmed();
        let mut chains = Vec::new();
        for chain in self.chains {
            let is_partial = self.options.partial;
            chains.extend(chain.finish(is_partial, &mut self.broken, &mut self.findings));
        }
        let unassigned = usize::try_from(self.broken.unassigned).unwrap_or(usize::MAX);
        for number in self.broken_at.into_iter().take(unassigned) {
            self.findings.add(Kind::Unreadable, None, number, number);
        }
        let FindingList {
            damage,
            notes,
            more,
        } = self.findings;
        TrailReport {
            chains,
            findings: damage.into_iter().chain(notes).collect(),
            more_findings: more,
            records: self.records,
            trusted_on_first_use: self.first_key,
        }
    }
}

#[cfg(test)]
mod tests;
