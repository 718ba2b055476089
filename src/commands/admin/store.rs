//! Store of `admin`: opened in the background, as often as it takes, and closed at the end.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::args::TrailArgs;
use crate::server::ops::Checks;
use crate::store::{StoreHandle, StoreLocation, StoreMetrics, StoreOpener, StoreSettings};

/// Name of this program in the message to another process that wants to write the store.
const HOLDER: &str = "admin";

/// Store of the arguments.
pub(super) struct AdminStore {
    name: String,
    settings: StoreSettings,
    opener: Arc<StoreOpener>,
    handle: StoreHandle,
    metrics: StoreMetrics,
}

impl AdminStore {
    /// Store that is not open yet.
    ///
    /// # Errors
    /// The URL of the store is refused.
    pub(super) fn new(args: &TrailArgs, metrics: StoreMetrics) -> anyhow::Result<Self> {
        let location = args.location().map_err(anyhow::Error::msg)?;
        let name = location.to_string();
        if matches!(&location, StoreLocation::Database(address) if !address.has_tls()) {
            tracing::warn!(
                store = name,
                "connections to the audit store are not encrypted and its server is not verified, because its URL has sslmode=disable"
            );
        }
        let settings = StoreSettings {
            password_file: args.audit_store_password_file.clone(),
            ca_file: args.audit_store_ca_file.clone(),
            create: true,
            max_bytes: Some(args.audit_max_size),
            holder: HOLDER.to_owned(),
            reserve: true,
            ..StoreSettings::new(location)
        };
        let (opener, handle) = StoreOpener::new(&name, metrics.clone());
        Ok(Self {
            name,
            settings,
            opener: Arc::new(opener),
            handle,
            metrics,
        })
    }

    pub(super) fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// Adds the check that the store is open. A full store can still be read, and counts as open.
    pub(super) fn checked(&self, checks: Checks) -> Checks {
        let handle = self.handle();
        checks.with("store", move || {
            handle.get().map(drop).map_err(|error| error.to_string())
        })
    }

    /// Starts to open the store, and the tasks that use it.
    pub(super) fn start(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (opener, settings) = (Arc::clone(&self.opener), self.settings.clone());
        tasks.spawn(async move { opener.open(move || settings.open()).await });
        let (metrics, handle) = (self.metrics.clone(), self.handle.clone());
        tasks.spawn(async move { handle.watch_size(&metrics).await });
        tasks
    }

    /// Closes the store: what the WAL of a file has is moved into it, and its lock is given up.
    pub(super) async fn close(&self) {
        self.opener.close(&self.name).await;
    }
}
