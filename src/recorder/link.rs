//! Connection between the writer of the spool and the task that ships it: the reader, once the spool is open, and a
//! wake-up when enough lines wait.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::spool::{SpoolPosition, SpoolReader};

/// State of a spool as both ends see it.
#[derive(Debug)]
pub(super) struct SpoolLink {
    reader: OnceLock<SpoolReader>,
    /// Bytes that this process has appended.
    appended: AtomicU64,
    /// Number of appended bytes at which the task is woken.
    wake_at: AtomicU64,
    wake: Notify,
    pub unshipped_lines: Gauge<i64, AtomicI64>,
    pub spool_bytes: Gauge<i64, AtomicI64>,
}

impl Default for SpoolLink {
    fn default() -> Self {
        Self {
            reader: OnceLock::new(),
            appended: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            wake: Notify::new(),
            unshipped_lines: Gauge::default(),
            spool_bytes: Gauge::default(),
        }
    }
}

impl SpoolLink {
    /// Adds the lines of the process before.
    pub(super) fn set_reader(&self, reader: SpoolReader) {
        let lines = reader.lines_behind(reader.acknowledged());
        // Lines that cannot be read now are reported when they are to be shipped.
        self.unshipped_lines
            .inc_by(i64::try_from(lines.unwrap_or_default()).unwrap_or(i64::MAX));
        self.set_bytes(reader.bytes());
        if self.reader.set(reader).is_ok() {
            self.wake.notify_one();
        }
    }

    pub(super) fn reader(&self) -> Option<&SpoolReader> {
        self.reader.get()
    }

    /// Counts lines that were appended, and wakes the task if it waits for so many.
    pub(super) fn add(&self, bytes: usize, lines: u64, spool_bytes: u64) {
        self.unshipped_lines
            .inc_by(i64::try_from(lines).unwrap_or_default());
        self.set_bytes(spool_bytes);
        let appended = self.appended.fetch_add(bytes as u64, Ordering::SeqCst) + bytes as u64;
        if appended >= self.wake_at.load(Ordering::SeqCst) {
            self.wake_at.store(u64::MAX, Ordering::SeqCst);
            self.wake.notify_one();
        }
    }

    /// Waits until at least `bytes` have been appended behind `from`, or the spool is opened.
    pub(super) async fn wait_for_bytes(&self, from: SpoolPosition, bytes: u64) {
        let appended = self.appended.load(Ordering::SeqCst);
        let unread = self.bytes_behind(from);
        let missing = bytes.saturating_sub(unread);
        self.wake_at.store(appended + missing, Ordering::SeqCst);
        if missing == 0 || self.appended.load(Ordering::SeqCst) >= appended + missing {
            return;
        }
        self.wake.notified().await;
    }

    /// Counts lines that no longer wait.
    pub(super) fn remove_lines(&self, lines: u64) {
        self.unshipped_lines
            .dec_by(i64::try_from(lines).unwrap_or_default());
    }

    pub(super) fn bytes_behind(&self, from: SpoolPosition) -> u64 {
        self.reader().map_or(0, |reader| reader.bytes_behind(from))
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.spool_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
