//! Store of `admin`: opened in the background, as often as it takes, and closed at the end.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::args::TrailArgs;
use crate::server::ops::Checks;
use crate::store::sqlite::{SqliteSettings, SqliteStore};
use crate::store::{AuditStore, StoreError, StoreHandle, StoreMetrics, StoreOpener};

/// Name of this program in the message to another process that wants to write the store.
const HOLDER: &str = "admin";

/// Store of the arguments.
pub(super) struct AdminStore {
    name: String,
    settings: SqliteSettings,
    opener: Arc<StoreOpener>,
    handle: StoreHandle,
    metrics: StoreMetrics,
}

impl AdminStore {
    pub(super) fn new(args: &TrailArgs, metrics: StoreMetrics) -> Self {
        let path = args.audit_store.clone().unwrap_or_default();
        let name = path.display().to_string();
        let settings = SqliteSettings {
            create: true,
            max_bytes: Some(args.audit_max_size),
            holder: HOLDER.to_owned(),
            reserve: true,
            ..SqliteSettings::new(path)
        };
        let (opener, handle) = StoreOpener::new(&name, metrics.clone());
        Self {
            name,
            settings,
            opener: Arc::new(opener),
            handle,
            metrics,
        }
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
        let open = move || -> Result<Arc<dyn AuditStore>, StoreError> {
            Ok(Arc::new(SqliteStore::open(&settings)?))
        };
        tasks.spawn(async move { opener.open(open).await });
        let (metrics, handle) = (self.metrics.clone(), self.handle.clone());
        tasks.spawn(async move { handle.watch_size(&metrics).await });
        tasks
    }

    /// Closes the store: what its WAL has is moved into the file, and its lock is given up.
    pub(super) async fn close(&self) {
        self.opener.close(&self.name).await;
    }
}
