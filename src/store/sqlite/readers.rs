//! Connections that read, each query with a limit of time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;

use super::file::{name, sqlite_error};
use super::open::for_reading;
use super::settings::{READERS, SqliteSettings};
use crate::store::StoreError;

/// Instructions of SQLite's machine between two looks at the clock: less than a millisecond.
const CHECK_INTERVAL: i32 = 1_000;

/// Pool of connections. Queries run on the blocking threads of tokio.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    timeout: Duration,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn open(settings: &SqliteSettings) -> Result<Self, StoreError> {
        let connections = (0..READERS).map(|_| for_reading(&settings.path));
        let connections = connections.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            path: settings.path.clone(),
            timeout: settings.query_timeout,
            permits: Arc::new(Semaphore::new(READERS)),
            idle: Arc::new(Mutex::new(connections)),
        })
    }

    /// Runs a query in one read transaction. It ends at the limit of time, also if its caller is gone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = name(&self.path);
        let closed = || StoreError::Closed {
            store: store.clone(),
        };
        let permit = Arc::clone(&self.permits);
        let permit = permit.acquire_owned().await.map_err(|_| closed())?;
        let (idle, path, timeout) = (Arc::clone(&self.idle), self.path.clone(), self.timeout);
        let run = move || {
            let _permit = permit;
            let connection = lock(&idle).pop();
            let mut connection = connection.map_or_else(|| for_reading(&path), Ok)?;
            let result = bounded(&mut connection, timeout, query, &path);
            // A connection whose query failed is not used again.
            if result.is_ok() {
                lock(&idle).push(connection);
            }
            result
        };
        let result = tokio::task::spawn_blocking(run).await;
        result.map_err(|_| closed())?
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bounded<T>(
    connection: &mut Connection,
    timeout: Duration,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    path: &Path,
) -> Result<T, StoreError> {
    let started = Instant::now();
    let result = connection
        .progress_handler(CHECK_INTERVAL, Some(move || started.elapsed() >= timeout))
        .and_then(|()| connection.transaction())
        .and_then(|transaction| {
            let result = query(&transaction)?;
            transaction.commit()?;
            Ok(result)
        });
    result.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => StoreError::Timeout {
            seconds: timeout.as_secs(),
        },
        _ => sqlite_error(&name(path), &error),
    })
}
