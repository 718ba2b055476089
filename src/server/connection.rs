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

use super::activity::{Activity, Busy, ConnectionSettings, Verdict, Watchdog, Watched};
use super::panics;
use crate::metrics::Metrics;
use crate::redact::ErrorChain;

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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::{Instant, sleep};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: webhook.test\r\n\r\n";

    /// A served connection on paused time: waiting costs nothing and the clock tells exactly when something ended.
    fn serve(settings: ConnectionSettings) -> (DuplexStream, watch::Sender<Phase>) {
        let router = Router::new().route("/", get(async || "ok")).route(
            "/slow",
            get(async || {
                sleep(Duration::from_mins(20)).await;
                "ok"
            }),
        );
        let (_, metrics) = crate::metrics::registry();
        let serve = Serve::new(router, settings, metrics);
        let (client, server) = tokio::io::duplex(64 << 10);
        let (phase, phases) = watch::channel(Phase::Open);
        let peer = Peer { addr: ([127, 0, 0, 1], 1).into(), verified: false, name: None };
        tokio::spawn(async move { serve.stream(server, peer, 0, phases).await });
        (client, phase)
    }

    async fn answer(client: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nok") {
            assert!(client.read_buf(&mut text).await.unwrap() > 0, "the connection ended: {text:?}");
        }
        String::from_utf8(text).unwrap()
    }

    async fn ask(client: &mut DuplexStream) -> String {
        client.write_all(REQUEST).await.unwrap();
        answer(client).await
    }

    /// Seconds until the server ends the connection.
    async fn ends_after(client: &mut DuplexStream) -> u64 {
        let began = Instant::now();
        assert_eq!(client.read(&mut [0; 64]).await.unwrap_or(0), 0, "it said something more");
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_outlives_the_header_timeout_and_ends_at_the_idle_limit() {
        let (mut client, _phase) = serve(ConnectionSettings::default());
        for _ in 0..3 {
            assert!(!ask(&mut client).await.contains("connection: close"));
            sleep(Duration::from_secs(179)).await;
        }
        ask(&mut client).await;
        assert_eq!(ends_after(&mut client).await, 180);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_opened_ahead_and_not_used_yet_is_idle() {
        // Go's client dials while it waits and keeps the second connection for later.
        let (mut client, _phase) = serve(ConnectionSettings::default());
        sleep(Duration::from_secs(179)).await;
        ask(&mut client).await;
        let (mut client, _phase) = serve(ConnectionSettings::default());
        assert_eq!(ends_after(&mut client).await, 180);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_however_it_trickles() {
        for idle in [0, 100] {
            let (client, _phase) = serve(ConnectionSettings::default());
            let (mut read, mut write) = tokio::io::split(client);
            write.write_all(REQUEST).await.unwrap();
            let mut first = vec![0; 2048];
            assert!(read.read(&mut first).await.unwrap() > 0);
            sleep(Duration::from_secs(idle)).await;
            let began = Instant::now();
            let trickle = tokio::spawn(async move {
                for byte in b"GET / HTTP/1.1\r\nx-loris: ".iter().chain(std::iter::repeat_n(&b'a', 1000)) {
                    if write.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(900)).await;
                }
            });
            assert_eq!(read.read(&mut first).await.unwrap_or(0), 0);
            assert_eq!(began.elapsed().as_secs(), 10, "after {idle} s idle");
            trickle.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_past_its_age_ends_with_its_next_response_and_not_before() {
        let settings = ConnectionSettings { max_age: Duration::from_mins(1), ..Default::default() };
        let (mut client, _phase) = serve(settings);
        assert!(!ask(&mut client).await.contains("connection: close"));
        sleep(Duration::from_mins(2)).await;
        assert!(ask(&mut client).await.contains("connection: close"));
        assert_eq!(ends_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_outlives_every_limit() {
        let (mut client, _phase) = serve(ConnectionSettings::default());
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: webhook.test\r\n\r\n").await.unwrap();
        let began = Instant::now();
        assert!(answer(&mut client).await.contains("connection: close"));
        assert_eq!(began.elapsed().as_secs(), 20 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_is_said_on_a_response_and_stopping_ends_what_is_idle() {
        let (mut client, phase) = serve(ConnectionSettings::default());
        ask(&mut client).await;
        phase.send_replace(Phase::Closing);
        sleep(Duration::from_mins(1)).await;
        assert!(ask(&mut client).await.contains("connection: close"));
        assert_eq!(ends_after(&mut client).await, 0);

        let (mut client, phase) = serve(ConnectionSettings::default());
        ask(&mut client).await;
        sleep(Duration::from_secs(5)).await;
        phase.send_replace(Phase::Stopping);
        assert_eq!(ends_after(&mut client).await, 0);

        let (mut client, phase) = serve(ConnectionSettings::default());
        phase.send_replace(Phase::Stopping);
        assert!(ask(&mut client).await.contains("connection: close"), "one just opened gets its answer");
    }

    type Streams = hyper::client::conn::http2::SendRequest<Body>;

    async fn http2(client: DuplexStream) -> (Streams, tokio::task::JoinHandle<hyper::Result<()>>) {
        let (streams, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(client))
            .await
            .unwrap();
        (streams, tokio::spawn(connection))
    }

    async fn stream(streams: &mut Streams, path: &str) -> Bytes {
        let request = Request::get(format!("http://webhook.test{path}")).body(Body::empty()).unwrap();
        streams.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_told_to_go_away_and_its_streams_finish() {
        let settings = ConnectionSettings { max_age: Duration::from_mins(5), ..Default::default() };
        let (client, _phase) = serve(settings);
        let (mut streams, ended) = http2(client).await;
        assert_eq!(stream(&mut streams, "/").await, "ok");
        let began = Instant::now();
        assert_eq!(stream(&mut streams, "/slow").await, "ok");
        ended.await.unwrap().unwrap();
        assert_eq!(began.elapsed().as_secs(), 20 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_http2_connection_has_no_header_timeout_and_ends_gracefully() {
        let (client, _phase) = serve(ConnectionSettings::default());
        let began = Instant::now();
        let (mut streams, ended) = http2(client).await;
        sleep(Duration::from_secs(170)).await;
        assert_eq!(stream(&mut streams, "/").await, "ok");
        ended.await.unwrap().unwrap();
        assert_eq!(began.elapsed().as_secs(), 170 + 180);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_speaks_http2_and_then_nothing_is_dropped() {
        let (mut client, _phase) = serve(ConnectionSettings::default());
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let began = Instant::now();
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said).await;
        // Pings go unanswered after a minute and 20 s; without them the idle limit would end it.
        assert_eq!(began.elapsed().as_secs(), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_that_begins_while_we_close_gets_its_first_request_through() {
        let (client, phase) = serve(ConnectionSettings::default());
        phase.send_replace(Phase::Closing);
        let (mut streams, ended) = http2(client).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(stream(&mut streams, "/").await, "ok");
        ended.await.unwrap().unwrap();
    }

    #[test]
    fn ages_spread_evenly_around_the_setting() {
        let mut ages: Vec<_> = (0..1000).map(|n| spread(Duration::from_secs(1000), n).as_secs()).collect();
        ages.sort_unstable();
        assert!(ages[0] >= 900 && ages[999] <= 1100);
        assert!((995..=1005).contains(&ages[500]), "{}", ages[500]);
    }
}
