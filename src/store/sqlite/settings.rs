//! Settings of a store in a file.

use std::path::PathBuf;
use std::time::Duration;

/// Time after which a query is stopped: a long reader keeps the WAL from being reused, and it grows.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read. More queries wait.
pub const READERS: usize = 2;

/// File and limits of a store.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    pub path: PathBuf,
    /// Creates the file if it does not exist. Nothing is created over a file that exists.
    pub create: bool,
    /// Size at which the store is full, which should be before its volume is. WAL and reserve take up to 96 MiB more.
    pub max_bytes: Option<u64>,
    pub query_timeout: Duration,
    /// Name of this process for the message to another one that wants to write.
    pub holder: String,
    /// Keeps a file of 16 MiB, which is given up when the volume is full.
    pub reserve: bool,
}

impl SqliteSettings {
    /// Settings of a file that has to exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: false,
            max_bytes: None,
            query_timeout: QUERY_TIMEOUT,
            holder: String::new(),
            reserve: false,
        }
    }
}
