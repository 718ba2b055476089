//! Store of the audit trail: appends lines to their chains, and finds records by secret, actor and time.
//!
//! [`AuditStore`] is the contract; [`sqlite`] and [`postgres`] implement it, and `conformance` tests them. Lines are stored as they were
//! written. What a store knows besides them is an index, or derived from other lines.

mod attribution;
mod batch;
mod chain_row;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod error;
mod import;
mod import_check;
mod location;
mod metrics;
mod opening;
pub mod postgres;
mod query;
mod retention;
pub mod sqlite;

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

pub use self::attribution::{
    AskedBy, AttributedRecord, AttributionStore, MAX_OBJECT_RECORDS, MAX_UNATTRIBUTED,
    RecordAttribution, TargetAttribution, UnattributedEvent,
};
pub use self::batch::{Batch, InvalidBatch, MAX_BATCH_BYTES, RESERVED_BYTES};
pub use self::error::{AppendError, StoreError};
pub use self::import::{
    Import, ImportOutcome, ImportRange, ImportReport, MAX_IMPORT_BYTES, RejectedRange,
};
pub use self::location::{StoreLocation, StoreSettings};
pub use self::metrics::StoreMetrics;
pub use self::opening::{OPEN_INTERVAL, StoreHandle, StoreOpener};
pub use self::query::cursor::InvalidCursor;
pub use self::query::{
    DEFAULT_PAGE, DEFAULT_RANGE, EventFilter, EventQuery, InvalidQuery, MAX_FILTER_BYTES, MAX_PAGE,
    MAX_RANGE, QueryArguments, SecretFilter,
};
pub use self::retention::{DELETED_AT_ONCE, MAX_RETAINED_LINES, RetentionPlan, RetentionRule};
use crate::audit::link::Tip;

/// Positions that one call of [`AuditStore::follow`], [`AuditStore::moved`] or [`AuditStore::export`] looks at, so that a
/// rare filter does not read the whole store.
pub const MAX_FOLLOWED: u64 = 10_000;

/// Records with the request of one line that are read to find its other pass: at least the parts of a record.
pub const MAX_PASSES: usize = 64;

/// Order in which lines became durable: positions grow with every commit and are never given out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePosition(pub u64);

/// Way by which a line came into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Sent by the process that wrote it.
    Received,
    /// Imported. The hashes of lines on both sides confirm it.
    Confirmed,
    /// Imported. The hash of a line on one side confirms it: the lines after the last one of a killed process, or those
    /// before the first one that is stored.
    OneSided,
}

impl Provenance {
    /// Number in a row.
    fn number(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Confirmed => 1,
            Self::OneSided => 2,
        }
    }

    fn of_number(number: u8) -> Self {
        match number {
            0 => Self::Received,
            1 => Self::Confirmed,
            _ => Self::OneSided,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Confirmed => "imported",
            Self::OneSided => "imported-one-sided",
        }
    }
}

/// Line of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub position: LinePosition,
    pub provenance: Provenance,
    pub time: Timestamp,
    /// Text as it was written, without a newline.
    pub line: String,
    /// First pass of the same use, if this is the second one.
    pub second_pass_of: Option<LinePosition>,
}

/// Events of a query, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// Cursor of the next page, if there is one.
    pub next: Option<String>,
}

/// Events after a position, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedEvents {
    pub events: Vec<StoredEvent>,
    /// Position to continue after: all lines up to it were looked at.
    pub position: LinePosition,
}

/// Result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Number of the chain's last durable line; 0 if there is none.
    pub durable: u64,
    /// Lines of the batch that were not stored before.
    pub added: u64,
}

/// A chain of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSummary {
    /// Last line.
    pub tip: Tip,
    /// Time of the last line.
    pub time: Timestamp,
    /// Lines that are stored.
    pub lines: u64,
    /// Lines up to this number were deleted by retention.
    pub retained: u64,
    /// Ranges that the writer has declared as lost, by first and last number.
    pub missing: Vec<(u64, u64)>,
    /// Whether the last line says that none follows.
    pub ended: bool,
    /// Number of the last line that a stored checkpoint confirms; 0 if there is none.
    pub confirmed: u64,
}

/// Chains with lines after a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovedChains {
    /// Their last lines.
    pub tips: Vec<Tip>,
    /// Position to continue after: all lines up to it were looked at.
    pub position: LinePosition,
}

/// Size of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    pub chains: u64,
    pub lines: u64,
    /// Lines that writers have declared as lost, and that were not imported.
    pub missing: u64,
    /// Bytes in use, without those that deleted lines have left free.
    pub bytes: u64,
    /// Bytes at which the store is full.
    pub max_bytes: Option<u64>,
    pub last_position: LinePosition,
}

/// Part of the trail in the order of an export: by position, and lines that were imported later in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportRange {
    /// First time.
    pub from: Timestamp,
    /// First time that is not part of the range.
    pub to: Timestamp,
}

