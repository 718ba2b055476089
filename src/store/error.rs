//! Errors of a store, as sentences that state what to do.

use thiserror::Error;

use crate::audit::link::ChainId;

/// Error of a store. `store` is its file or address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    #[error(
        "the store \"{store}\" does not exist: check the path, or start the program that writes it"
    )]
    NotFound { store: String },
    #[error(
        "the store \"{store}\" is in use by {holder}: stop that process first. Queries can read the store meanwhile"
    )]
    Locked { store: String, holder: String },
    #[error(
        "the store \"{store}\" is damaged ({detail}): keep a copy of it, and restore a backup or import an export into a new store"
    )]
    Damaged { store: String, detail: String },
    #[error(
        "\"{store}\" is not a store of the audit trail ({detail}): name another one. It was not changed"
    )]
    Foreign { store: String, detail: String },
    #[error(
        "the store \"{store}\" has schema {found}, and this program knows schemas up to {known}: use the newer program. The store was not changed"
    )]
    Newer {
        store: String,
        found: u32,
        known: u32,
    },
    #[error(
        "the store \"{store}\" has schema {found}, and this program reads schema {known}: start the program that writes the store once, which updates it"
    )]
    Older {
        store: String,
        found: u32,
        known: u32,
    },
    #[error(
        "the store \"{store}\" is full ({bytes} bytes): raise its limit of size, grow its volume, or shorten the retention"
    )]
    Full { store: String, bytes: u64 },
    #[error(
        "the store \"{store}\" cannot be written, because its file, volume or server is read-only: correct the mount or the permissions, or name the primary server"
    )]
    ReadOnly { store: String },
    #[error(
        "the query took longer than {seconds} s: narrow the range of time, or name a secret or an actor"
    )]
    Timeout { seconds: u64 },
    #[error("the store \"{store}\" could not be used: {detail}. Check its volume and retry")]
    Failed { store: String, detail: String },
    #[error(
        "the store \"{store}\" cannot be used now ({detail}): check that its server runs and can be reached, and its database, user, password and CA. It is used again as soon as that is possible"
    )]
    Unreachable { store: String, detail: String },
    #[error(
        "the database \"{store}\" has {detail} in place of the one that was opened: restore that one, or restart this program to use what is there. Nothing is written until then"
    )]
    Replaced { store: String, detail: String },
    #[error("the store \"{store}\" is being opened. Retry")]
    Opening { store: String },
    #[error("the store \"{store}\" is closed: the program stops. Retry")]
    Closed { store: String },
}

/// Reason why a batch was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error(
        "lines of the chain {chain} before number {first} are not stored: send the lines from number {wanted}, or declare them as lost"
    )]
    OutOfOrder {
        chain: ChainId,
        first: u64,
        /// Number that the store can append next.
        wanted: u64,
    },
    #[error(
        "number {seq} of the chain {chain} is stored with another hash, so there is a second history: keep the pod's log, and compare it with the store by audit verify"
    )]
    SecondHistory { chain: ChainId, seq: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}
