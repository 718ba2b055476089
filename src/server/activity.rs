//! State of a connection: idle, receiving a head, or serving a request; and since when.
//!
//! hyper's own `header_read_timeout` starts when it begins to wait for a request, so it also ends idle connections; the
//! API server keeps those for 90 s, and does not retry a POST that is sent while the connection is closed. So hyper's
//! timer is off, and this module distinguishes idle from slow: [`stream::MonitoredStream`] records bytes that arrive
//! and leave, [`InFlightGuard`] records requests and their bodies, and [`watchdog::Watchdog`] applies the time limits.

pub(super) mod stream;
pub(super) mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Time limits of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Time limit from the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Time limit from the end of a request's head to the last byte of its response. A connection beyond it is aborted.
    pub response_timeout: Duration,
    /// Time limit from a connection's beginning to its first request.
    pub unused_timeout: Duration,
    /// Time limit between two requests. The API server keeps its idle connections for 90 s; if the webhook closed one
    /// earlier, the API server would lose a POST that it sends at the same moment.
    pub idle_timeout: Duration,
    /// Time limit between two requests once the listener no longer accepts. By then, responses have had `Connection: close` for a while.
    pub idle_at_stop: Duration,
    /// Age after which the next response closes the connection, so that new replicas get their share. The limit of each
    /// connection is within a tenth of it, so that they do not all reconnect at once.
    pub max_age: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            // 30 s, the longest timeout of a webhook, and 10 s in which the response is read.
            response_timeout: Duration::from_secs(40),
            // Go's client opens connections ahead, and uses them within seconds or keeps them for a later request.
            unused_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(3),
            idle_at_stop: Duration::from_millis(500),
            max_age: Duration::from_mins(10),
        }
    }
}

/// State of a connection. Written by its task, read by its watchdog and by the table of all connections.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: Instant,
    /// Age limit: the next response after it closes the connection.
    retire_at: Instant,
    closing: AtomicBool,
    /// At least one response was sent to its last byte.
    used: AtomicBool,
    eviction: Notify,
    head_since: Since,
    /// Beginning of the request whose response is not complete in hyper yet.
    request_since: Since,
    /// Beginning of the oldest request whose response hyper has, and has not sent to its last byte.
    unsent_since: Since,
    /// End of the last response, in microseconds after `opened`.
    idle_since: AtomicU64,
}

/// Microseconds after a connection was opened, plus one; 0 for `None`.
#[derive(Debug, Default)]
struct Since(AtomicU64);

impl Since {
    fn get(&self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }

    fn set(&self, micros: Option<u64>) {
        self.0
            .store(micros.map_or(0, |micros| micros + 1), Ordering::Relaxed);
    }
}

/// Rank of a connection without a request in flight; the lowest is evicted first. Connections that never served a
/// request come first, the oldest of them before younger ones, then those that have been idle for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EvictionRank {
    used: bool,
    since: Instant,
}

impl ConnectionActivity {
    pub(super) fn new(max_age: Duration) -> Arc<Self> {
        let opened = Instant::now();
        Arc::new(Self {
            opened,
            retire_at: opened + max_age,
            closing: AtomicBool::new(false),
            used: AtomicBool::new(false),
            eviction: Notify::new(),
            head_since: Since::default(),
            request_since: Since::default(),
            unsent_since: Since::default(),
            idle_since: AtomicU64::new(0),
        })
    }

    /// Closes the connection with its next response.
    pub(super) fn close_soon(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether the next response closes the connection.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed) || self.retire_at <= Instant::now()
    }

    /// Closes the connection at once, or after a request that has arrived in the meantime.
    pub(super) fn evict(&self) {
        self.close_soon();
        self.eviction.notify_one();
    }

    /// Completes after [`ConnectionActivity::evict`], once.
    pub(super) async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// Rank for eviction; `None` while a request is in flight, until the last byte of its response. A first request is
    /// not in flight before its head is complete: otherwise a few bytes would hold a place.
    pub(super) fn eviction_rank(&self) -> Option<EvictionRank> {
        let used = self.used.load(Ordering::Relaxed);
        if self.oldest_request().is_some() || used && self.head_since.get().is_some() {
            return None;
        }
        let since = if used {
            self.at(self.idle_since.load(Ordering::Relaxed))
        } else {
            self.opened
        };
        Some(EvictionRank { used, since })
    }

    /// Records the beginning of a request. The guard is dropped when hyper has the complete body of the response.
    pub(super) fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.request_since.set(Some(self.elapsed_micros()));
        self.head_since.set(None);
        InFlightGuard(Arc::clone(self))
    }

    /// Beginning of the oldest request whose response has not been sent to its last byte. There can be two: one may
    /// have arrived behind a response that the peer does not read.
    fn oldest_request(&self) -> Option<u64> {
        self.unsent_since.get().or(self.request_since.get())
    }

    /// Records that bytes have arrived. Between requests, the first one that is not a line break begins a head.
    fn arrived(&self, bytes: &[u8]) {
        let between = self.request_since.get().is_none() && self.head_since.get().is_none();
        if between && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.head_since.set(Some(self.elapsed_micros()));
        }
    }

    /// Records that everything has been sent: hyper flushes the stream only after it has written all of its buffer.
    pub(super) fn flushed(&self) {
        if self.unsent_since.get().is_some() {
            self.idle_since
                .store(self.elapsed_micros(), Ordering::Relaxed);
            self.used.store(true, Ordering::Relaxed);
            self.unsent_since.set(None);
        }
    }

    fn elapsed_micros(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX - 1)
    }

    fn at(&self, micros: u64) -> Instant {
        self.opened + Duration::from_micros(micros)
    }
}

/// A request whose response is not complete in hyper yet.
#[derive(Debug)]
pub(super) struct InFlightGuard(Arc<ConnectionActivity>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let Self(activity) = self;
        if activity.unsent_since.get().is_none() {
            activity.unsent_since.set(activity.request_since.get());
        }
        activity.request_since.set(None);
    }
}