/// Store of lines of the audit trail.
///
/// # Contract
///
/// - **Append.** A batch has lines of one chain, each with its number and the hash of the line before, which
///   [`Batch::parse`] checks. The first new line has to follow the chain's last stored one: an earlier line is compared
///   with the stored one, and is not stored again; a later one is [`AppendError::OutOfOrder`] with the number that is
///   wanted. Lines that the sender no longer has are declared as lost ([`Batch::lost_before`]). A line whose number is
///   stored with another hash is [`AppendError::SecondHistory`]. A batch is stored as a whole or not at all. What is
///   reported as durable survives the loss of power.
/// - **Lines** are kept byte by byte, those of newer programs too.
/// - **Positions** grow with each commit, also with several writers, so that following by position misses nothing.
/// - **Queries** see each line as soon as its append has returned. They return within the store's limit of time or
///   fail with [`StoreError::Timeout`].
/// - **Second passes.** A stored line that is the second pass of the use of another one
///   ([`is_second_pass`](crate::audit::second_pass::is_second_pass)) is found by queries and followers that ask for it
///   ([`EventFilter::second_passes`]), or for its id or request. A use has at most one second pass, the earliest by time
///   and position, whatever the order is in which lines become durable. If either of the two lines is deleted, the other
///   is a use of its own.
/// - A store that is full ([`StoreError::Full`]) or fails keeps all that it has, and can be read. A full one takes
///   announcements of deletions all the same ([`Batch::reserved`]), and deletes.
#[async_trait]
pub trait AuditStore: AttributionStore + fmt::Debug + Send + Sync {
    /// Appends a batch. An empty one returns the chain's last durable number, after all earlier appends have ended: an
    /// append that has failed by then is not stored later.
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError>;

    /// Events of a query, newest first by time and position.
    async fn query(&self, query: &EventQuery) -> Result<EventPage, StoreError>;

    /// Events after a position, oldest first: at most [`MAX_PAGE`] of at most [`MAX_FOLLOWED`] positions.
    async fn follow(
        &self,
        filter: &EventFilter,
        after: LinePosition,
    ) -> Result<FollowedEvents, StoreError>;

    /// Position of the last commit, which changes after each one.
    fn committed(&self) -> tokio::sync::watch::Receiver<LinePosition>;

    /// Chains of the store.
    async fn chains(&self) -> Result<Vec<ChainSummary>, StoreError>;

    /// Chains with lines after a position, at most [`MAX_FOLLOWED`] positions further.
    async fn moved(&self, after: LinePosition) -> Result<MovedChains, StoreError>;

    /// Last deleted lines of chains that have lines.
    async fn retained(&self) -> Result<Vec<Tip>, StoreError>;

    async fn counts(&self) -> Result<StoreCounts, StoreError>;

    /// Lines of a range for an export, at most [`MAX_PAGE`] of at most [`MAX_FOLLOWED`] positions after a position, and
    /// the position to continue after; `None` at the end. There may be no line before the end.
    async fn export(
        &self,
        range: ExportRange,
        after: LinePosition,
    ) -> Result<(Vec<String>, Option<LinePosition>), StoreError>;

    /// Stores lines of a log where they are missing, if hashes confirm them.
    async fn import(&self, range: ImportRange) -> Result<ImportOutcome, StoreError>;

    /// First lines of chains that a rule lets go. Nothing is deleted.
    async fn plan_retention(&self, rule: RetentionRule) -> Result<RetentionPlan, StoreError>;

    /// Deletes what a plan has, after it was announced. Returns the number of deleted lines.
    async fn retain(&self, plan: RetentionPlan) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_contain_the_limits_of_stores() {
        let docs = include_str!("../docs/AUDIT.md");
        let days = u64::try_from(MAX_RANGE.as_hours() / 24).unwrap();
        let limits = [
            ("Bytes of a batch of a store", MAX_BATCH_BYTES as u64),
            ("Events of a page", MAX_PAGE as u64),
            (
                "Days of a range without a secret, an actor's uid or an id",
                days,
            ),
            ("Bytes of a filter", MAX_FILTER_BYTES as u64),
            ("Seconds of a query", sqlite::QUERY_TIMEOUT.as_secs()),
            (
                "Queries of a store at the same time",
                sqlite::READERS as u64,
            ),
            (
                "Seconds until a connection to a database",
                postgres::CONNECT_TIMEOUT.as_secs(),
            ),
            (
                "Seconds of a statement of a database",
                postgres::STATEMENT_TIMEOUT.as_secs(),
            ),
            (
                "Queries of a database by one process at the same time",
                postgres::READERS as u64,
            ),
            (
                "Bytes that a line of a database counts beside its text",
                postgres::ROW_BYTES,
            ),
            (
                "Positions that one call of a follower or of an export looks at",
                MAX_FOLLOWED,
            ),
            (
                "Bytes that an import keeps in memory",
                MAX_IMPORT_BYTES as u64,
            ),
            ("Lines that retention plans at a time", MAX_RETAINED_LINES),
            (
                "Lines that retention deletes in one transaction",
                DELETED_AT_ONCE,
            ),
            (
                "Secrets of lines that one transaction deletes",
                retention::DELETED_SECRETS as u64,
            ),
            (
                "Milliseconds of a pause between two deletions, at most",
                u64::try_from(retention::MAX_PAUSE.as_millis()).unwrap(),
            ),
            (
                "Records of an object that attribution reads",
                MAX_OBJECT_RECORDS as u64,
            ),
            (
                "Records with one request that are read to find the other pass",
                MAX_PASSES as u64,
            ),
        ];
        for (name, limit) in limits {
            let row = format!("| {name} | {limit} |");
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
        for provenance in [Provenance::Confirmed, Provenance::OneSided] {
            let word = format!("`{}`", provenance.as_str());
            assert!(docs.contains(&word), "docs/AUDIT.md lacks {word}");
        }
    }
}
