//! What a connection is doing, and when it has done it for too long.
//!
//! hyper's own `header_read_timeout` starts when it begins to wait for a request, so it also ends connections that are
//! merely idle; the API server keeps those for 90 s and does not retry a POST that meets the end of one. So hyper's
//! timer is off, and this module tells idle from slow: [`Watched`] sees bytes arrive, [`Busy`] sees requests begin and
//! end, and [`Watchdog`] is polled right after the connection and knows from both how long to wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The first bytes of HTTP/2, and of no HTTP/1 request: the method is reserved.
const HTTP2: &[u8; 4] = b"PRI ";

/// How long a connection may do what.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Without any request. The API server keeps its idle connections for 90 s; ending one before it does costs it
    /// the POST that crosses our end on the wire.
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
            idle_timeout: Duration::from_mins(3),
            idle_at_stop: Duration::from_millis(500),
            max_age: Duration::from_mins(10),
        }
    }
}

/// What a connection is doing. Written by its IO and its requests, read by its watchdog.
///
/// Relaxed but for `in_flight`: HTTP/1 is one task, but HTTP/2 requests end on tasks of their own, and whoever sees that
/// the last one ended must also see when.
#[derive(Debug)]
pub(super) struct Activity {
    born: Instant,
    /// No new request is wanted any more from here on.
    retire_at: Instant,
    closing: AtomicBool,
    in_flight: AtomicU32,
    used: AtomicBool,
    /// How many of the first bytes have matched [`HTTP2`].
    preface: AtomicU8,
    preface_over: AtomicBool,
    /// Microseconds after `born`, plus one; 0 while no request head is under way.
    head_since: AtomicU64,
    /// Microseconds after `born`.
    quiet_since: AtomicU64,
}

