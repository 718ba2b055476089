//! Store of a program that runs also while the store cannot be opened: another process has it, or somebody has to
//! repair or replace the file.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info};

use super::{AuditStore, StoreError, StoreMetrics};

/// Interval at which a store is opened again that could not be opened.
pub const OPEN_INTERVAL: Duration = Duration::from_secs(10);

/// Interval at which the size of the store is read.
const SIZE_INTERVAL: Duration = Duration::from_secs(15);

/// Store that is opened by a [`StoreOpener`]. Clones are the same store.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    states: watch::Receiver<OpeningState>,
}

/// Opens a store, and closes it.
#[derive(Debug)]
pub struct StoreOpener {
    states: watch::Sender<OpeningState>,
    metrics: StoreMetrics,
}

#[derive(Clone, Debug)]
enum OpeningState {
    /// Not open, for this reason.
    Unavailable(StoreError),
    Open(Arc<dyn AuditStore>),
}

impl StoreOpener {
    /// Creates the opener of a store, and a handle of the store. `store` is its file or address.
    #[must_use]
    pub fn new(store: &str, metrics: StoreMetrics) -> (Self, StoreHandle) {
        metrics.set_ready(false);
        let store = store.to_owned();
        let (sender, states) =
            watch::channel(OpeningState::Unavailable(StoreError::Opening { store }));
        let opener = Self {
            states: sender,
            metrics,
        };
        (opener, StoreHandle { states })
    }

    /// Calls `open`, which may block, until it succeeds. Each problem is logged once. Nothing is done about it: a lock
    /// may be given up, and a file may be replaced.
    pub async fn open(
        &self,
        open: impl Fn() -> Result<Arc<dyn AuditStore>, StoreError> + Send + Sync + 'static,
    ) {
        let open = Arc::new(open);
        let mut logged = None;
        loop {
            let attempt = Arc::clone(&open);
            let opened = tokio::task::spawn_blocking(move || attempt()).await;
            match opened {
                Ok(Ok(store)) => {
                    if self.advance(OpeningState::Open(store)) {
                        info!("audit store opened");
                        self.metrics.set_ready(true);
                    }
                    return;
                }
                Ok(Err(problem)) => {
                    if logged.as_ref() != Some(&problem) {
                        error!(error = %problem, "cannot open the audit store");
                    }
                    logged = Some(problem.clone());
                    self.states.send_replace(OpeningState::Unavailable(problem));
                }
                // The panic hook has logged it. The next attempt may find another file.
                Err(_) => {}
            }
            sleep(OPEN_INTERVAL).await;
        }
    }

    /// Changes the state, unless the store was closed in the meantime.
    fn advance(&self, next: OpeningState) -> bool {
        self.states.send_if_modified(|state| {
            let is_open = !matches!(state, OpeningState::Unavailable(StoreError::Closed { .. }));
            if is_open {
                *state = next;
            }
            is_open
        })
    }

    /// Closes the store, after its users have ended. What they still hold is closed when they drop it.
    pub async fn close(&self, name: &str) {
        let store = name.to_owned();
        self.metrics.set_ready(false);
        let closed = OpeningState::Unavailable(StoreError::Closed { store });
        let open = self.states.send_replace(closed);
        // Dropping a store writes to its file.
        drop(tokio::task::spawn_blocking(move || drop(open)).await);
    }
}

impl StoreHandle {
    /// The store, if it is open.
    ///
    /// # Errors
    ///
    /// Reason why it is not.
    pub fn get(&self) -> Result<Arc<dyn AuditStore>, StoreError> {
        match &*self.states.borrow() {
            OpeningState::Open(store) => Ok(Arc::clone(store)),
            OpeningState::Unavailable(error) => Err(error.clone()),
        }
    }

    /// Reads the size of the store at an interval, until the store is closed.
    pub async fn watch_size(&self, metrics: &StoreMetrics) {
        while let Some(store) = self.opened().await {
            if let Ok(counts) = store.counts().await {
                metrics.set_size(&counts);
            }
            drop(store);
            sleep(SIZE_INTERVAL).await;
        }
    }

    /// The store, as soon as it is open. `None` if it is closed.
    pub async fn opened(&self) -> Option<Arc<dyn AuditStore>> {
        let mut states = self.states.clone();
        loop {
            match &*states.borrow_and_update() {
                OpeningState::Open(store) => return Some(Arc::clone(store)),
                OpeningState::Unavailable(StoreError::Closed { .. }) => return None,
                OpeningState::Unavailable(_) => {}
            }
            states.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;
    use crate::store::sqlite::{SqliteSettings, SqliteStore};
    use tokio::time::Instant;

    fn settings(path: &Path) -> SqliteSettings {
        SqliteSettings {
            create: true,
            ..SqliteSettings::new(path)
        }
    }

    fn open(path: &Path) -> Result<Arc<dyn AuditStore>, StoreError> {
        Ok(Arc::new(SqliteStore::open(&settings(path))?))
    }

    /// Starts to open the file, and waits until it cannot be opened.
    fn starting(
        path: &Path,
    ) -> (
        Arc<StoreOpener>,
        StoreHandle,
        StoreMetrics,
        tokio::task::JoinHandle<()>,
    ) {
        let metrics = StoreMetrics::default();
        let (opener, handle) = StoreOpener::new("audit.db", metrics.clone());
        assert_eq!(
            handle.get().unwrap_err(),
            StoreError::Opening {
                store: "audit.db".to_owned()
            }
        );
        let opener = Arc::new(opener);
        let (task, file) = (Arc::clone(&opener), path.to_owned());
        let task = tokio::spawn(async move { task.open(move || open(&file)).await });
        (opener, handle, metrics, task)
    }

    async fn error_of(handle: &StoreHandle) -> StoreError {
        let mut states = handle.states.clone();
        states.changed().await.unwrap();
        handle.get().unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn locked_store_is_opened_when_the_lock_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let other = open(&path).unwrap();
        let (opener, handle, metrics, task) = starting(&path);
        let error = error_of(&handle).await;
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(!metrics.is_ready());
        drop(other);
        let began = Instant::now();
        let store = handle.opened().await.expect("the store");
        assert!(began.elapsed() <= OPEN_INTERVAL);
        assert!(metrics.is_ready() && handle.get().is_ok());
        task.await.unwrap();
        drop(store);
        opener.close("audit.db").await;
        assert!(handle.opened().await.is_none() && !metrics.is_ready());
        open(&path).expect("the lock was given up");
    }

    #[tokio::test(start_paused = true)]
    async fn file_that_is_not_a_store_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let damaged = b"not a database, and longer than a header of one".repeat(9);
        std::fs::write(&path, &damaged).unwrap();
        let (_opener, handle, _metrics, task) = starting(&path);
        let error = error_of(&handle).await;
        let is_named = matches!(
            error,
            StoreError::Damaged { .. } | StoreError::Foreign { .. }
        );
        assert!(is_named, "{error}");
        // Several attempts later.
        sleep(OPEN_INTERVAL * 3).await;
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
        // Somebody moves it away.
        std::fs::rename(&path, folder.path().join("old.db")).unwrap();
        handle.opened().await.expect("a new store");
        task.await.unwrap();
        assert!(File::open(&path).unwrap().metadata().unwrap().len() > 0);
    }
}
