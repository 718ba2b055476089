//! Store of a command, and the exit status of one that uses it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};

use crate::store::{AuditStore, StoreError, StoreLocation, StoreSettings};

/// Store of a command.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// File of the store, or the URL of a PostgreSQL database without its password.
    #[arg(long, value_name = "FILE|URL", value_hint = ValueHint::FilePath)]
    pub store: String,
    /// File with the password of the database.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub store_password_file: Option<PathBuf>,
    /// File with the CA of the database's certificate.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub store_ca_file: Option<PathBuf>,
}

impl StoreArgs {
    /// Settings of the store.
    ///
    /// # Errors
    /// A sentence without the text of a URL, which may have a password.
    pub(super) fn settings(&self) -> Result<StoreSettings, String> {
        let location = StoreLocation::parse(&self.store).map_err(|error| error.to_string())?;
        Ok(StoreSettings {
            password_file: self.store_password_file.clone(),
            ca_file: self.store_ca_file.clone(),
            ..StoreSettings::new(location)
        })
    }

    pub(super) async fn open_read_only(&self) -> Result<Arc<dyn AuditStore>, String> {
        let settings = self.settings()?;
        opened(move || settings.open_read_only()).await
    }
}

/// Opens a store on a thread that may block.
pub(super) async fn opened(
    open: impl FnOnce() -> Result<Arc<dyn AuditStore>, StoreError> + Send + 'static,
) -> Result<Arc<dyn AuditStore>, String> {
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(|error| error.to_string())?;
    opened.map_err(|error| error.to_string())
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
