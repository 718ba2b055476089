//! Findings of a verification, and what it saw of each chain.

use std::fmt;

use serde::Serialize;

use crate::audit::link::ChainId;
use crate::audit::signature::PublicKey;

/// Chains that one verification reads: one for each start of a process, so those of a year and 40 starts a day.
pub const MAX_CHAINS: usize = 16_384;

words! {
    /// Problem of a trail, or a note about it.
    TrailFindingKind {
        /// The line is not the one that was written.
        Changed = "changed",
        Missing = "missing",
        /// The line was written, and stands in another place.
        Moved = "moved",
        /// A number stands twice.
        Duplicate = "duplicate",
        /// Two different lines have one number, or the chain is not the one that a checkpoint has.
        TwoHistories = "two-histories",
        /// A checkpoint, or the start of the next process, knows of later lines.
        TailCut = "tail-cut",
        /// A record that has to be signed is not signed by a trusted key.
        ForeignSignature = "foreign-signature",
        /// A line of the trail that cannot be read, and of which it is not known where it belongs.
        Unreadable = "unreadable",
        /// Lines of more chains than are verified.
        TooManyChains = "too-many-chains",
        /// Note: the process ended without a last record, or still runs.
        NoFarewell = "no-farewell",
        /// Note: the lines were deleted after their time, as a signed record announced.
        Retained = "retained",
        /// Note: a partial input begins after the first line.
        BeginsLate = "begins-late",
        /// Note: a line lacks its end, as the last one of a killed process does.
        Torn = "torn",
    }
}

impl TrailFindingKind {
    /// Whether the trail was damaged. Other findings are notes.
    #[must_use]
    pub fn is_damage(self) -> bool {
        !matches!(
            self,
            Self::NoFarewell | Self::Retained | Self::BeginsLate | Self::Torn
        )
    }
}

/// Finding about lines of a chain, or about a line of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrailFinding {
    pub kind: TrailFindingKind,
    /// Chain; none if the line cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainId>,
    /// First and last line by number in the chain; by number in the input if there is no chain.
    pub from: u64,
    pub to: u64,
}

impl fmt::Display for TrailFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TrailFindingKind as Kind;
        let Self { kind, from, to, .. } = self;
        let pod = match &self.chain {
            Some(chain) => {
                write!(f, "chain {chain}: ")?;
                chain.pod_uid()
            }
            None => "",
        };
        match (from == to, self.chain.is_some()) {
            (true, true) => write!(f, "line {from}")?,
            (false, true) => write!(f, "lines {from} to {to}")?,
            (_, false) => write!(f, "line {from} of the input")?,
        }
        match kind {
            Kind::Changed => f.write_str(" changed after writing"),
            Kind::Missing => f.write_str(" missing; import the container logs of the pod"),
            Kind::Moved => f.write_str(" moved: written, but out of order here"),
            Kind::Duplicate => f.write_str(" found more than once; pass each input once"),
            Kind::TwoHistories => f.write_str(
                ": two histories; compare with the copy of the lines outside of the cluster",
            ),
            Kind::TailCut => f.write_str(" cut off the end: a later record knows of them"),
            Kind::ForeignSignature => f.write_str(
                ": not signed by a trusted key; pass the trail's public key if it is another one",
            ),
            Kind::Unreadable => f.write_str(": a record that cannot be read"),
            Kind::TooManyChains => write!(
                f,
                " and later ones: not verified, because the input has more than {MAX_CHAINS} chains; verify \
                 a shorter range"
            ),
            Kind::NoFarewell => write!(
                f,
                " is the last one, without a farewell: pod {pod} still runs, or stopped after it \
                 and its container log may have more"
            ),
            Kind::Retained => f.write_str(" deleted by retention, as announced"),
            Kind::BeginsLate => f.write_str(" before the beginning of this input"),
            Kind::Torn => f.write_str(": a record without its end"),
        }
    }
}

/// Lines of one chain in the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    pub chain: ChainId,
    /// Lines that were read.
    pub lines: u64,
    /// Number of the last line.
    pub last: u64,
    /// Last line before any damage: the chain is whole up to here.
    pub intact_to: u64,
    /// Last line that a checkpoint confirms, with all lines before it. Later ones could have been written by whoever
    /// could write the input.
    pub confirmed_to: u64,
}

/// Exit status of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Intact = 0,
    Damaged = 1,
    /// The input has no record.
    NoRecords = 2,
}

/// Result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrailReport {
    pub chains: Vec<ChainReport>,
    pub findings: Vec<TrailFinding>,
    /// Findings beyond the limit, which are only counted.
    pub more_findings: u64,
    pub records: u64,
    /// Key of the first signature, if no key was passed: whether it is the right one, this input cannot prove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_on_first_use: Option<PublicKey>,
}

impl TrailReport {
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut kinds = self.findings.iter().map(|finding| finding.kind);
        if self.more_findings > 0 || kinds.any(TrailFindingKind::is_damage) {
            Verdict::Damaged
        } else if self.records == 0 {
            Verdict::NoRecords
        } else {
            Verdict::Intact
        }
    }
}
