//! One connection: HTTP/1.1 over any stream, from the first byte to an end that loses no request.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::Service;
use tracing::debug;

use super::activity::{
    ConnectionActivity, ConnectionSettings, InFlightGuard, MonitoredStream, Reset, Verdict,
    Watchdog,
};
use super::panics;
use crate::server::metrics::{ServerMetrics, Shed, ShedReason};
use crate::telemetry::error_chain::ErrorChain;

/// What a request's head may be, and what a connection may hold in memory before anyone reads. The API server's heads
/// have less than 2 kB.
const HEAD_BYTES: usize = 16 << 10;

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
    pub(super) metrics: ServerMetrics,
    http: http1::Builder,
}

impl Serve {
    pub(super) fn new(
        router: Router,
        settings: ConnectionSettings,
        metrics: ServerMetrics,
    ) -> Self {
        Self {
            router,
            settings: Arc::new(settings),
            metrics,
            http: protocol(),
        }
    }

    /// What watches a connection from its first moment. `serial` numbers the connections of a listener and spreads
    /// their ages.
    pub(super) fn activity(&self, serial: u32) -> Arc<ConnectionActivity> {
        ConnectionActivity::new(spread(self.settings.max_age, serial))
    }

    /// Serves the stream until it ends.
    pub(super) async fn stream<S>(
        &self,
        stream: S,
        peer: Peer,
        activity: Arc<ConnectionActivity>,
        mut phase: watch::Receiver<Phase>,
    ) where
        S: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    {
        let mut watchdog = Watchdog::new(Arc::clone(&activity), Arc::clone(&self.settings));
        let io = TokioIo::new(MonitoredStream::new(stream, Arc::clone(&activity)));
        let service = service_fn(|request| self.respond(request, &peer, &activity));
        let mut connection = self.http.serve_connection(io, service);
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
                ended = &mut connection => {
                    if let Err(error) = ended {
                        debug!(peer = %peer.addr, error = %ErrorChain(&error), "connection failed");
                    }
                    return;
                }
                () = activity.evicted() => {
                    debug!(peer = %peer.addr, "connection evicted");
                    watchdog.evict();
                    continue;
                }
                verdict = poll_fn(|cx| watchdog.poll(cx)) => verdict,
                Ok(()) = phase.changed() => continue,
            };
            match verdict {
                Verdict::Close => Pin::new(&mut connection).graceful_shutdown(),
                Verdict::Drop => {
                    debug!(peer = %peer.addr, "connection closed: request head or linger timeout");
                    return;
                }
                Verdict::Cut => {
                    self.metrics
                        .shed
                        .get_or_create(&Shed {
                            reason: ShedReason::WriteDeadline,
                        })
                        .inc();
                    debug!(peer = %peer.addr, "connection closed: the response was not read in time");
                    return connection.into_parts().io.into_inner().reset();
                }
            }
        }
    }

    fn respond(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        activity: &Arc<ConnectionActivity>,
    ) -> impl Future<Output = Result<Response<TrackedBody>, std::convert::Infallible>> + Send + use<>
    {
        let busy = activity.begin();
        let activity = Arc::clone(activity);
        let metrics = self.metrics.clone();
        let mut router = self.router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        async move {
            let answer = async move {
                match Service::call(&mut router, request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            };
            let mut response = panics::guard(answer, &metrics).await;
            if activity.is_closing() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| TrackedBody { body, _busy: busy }))
        }
    }
}

fn protocol() -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's timer of heads is off, because it ends idle connections too; the watchdog does what it is for.
    http.header_read_timeout(None).max_buf_size(HEAD_BYTES);
    http
}

