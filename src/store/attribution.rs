//! Attribution: who asked for the secrets of a record, derived from other records and kept beside the lines.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{LinePosition, StoreError, StoredEvent};
use crate::audit::asked_by::{Requester, UnknownReason};
use crate::audit::stored::AuthorObject;

/// Records of a page of [`AttributionStore::unattributed`].
pub const MAX_UNATTRIBUTED: usize = 256;

/// Newest records of one object that are read to find out who asked.
pub const MAX_OBJECT_RECORDS: usize = 256;

/// Record for whose secrets somebody else than its requester may have asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnattributedEvent {
    pub position: LinePosition,
    /// Time of the first attempt that did not find out who asked.
    pub since: Option<Timestamp>,
    /// Text as it was written, without a newline.
    pub line: String,
}

/// Asker of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedBy {
    Requester {
        requester: Requester,
        /// Record in which the requester asked.
        source: LinePosition,
    },
    Unknown(UnknownReason),
}

impl AskedBy {
    /// Asker of a row: its username and uid, the position of its record, or why it is not known.
    pub(super) fn of_row(
        username: Option<String>,
        uid: Option<String>,
        source: Option<u64>,
        reason: Option<&str>,
    ) -> Self {
        let Some(username) = username else {
            let reason = reason.and_then(UnknownReason::parse);
            return Self::Unknown(reason.unwrap_or(UnknownReason::NoRecord));
        };
        Self::Requester {
            requester: Requester {
                username,
                uid: uid.unwrap_or_default(),
            },
            source: LinePosition(source.unwrap_or_default()),
        }
    }
}

/// Asker of one secret of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAttribution {
    /// Index of the secret in the record's targets.
    pub target: u32,
    pub asked_by: AskedBy,
}

/// Result of an attempt to find out who asked for the secrets of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributedRecord {
    pub position: LinePosition,
    /// Secrets whose askers are found. A record without any was made by whoever asked.
    pub targets: Vec<TargetAttribution>,
    /// Whether there will be no further attempt.
    pub is_final: bool,
}

/// Askers of the secrets of a record, as a store has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordAttribution {
    pub position: LinePosition,
    /// Whether further attempts may change it.
    pub is_pending: bool,
    /// Secrets with another asker than the requester, by their index.
    pub targets: Vec<TargetAttribution>,
}

/// Part of the contract of a store that is about attribution.
///
/// - A stored line for whose secrets somebody else than the requester may have asked is unattributed until a final
///   result is written. Imported lines are, too.
/// - Results are written as a whole or not at all. A result for a record that is not unattributed, because it has a final
///   one or was deleted, changes nothing.
/// - Deleting a line deletes what is known of it.
#[async_trait]
pub trait AttributionStore {
    /// Unattributed records after a position, oldest first, at most [`MAX_UNATTRIBUTED`].
    async fn unattributed(&self, after: LinePosition)
    -> Result<Vec<UnattributedEvent>, StoreError>;

    /// Successful admissions of an object from a time until another one, both included, newest first. At most
    /// [`MAX_OBJECT_RECORDS`], and one more if there are more.
    async fn object_records(
        &self,
        object: &AuthorObject,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Writes results of attempts at a time.
    async fn attribute(
        &self,
        records: Vec<AttributedRecord>,
        time: Timestamp,
    ) -> Result<(), StoreError>;

    /// Askers for the events at some positions, in their order. At most [`super::MAX_PAGE`] are read.
    async fn attributions(
        &self,
        positions: &[LinePosition],
    ) -> Result<Vec<RecordAttribution>, StoreError>;
}
