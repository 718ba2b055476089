//! One connection: HTTP/1 or HTTP/2 over any stream, from the first byte to an end that loses no request.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::Service;
use tracing::debug;

use super::activity::{Activity, Busy, Verdict, Watchdog, Watched};
use super::panics;
use crate::metrics::Metrics;
use crate::redact::ErrorChain;

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
            idle_timeout: Duration::from_secs(180),
            idle_at_stop: Duration::from_millis(500),
            max_age: Duration::from_mins(10),
        }
    }
}

/// Who is at the other end; in the extensions of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    /// Whether it showed a certificate from the client CA.
    pub verified: bool,
    /// The common name in that certificate.
    pub name: Option<Arc<str>>,
}

/// How near the end of the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not near.
    Open,
    /// Still accepting, but callers are sent away after each response.
    Closing,
    /// No longer accepting.
    Stopping,
}

/// What all connections of a listener share.
pub(super) struct Serve {
    pub(super) router: Router,
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) metrics: Metrics,
    pub(super) http: auto::Builder<TokioExecutor>,
}

impl Serve {
    pub(super) fn new(router: Router, settings: ConnectionSettings, metrics: Metrics) -> Self {
        Self { router, settings: Arc::new(settings), metrics, http: protocol() }
    }

    /// Serves the stream until it ends. `serial` numbers the connections of a listener and spreads their ages.
    pub(super) async fn stream<S>(&self, stream: S, peer: Peer, serial: u32, mut phase: watch::Receiver<Phase>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new(spread(self.settings.max_age, serial));
        let mut watchdog = Watchdog::new(Arc::clone(&activity), Arc::clone(&self.settings));
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
        let service = service_fn(|request| self.respond(request, &peer, &activity));
        let mut connection = pin!(self.http.serve_connection(io, service));
        loop {
            // As set at this moment: a phase that began before this connection counts as well.
            match *phase.borrow_and_update() {
                Phase::Open => {}
                Phase::Closing => activity.close_soon(),
                Phase::Stopping => {
                    activity.close_soon();
                    watchdog.stop();
                }
            }
            let verdict = tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(peer = %peer.addr, error = %ErrorChain(&*error), "connection failed");
                    }
                    return;
                }
                verdict = poll_fn(|cx| watchdog.poll(cx)) => verdict,
                Ok(()) = phase.changed() => continue,
            };
            match verdict {
                Verdict::Close => connection.as_mut().graceful_shutdown(),
                Verdict::Drop => {
                    debug!(peer = %peer.addr, "connection dropped: request head or farewell took too long");
                    return;
                }
            }
        }
    }

    fn respond(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        activity: &Arc<Activity>,
    ) -> impl Future<Output = Result<Response<Answer>, std::convert::Infallible>> + Send + use<> {
        let busy = activity.begin();
        let activity = Arc::clone(activity);
        let metrics = self.metrics.clone();
        let mut router = self.router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        let http1 = request.version() < Version::HTTP_2;
        async move {
            let answer = async move {
                match Service::call(&mut router, request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            };
            let mut response = panics::guard(answer, &metrics).await;
            if http1 && activity.is_closing() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answer { body, _busy: busy }))
        }
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // Off, because it ends idle connections too; the watchdog does what it is for.
        .header_read_timeout(None)
        // What a head may be, and what a connection may hold in memory before anyone reads.
        .max_buf_size(64 << 10);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        // Finds peers that vanished; a live one answers pings even when idle.
        .keep_alive_interval(Duration::from_mins(1))
        .keep_alive_timeout(Duration::from_secs(20));
    http
}

/// Within a tenth of `age`, evenly: multiples of the golden ratio never bunch up, and need no random numbers.
fn spread(age: Duration, serial: u32) -> Duration {
    let fraction = f64::from(serial.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
    age.mul_f64(0.9 + 0.2 * fraction)
}

pin_project_lite::pin_project! {
    /// A response's body; the request counts as under way until it is gone.
    struct Answer {
        #[pin]
        body: Body,
        _busy: Busy,
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
