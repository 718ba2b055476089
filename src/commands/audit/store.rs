//! Store of a command, and the exit status of one that uses it.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::store::StoreError;
use crate::store::sqlite::{SqliteSettings, SqliteStore};

/// Store of a command.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// File of the store.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub store: PathBuf,
}

impl StoreArgs {
    pub(super) fn settings(&self) -> SqliteSettings {
        SqliteSettings::new(self.store.clone())
    }

    pub(super) fn open_read_only(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_read_only(&self.settings())
    }
}

/// Exit status of a command about a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreExitStatus {
    Done = 0,
    /// Lines were not imported.
    Incomplete = 1,
    Failed = 2,
}

impl From<StoreExitStatus> for u8 {
    fn from(status: StoreExitStatus) -> Self {
        status as Self
    }
}
