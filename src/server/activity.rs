//! What a connection is doing, and when it has done it for too long.
//!
//! hyper's own `header_read_timeout` starts when it begins to wait for a request, so it also ends connections that are
//! merely idle; the API server keeps those for 90 s and does not retry a POST that meets the end of one. So hyper's
//! timer is off, and this module tells idle from slow: [`MonitoredStream`] sees bytes arrive and leave, [`InFlightGuard`] sees requests
//! begin and their bodies end, and [`Watchdog`] is polled right after the connection and knows from both how long to
//! wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a connection may do what.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// From the end of a request's head to the last byte of its response, after which the connection is cut.
    pub response_timeout: Duration,
    /// From a connection's beginning to its first request.
    pub unused_timeout: Duration,
    /// Without any request, between two. The API server keeps its idle connections for 90 s; ending one before it does
    /// costs it the POST that crosses our end on the wire.
    pub idle_timeout: Duration,
    /// The same, once the program no longer accepts. It has said `Connection: close` for a while by then.
    pub idle_at_stop: Duration,
    /// After this, the next response ends the connection, so that new replicas get their share. Each connection's own
    /// limit lies within a tenth of it, so that they do not all come back at once.
    pub max_age: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            // 30 s, the most that the API lets a webhook take, and 10 s for the answer to be read.
            response_timeout: Duration::from_secs(40),
            // Go's client dials ahead, but uses what it dialled within seconds or keeps it for a later request.
            unused_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(3),
            idle_at_stop: Duration::from_millis(500),
            max_age: Duration::from_mins(10),
        }
    }
}

/// What a connection is doing. Written by its task, read by its watchdog and by the table of all connections.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    born: Instant,
    /// No new request is wanted any more from here on.
    retire_at: Instant,
    closing: AtomicBool,
    /// A response was sent to its last byte.
    used: AtomicBool,
    eviction: Notify,
    head_since: Since,
    /// Until the response's body has been handed to hyper.
    request_since: Since,
    /// The beginning of a request whose response hyper holds and the peer has not taken whole.
    unsent_since: Since,
    /// Microseconds after `born`.
    quiet_since: AtomicU64,
}

/// Microseconds after a connection's beginning, plus one; 0 for "not".
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

/// The order in which connections without a request under way are given up: those that never served one first, the
/// oldest before younger ones, then those that have been idle for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dispensable {
    used: bool,
    since: Instant,
}

impl ConnectionActivity {
    pub(super) fn new(max_age: Duration) -> Arc<Self> {
        let born = Instant::now();
        Arc::new(Self {
            born,
            retire_at: born + max_age,
            closing: AtomicBool::new(false),
            used: AtomicBool::new(false),
            eviction: Notify::new(),
            head_since: Since::default(),
            request_since: Since::default(),
            unsent_since: Since::default(),
            quiet_since: AtomicU64::new(0),
        })
    }

    /// From now on responses say that the connection ends.
    pub(super) fn close_soon(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Should a response say that the connection ends?
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed) || self.retire_at <= Instant::now()
    }

    /// Asks the connection to make room: at once, or after the request that came in the meantime.
    pub(super) fn evict(&self) {
        self.close_soon();
        self.eviction.notify_one();
    }

    /// Completes after [`ConnectionActivity::evict`], once.
    pub(super) async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// How dispensable the connection is; `None` while a request is under way, to its response's last byte. A first
    /// request is not under way before its head is complete: else a few bytes would hold a place.
    pub(super) fn dispensable(&self) -> Option<Dispensable> {
        let used = self.used.load(Ordering::Relaxed);
        if self.oldest_request().is_some() || used && self.head_since.get().is_some() {
            return None;
        }
        let since = if used {
            self.at(self.quiet_since.load(Ordering::Relaxed))
        } else {
            self.born
        };
        Some(Dispensable { used, since })
    }

    /// A request begins; the guard is dropped when its response's body has been handed over.
    pub(super) fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.request_since.set(Some(self.micros()));
        self.head_since.set(None);
        InFlightGuard(Arc::clone(self))
    }

    /// When the oldest request began whose response is not sent whole. There can be two: one has arrived and waits
    /// behind an answer that the peer does not read.
    fn oldest_request(&self) -> Option<u64> {
        self.unsent_since.get().or(self.request_since.get())
    }

    /// Bytes arrived. Between requests, the first that is not a line break starts a request's head.
    fn arrived(&self, bytes: &[u8]) {
        let between = self.request_since.get().is_none() && self.head_since.get().is_none();
        if between && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.head_since.set(Some(self.micros()));
        }
    }

    /// Nothing that was written waits any more: hyper flushes the stream only when it has written all that it holds.
    pub(super) fn flushed(&self) {
        if self.unsent_since.get().is_some() {
            self.quiet_since.store(self.micros(), Ordering::Relaxed);
            self.used.store(true, Ordering::Relaxed);
            self.unsent_since.set(None);
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX - 1)
    }

    fn at(&self, micros: u64) -> Instant {
        self.born + Duration::from_micros(micros)
    }
}

/// A request whose response's body has not been handed over.
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

/// What the watchdog asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// End as the protocol ends, between requests.
    Close,
    /// Do not wait for the peer.
    Drop,
    /// A request under way has taken too long: do not keep its response for the peer either.
    Cut,
}