/// Within a tenth of `age`, evenly: multiples of the golden ratio never bunch up, and need no random numbers.
fn spread(age: Duration, serial: u32) -> Duration {
    let fraction = f64::from(serial.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
    age.mul_f64(0.9 + 0.2 * fraction)
}

pin_project_lite::pin_project! {
    /// A response's body; its connection notes when it has been handed over.
    struct TrackedBody {
        #[pin]
        body: Body,
        _busy: InFlightGuard,
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
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
    use crate::server::limits::{BodyLimits, BodySettings};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::{Instant, sleep};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: webhook.test\r\n\r\n";

    /// More than the stream holds on its way.
    const LARGE: usize = 1 << 20;

    impl Reset for DuplexStream {
        fn reset(&self) {}
    }

    struct Served {
        activity: Arc<ConnectionActivity>,
        metrics: ServerMetrics,
        ended: tokio::task::JoinHandle<()>,
    }

    impl Served {
        fn cut(&self) -> u64 {
            self.metrics
                .shed
                .get_or_create(&Shed {
                    reason: ShedReason::WriteDeadline,
                })
                .get()
        }
    }

    /// A served connection on paused time: waiting costs nothing and the clock tells exactly when something ended.
    fn serve(settings: ConnectionSettings) -> (DuplexStream, watch::Sender<Phase>) {
        let (client, phase, _) = serve_with(settings);
        (client, phase)
    }

    fn serve_with(settings: ConnectionSettings) -> (DuplexStream, watch::Sender<Phase>, Served) {
        let metrics = ServerMetrics::default();
        let limits = BodyLimits::new(BodySettings::default(), metrics.clone());
        let after = |seconds| async move {
            sleep(Duration::from_secs(seconds)).await;
            "ok"
        };
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/late", get(move || after(39)))
            .route("/too-late", get(move || after(41)))
            .route(
                "/large",
                get(async move || {
                    Response::new(Body::from(limits.answer(vec![b'x'; LARGE]).unwrap()))
                }),
            );
        let serve = Serve::new(router, settings, metrics.clone());
        let (client, server) = tokio::io::duplex(64 << 10);
        let (phase, phases) = watch::channel(Phase::Open);
        let peer = Peer {
            addr: ([127, 0, 0, 1], 1).into(),
            verified: false,
            name: None,
        };
        let activity = serve.activity(0);
        let watched = Arc::clone(&activity);
        let ended = tokio::spawn(async move { serve.stream(server, peer, watched, phases).await });
        (
            client,
            phase,
            Served {
                activity,
                metrics,
                ended,
            },
        )
    }

    async fn answer(client: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nok") {
            assert!(
                client.read_buf(&mut text).await.unwrap() > 0,
                "the connection ended: {text:?}"
            );
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
        assert_eq!(
            client.read(&mut [0; 64]).await.unwrap_or(0),
            0,
            "it said something more"
        );
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
    async fn a_connection_that_was_opened_ahead_has_less_time_than_one_that_was_used() {
        // Go's client dials while it waits and keeps the second connection for later.
        let (mut client, _phase) = serve(ConnectionSettings::default());
        sleep(Duration::from_secs(29)).await;
        ask(&mut client).await;
        assert_eq!(ends_after(&mut client).await, 180);
        let (mut client, _phase) = serve(ConnectionSettings::default());
        assert_eq!(ends_after(&mut client).await, 30);
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
                for byte in b"GET / HTTP/1.1\r\nx-loris: "
                    .iter()
                    .chain(std::iter::repeat_n(&b'a', 1000))
                {
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
        let settings = ConnectionSettings {
            max_age: Duration::from_mins(1),
            ..Default::default()
        };
        let (mut client, _phase) = serve(settings);
        assert!(!ask(&mut client).await.contains("connection: close"));
        sleep(Duration::from_mins(2)).await;
        assert!(ask(&mut client).await.contains("connection: close"));
        assert_eq!(ends_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_outlives_every_limit_but_its_own() {
        let second = Duration::from_secs(1);
        let settings = ConnectionSettings {
            idle_timeout: second,
            unused_timeout: second,
            max_age: second,
            ..Default::default()
        };
        let (mut client, _phase, served) = serve_with(settings);
        client
            .write_all(b"GET /late HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
            .await
            .unwrap();
        let began = Instant::now();
        assert!(answer(&mut client).await.contains("connection: close"));
        assert_eq!(began.elapsed().as_secs(), 39);
        served.ended.await.unwrap();
        let cut = Shed {
            reason: ShedReason::WriteDeadline,
        };
        assert_eq!(served.metrics.shed.get_or_create(&cut).get(), 0);

        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        client
            .write_all(b"GET /too-late HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(ends_after(&mut client).await, 40);
        assert_eq!(served.cut(), 1);
    }

    /// Reads `bytes` at each second until the server ends the connection; how much it got.
    async fn read_slowly(client: &mut DuplexStream, bytes: usize) -> usize {
        let mut total = 0;
        loop {
            sleep(Duration::from_secs(1)).await;
            match client.read(&mut vec![0; bytes]).await {
                Ok(read) if read > 0 => total += read,
                _ => return total,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_in_time_is_thrown_away_with_its_connection() {
        for trickles in [false, true] {
            let (mut client, _phase, mut served) = serve_with(ConnectionSettings::default());
            ask(&mut client).await;
            sleep(Duration::from_secs(100)).await;
            client
                .write_all(b"GET /large HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
                .await
                .unwrap();
            let began = Instant::now();
            let reader = tokio::spawn(async move {
                if trickles {
                    read_slowly(&mut client, 10).await;
                } else {
                    sleep(Duration::from_hours(1)).await;
                }
            });
            sleep(Duration::from_secs(39)).await;
            let large = i64::try_from(LARGE).unwrap();
            assert_eq!(
                (served.metrics.body_bytes_in_flight.get(), served.cut()),
                (large, 0)
            );
            (&mut served.ended).await.unwrap();
            assert_eq!(began.elapsed().as_secs(), 40);
            assert_eq!(
                (served.metrics.body_bytes_in_flight.get(), served.cut()),
                (0, 1)
            );
            reader.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_is_done_in_time_keeps_its_connection() {
        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        for _ in 0..3 {
            client
                .write_all(b"GET /large HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
                .await
                .unwrap();
            let mut body = 0;
            while body < LARGE {
                sleep(Duration::from_secs(1)).await;
                let mut piece = vec![0; 32 << 10];
                let read = client.read(&mut piece).await.unwrap();
                assert!(read > 0, "the connection ended");
                body += piece[..read]
                    .iter()
                    .map(|byte| usize::from(*byte == b'x'))
                    .sum::<usize>();
            }
        }
        assert_eq!(served.cut(), 0);
        ask(&mut client).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_connection_ends_at_once_unless_a_request_is_under_way() {
        for head in [&b""[..], b"GET / HT"] {
            let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
            client.write_all(head).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            served.activity.evict();
            assert_eq!(ends_after(&mut client).await, 0, "{head:?}");
        }
        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        ask(&mut client).await;
        served.activity.evict();
        assert_eq!(ends_after(&mut client).await, 0);

        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        ask(&mut client).await;
        client
            .write_all(b"GET /late HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        served.activity.evict();
        assert!(answer(&mut client).await.contains("connection: close"));
        assert_eq!(ends_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_crosses_its_eviction_is_answered() {
        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        ask(&mut client).await;
        // The server's task has not run in between: the choice fell before the request was seen.
        client.write_all(REQUEST).await.unwrap();
        served.activity.evict();
        assert!(answer(&mut client).await.contains("connection: close"));
        served.ended.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_room_for_16_kib_and_no_more() {
        for (length, status) in [(HEAD_BYTES, "200"), (HEAD_BYTES + 1, "431")] {
            let (mut client, _phase) = serve(ConnectionSettings::default());
            let frame = "GET / HTTP/1.1\r\nx-long: \r\n\r\n".len();
            let head = format!(
                "GET / HTTP/1.1\r\nx-long: {}\r\n\r\n",
                "x".repeat(length - frame)
            );
            client.write_all(head.as_bytes()).await.unwrap();
            let mut text = [0; 12];
            client.read_exact(&mut text).await.unwrap();
            assert_eq!(
                text,
                format!("HTTP/1.1 {status}").as_bytes(),
                "{length} bytes"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_not_spoken() {
        let (mut client, _phase) = serve(ConnectionSettings::default());
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let began = Instant::now();
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said).await;
        assert!(
            said.is_empty() || said.starts_with(b"HTTP/1.1 400"),
            "{said:?}"
        );
        assert_eq!(began.elapsed().as_secs(), 0);
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
        assert!(
            ask(&mut client).await.contains("connection: close"),
            "one just opened gets its answer"
        );
    }

    #[test]
    fn ages_spread_evenly_around_the_setting() {
        let mut ages: Vec<_> = (0..1000)
            .map(|n| spread(Duration::from_secs(1000), n).as_secs())
            .collect();
        ages.sort_unstable();
        assert!(ages[0] >= 900 && ages[999] <= 1100);
        assert!((995..=1005).contains(&ages[500]), "{}", ages[500]);
    }
}
