//! Logs of one thread, for tests: those of a process run beside each other.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Subscriber};

use super::{LogFormat, TelemetryError, subscriber};

/// Makes `subscriber` the log of this thread until the guard is dropped.
///
/// While a process has one subscriber, tracing asks the thread that first passes a place whether it is logged, and keeps
/// the answer for all threads (`Dispatchers::has_just_one` of tracing-core 0.1). Tests share a process, and a thread
/// without a subscriber could silence the place for the others. A second subscriber, which takes nothing, prevents it.
pub fn set_for_thread(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND);
    tracing::subscriber::set_default(subscriber)
}

/// Log of a thread in memory. It ends when it is dropped.
pub struct ThreadLog {
    bytes: SharedBytes,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct SharedBytes(Arc<Mutex<Vec<u8>>>);

impl Write for SharedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ThreadLog {
    /// Begins a log of this thread, a JSON object in each line.
    ///
    /// # Errors
    /// The filter cannot be parsed.
    pub fn start(filter: &str) -> Result<Self, TelemetryError> {
        let bytes = SharedBytes::default();
        let writer = bytes.clone();
        let lines = subscriber(LogFormat::Json, filter, move || writer.clone())?;
        Ok(Self {
            bytes,
            _guard: set_for_thread(lines),
        })
    }

    /// Lines so far that contain `text`.
    #[must_use]
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let bytes = self.bytes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = String::from_utf8_lossy(&bytes);
        let lines = all.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}