/// Says when a connection has done one thing for too long. Poll it after the connection, in the same task: then it
/// always sees what the connection has just read.
pub(super) struct Watchdog {
    activity: Arc<ConnectionActivity>,
    settings: Arc<ConnectionSettings>,
    timer: Pin<Box<Sleep>>,
    /// The program no longer accepts: idle connections may go.
    stopping: bool,
    /// Another connection needs the place.
    evicted: bool,
    /// When [`Verdict::Close`] was given; the peer has a while to comply.
    asked: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(
        activity: Arc<ConnectionActivity>,
        settings: Arc<ConnectionSettings>,
    ) -> Self {
        let timer = Box::pin(sleep_until(activity.born + settings.header_timeout));
        Self {
            activity,
            settings,
            timer,
            stopping: false,
            evicted: false,
            asked: None,
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn evict(&mut self) {
        self.evicted = true;
    }

    /// Completes when there is something to do. The timer is only ever moved forward when that is needed, so a busy
    /// connection costs it nothing.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            let now = Instant::now();
            let (at, verdict) = self.next();
            if at <= now {
                if verdict == Verdict::Close {
                    self.asked = Some(now);
                }
                return Poll::Ready(verdict);
            }
            if at < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    fn next(&self) -> (Instant, Verdict) {
        let (activity, settings) = (&*self.activity, &*self.settings);
        if let Some(since) = activity.oldest_request() {
            return (activity.at(since) + settings.response_timeout, Verdict::Cut);
        }
        let quiet = activity.at(activity.quiet_since.load(Ordering::Relaxed));
        let used = activity.used.load(Ordering::Relaxed);
        if let Some(asked) = self.asked {
            // Whoever is in a newcomer's way gets no time to comply.
            let comply = if self.evicted {
                Duration::ZERO
            } else {
                settings.header_timeout
            };
            return (asked.max(quiet) + comply, Verdict::Drop);
        }
        if let Some(head) = activity.head_since.get() {
            // As `dispensable` has it; a request that begins after the choice has its time, too.
            let time = if self.evicted && !used {
                Duration::ZERO
            } else {
                settings.header_timeout
            };
            return (activity.at(head) + time, Verdict::Drop);
        }
        let patience = if self.evicted {
            Duration::ZERO
        } else if self.stopping {
            settings.idle_at_stop
        } else if used {
            settings.idle_timeout
        } else {
            settings.unused_timeout
        };
        (quiet + patience, Verdict::Close)
    }
}

/// A stream whose unsent bytes can be thrown away.
pub(super) trait Reset {
    /// Makes the system forget what the peer has not taken when the stream is closed; else it would go on offering it.
    fn reset(&self);
}

impl Reset for tokio::net::TcpStream {
    fn reset(&self) {
        // A socket that cannot be told so is broken, and holds nothing for a peer.
        self.set_zero_linger().ok();
    }
}

impl<S: Reset> Reset for tokio_rustls::server::TlsStream<S> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

pin_project_lite::pin_project! {
    /// A stream whose arriving and leaving bytes are noted.
    pub(super) struct MonitoredStream<S> {
        #[pin]
        stream: S,
        activity: Arc<ConnectionActivity>,
    }
}

impl<S> MonitoredStream<S> {
    pub(super) fn new(stream: S, activity: Arc<ConnectionActivity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: Reset> Reset for MonitoredStream<S> {
    fn reset(&self) {
        self.stream.reset();
    }
}

impl<S: AsyncRead> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.stream.poll_read(cx, buf))?;
        if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            this.activity.arrived(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for MonitoredStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.project();
        ready!(this.stream.poll_flush(cx))?;
        this.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_starts_at_its_first_byte_and_a_body_starts_none() {
        let activity = ConnectionActivity::new(Duration::from_secs(1000));
        let settings = Arc::new(ConnectionSettings::default());
        let dog = Watchdog::new(Arc::clone(&activity), Arc::clone(&settings));
        let next = || {
            let (at, verdict) = dog.next();
            (at - activity.born, verdict)
        };
        let seconds = Duration::from_secs;
        let idle = (settings.unused_timeout, Verdict::Close);

        assert_eq!(next(), idle);
        tokio::time::advance(seconds(20)).await;
        activity.arrived(b"\r\n");
        assert_eq!(next(), idle, "a stray line break is not a request");
        activity.arrived(b"POST");
        tokio::time::advance(seconds(5)).await;
        activity.arrived(b" /");
        assert_eq!(
            next(),
            (seconds(20) + settings.header_timeout, Verdict::Drop)
        );
        let busy = activity.begin();
        activity.arrived(b"body");
        activity.flushed();
        assert_eq!(
            next(),
            (seconds(25) + settings.response_timeout, Verdict::Cut),
            "nothing is answered yet"
        );
        tokio::time::advance(seconds(1)).await;
        drop(busy);
        assert_eq!(
            next(),
            (seconds(25) + settings.response_timeout, Verdict::Cut),
            "the answer is not sent yet"
        );
        activity.flushed();
        assert_eq!(
            next(),
            (seconds(26) + settings.idle_timeout, Verdict::Close)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_behind_an_unread_answer_gives_it_no_more_time() {
        let activity = ConnectionActivity::new(Duration::from_secs(1000));
        let settings = Arc::new(ConnectionSettings::default());
        let dog = Watchdog::new(Arc::clone(&activity), Arc::clone(&settings));
        let cut = |seconds| {
            (
                activity.born + Duration::from_secs(seconds) + settings.response_timeout,
                Verdict::Cut,
            )
        };
        drop(activity.begin());
        tokio::time::advance(Duration::from_secs(7)).await;
        let second = activity.begin();
        assert_eq!(dog.next(), cut(0));
        activity.flushed();
        assert_eq!(dog.next(), cut(7), "the first was read");
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(second);
        assert_eq!(dog.next(), cut(7));
    }
}