impl Activity {
    pub(super) fn new(max_age: Duration) -> Arc<Self> {
        let born = Instant::now();
        Arc::new(Self {
            born,
            retire_at: born + max_age,
            closing: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            used: AtomicBool::new(false),
            preface: AtomicU8::new(0),
            preface_over: AtomicBool::new(false),
            head_since: AtomicU64::new(0),
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

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn is_http2(&self) -> bool {
        usize::from(self.preface.load(Ordering::Relaxed)) == HTTP2.len()
    }

    /// Bytes arrived. Between requests, the first that is not a line break starts a request's head.
    fn arrived(&self, bytes: &[u8]) {
        if !self.preface_over.load(Ordering::Relaxed) {
            self.match_preface(bytes);
        }
        let between = self.in_flight.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0;
        if between && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.head_since.store(self.micros() + 1, Ordering::Relaxed);
        }
    }

    fn match_preface(&self, bytes: &[u8]) {
        let mut matched = self.preface.load(Ordering::Relaxed);
        for byte in bytes {
            match HTTP2.get(usize::from(matched)) {
                Some(expected) if expected == byte => matched += 1,
                Some(_) => {
                    matched = 0;
                    self.preface_over.store(true, Ordering::Relaxed);
                    break;
                }
                None => break,
            }
        }
        if usize::from(matched) == HTTP2.len() {
            self.preface_over.store(true, Ordering::Relaxed);
        }
        self.preface.store(matched, Ordering::Relaxed);
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX - 1)
    }

    fn at(&self, micros: u64) -> Instant {
        self.born + Duration::from_micros(micros)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.micros(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

/// What the watchdog asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// End as the protocol ends: HTTP/1 between requests, HTTP/2 by GOAWAY.
    Close,
    /// Do not wait for the peer.
    Drop,
}

/// Says when a connection has done one thing for too long. Poll it after the connection, in the same task: then it
/// always sees what the connection has just read.
pub(super) struct Watchdog {
    activity: Arc<Activity>,
    settings: Arc<ConnectionSettings>,
    timer: Pin<Box<Sleep>>,
    /// The program no longer accepts: idle connections may go.
    stopping: bool,
    /// When [`Verdict::Close`] was given; the peer has a while to comply.
    asked: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(activity: Arc<Activity>, settings: Arc<ConnectionSettings>) -> Self {
        let timer = Box::pin(sleep_until(activity.born + settings.header_timeout));
        Self { activity, settings, timer, stopping: false, asked: None }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Completes when there is something to do. The timer is only ever moved forward when that is needed, so a busy
    /// connection costs it nothing.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            let now = Instant::now();
            let Some((at, verdict)) = self.next(now) else { return Poll::Pending };
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

    fn next(&self, now: Instant) -> Option<(Instant, Verdict)> {
        let (activity, settings) = (&*self.activity, &*self.settings);
        let http2 = activity.is_http2();
        // GOAWAY lets streams under way finish and is safe at any time. Only a connection that a peer opened to a
        // program that is ending already gets its first request through: else it would come back at once.
        let go_away = http2.then(|| {
            let due =
                self.stopping || activity.closing.load(Ordering::Relaxed) && activity.used.load(Ordering::Relaxed);
            (if due { now } else { activity.retire_at }, Verdict::Close)
        });
        if activity.in_flight.load(Ordering::Acquire) > 0 {
            return go_away.filter(|_| self.asked.is_none());
        }
        let quiet = activity.at(activity.quiet_since.load(Ordering::Relaxed));
        if let Some(asked) = self.asked {
            return Some((asked.max(quiet) + settings.header_timeout, Verdict::Drop));
        }
        let head = activity.head_since.load(Ordering::Relaxed);
        if head > 0 && !http2 {
            return Some((activity.at(head - 1) + settings.header_timeout, Verdict::Drop));
        }
        let patience = if self.stopping { settings.idle_at_stop } else { settings.idle_timeout };
        let idle = (quiet + patience, Verdict::Close);
        Some(go_away.into_iter().fold(idle, |first, other| if other.0 < first.0 { other } else { first }))
    }
}

pin_project_lite::pin_project! {
    /// A stream whose arriving bytes are noted.
    pub(super) struct Watched<S> {
        #[pin]
        stream: S,
        activity: Arc<Activity>,
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.stream.poll_read(cx, buf))?;
        if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            this.activity.arrived(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().stream.poll_flush(cx)
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
    use rstest::rstest;

    #[rstest]
    #[case(&["PRI * HTTP/2.0"], true)]
    #[case(&["P", "R", "I", " "], true)]
    #[case(&["PRINT / HTTP/1.1"], false)]
    #[case(&["PO", "ST /"], false)]
    #[case(&["PUT /PRI "], false)]
    fn http2_is_known_by_its_first_bytes(#[case] reads: &[&str], #[case] http2: bool) {
        let activity = Activity::new(Duration::from_secs(1));
        for read in reads {
            activity.arrived(read.as_bytes());
        }
        assert_eq!(activity.is_http2(), http2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_starts_at_its_first_byte_and_a_body_starts_none() {
        let activity = Activity::new(Duration::from_secs(1000));
        let settings = Arc::new(ConnectionSettings::default());
        let dog = Watchdog::new(Arc::clone(&activity), Arc::clone(&settings));
        let next = || dog.next(Instant::now()).map(|(at, verdict)| (at - activity.born, verdict));
        let idle = (settings.idle_timeout, Verdict::Close);

        assert_eq!(next(), Some(idle));
        tokio::time::advance(Duration::from_mins(1)).await;
        activity.arrived(b"\r\n");
        assert_eq!(next(), Some(idle), "a stray line break is not a request");
        activity.arrived(b"POST");
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.arrived(b" /");
        assert_eq!(next(), Some((Duration::from_mins(1) + settings.header_timeout, Verdict::Drop)));
        let busy = activity.begin();
        activity.arrived(b"body");
        assert_eq!(next(), None);
        drop(busy);
        assert_eq!(next(), Some((Duration::from_secs(65) + settings.idle_timeout, Verdict::Close)));
    }
}
