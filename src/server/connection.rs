//! Connections: HTTP/1.1 over any stream, from the first byte to an end that loses no request.

mod state;
mod tracked_body;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::Service;
use tracing::debug;

use super::activity::stream::{MonitoredStream, StreamReset};
use super::activity::watchdog::{Verdict, Watchdog};
use super::activity::{ConnectionActivity, ConnectionSettings};
use super::panics;
use crate::server::metrics::{ServerMetrics, ShedLabels, ShedReason};
use crate::telemetry::error_chain::ErrorChain;
pub use state::ConnectionState;
use tracked_body::TrackedBody;

/// Limit of a request's head, and of the bytes that hyper buffers for a connection. The API server's heads have less
/// than 2 kB.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Peer of a connection; in the extensions of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    pub addr: SocketAddr,
    /// Whether it has presented a certificate from the client CA.
    pub verified: bool,
    /// Common name in that certificate.
    pub name: Option<Arc<str>>,
    /// Value of the handler for this connection.
    pub state: ConnectionState,
}

/// Phase of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No shutdown has begun.
    Open,
    /// Still accepting, but each response closes its connection.
    Closing,
    /// No longer accepting.
    Stopping,
}

/// Server of all connections of a listener.
pub(super) struct ConnectionServer {
    pub(super) router: Router,
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) metrics: ServerMetrics,
    http: http1::Builder,
}

impl ConnectionServer {
    pub(super) fn new(
        router: Router,
        settings: ConnectionSettings,
        metrics: ServerMetrics,
    ) -> Self {
        Self {
            router,
            settings: Arc::new(settings),
            metrics,
            http: http1_builder(),
        }
    }

    /// Activity of a new connection. `serial` numbers the connections of a listener, and spreads their ages.
    pub(super) fn activity(&self, serial: u32) -> Arc<ConnectionActivity> {
        ConnectionActivity::new(spread(self.settings.max_age, serial))
    }

    /// Serves the stream until it ends.
    pub(super) async fn serve<S>(
        &self,
        stream: S,
        peer: Peer,
        activity: Arc<ConnectionActivity>,
        mut phase: watch::Receiver<Phase>,
    ) where
        S: AsyncRead + AsyncWrite + StreamReset + Unpin + Send + 'static,
    {
        let mut watchdog = Watchdog::new(Arc::clone(&activity), Arc::clone(&self.settings));
        let io = TokioIo::new(MonitoredStream::new(stream, Arc::clone(&activity)));
        let service = service_fn(|request| self.respond(request, &peer, &activity));
        let mut connection = self.http.serve_connection(io, service);
        loop {
            // The current phase, which may have begun before this connection.
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
                        .get_or_create(&ShedLabels {
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
        let in_flight = activity.begin();
        let activity = Arc::clone(activity);
        let metrics = self.metrics.clone();
        let mut router = self.router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        async move {
            let responded = async move {
                match Service::call(&mut router, request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            };
            let mut response = panics::guard(responded, &metrics).await;
            if activity.is_closing() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| TrackedBody::new(body, in_flight)))
        }
    }
}

fn http1_builder() -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's timer of heads is off, because it ends idle connections too; the watchdog replaces it.
    http.header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    http
}

/// Spreads ages evenly within a tenth around `age`: multiples of the golden ratio never cluster, and need no random
/// numbers.
fn spread(age: Duration, serial: u32) -> Duration {
    let fraction = f64::from(serial.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
    age.mul_f64(0.9 + 0.2 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::{BodyLimits, BodySettings};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::{Instant, sleep};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: webhook.test\r\n\r\n";

    /// More bytes than the stream buffers.
    const LARGE: usize = 1 << 20;

    impl StreamReset for DuplexStream {
        fn reset(&self) {}
    }

    struct Served {
        activity: Arc<ConnectionActivity>,
        metrics: ServerMetrics,
        ended: tokio::task::JoinHandle<()>,
    }

    impl Served {
        fn write_timeouts(&self) -> u64 {
            self.metrics
                .shed
                .get_or_create(&ShedLabels {
                    reason: ShedReason::WriteDeadline,
                })
                .get()
        }
    }

    /// Serves a connection on paused time: waiting takes no time, and the clock is exact.
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
                    Response::new(Body::from(limits.hold_response(vec![b'x'; LARGE]).unwrap()))
                }),
            );
        let connections = ConnectionServer::new(router, settings, metrics.clone());
        let (client, server) = tokio::io::duplex(64 << 10);
        let (phase, phases) = watch::channel(Phase::Open);
        let peer = Peer {
            addr: ([127, 0, 0, 1], 1).into(),
            verified: false,
            name: None,
            state: ConnectionState::default(),
        };
        let activity = connections.activity(0);
        let monitored = Arc::clone(&activity);
        let ended =
            tokio::spawn(async move { connections.serve(server, peer, monitored, phases).await });
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

    async fn read_response(client: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nok") {
            assert!(
                client.read_buf(&mut text).await.unwrap() > 0,
                "the connection ended: {text:?}"
            );
        }
        String::from_utf8(text).unwrap()
    }

    async fn request(client: &mut DuplexStream) -> String {
        client.write_all(REQUEST).await.unwrap();
        read_response(client).await
    }

    /// Seconds until the server ends the connection.
    async fn ends_after(client: &mut DuplexStream) -> u64 {
        let began = Instant::now();
        assert_eq!(
            client.read(&mut [0; 64]).await.unwrap_or(0),
            0,
            "it sent more bytes"
        );
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_ends_at_the_idle_timeout_and_not_at_the_header_timeout() {
        let (mut client, _phase) = serve(ConnectionSettings::default());
        for _ in 0..3 {
            assert!(!request(&mut client).await.contains("connection: close"));
            sleep(Duration::from_secs(179)).await;
        }
        request(&mut client).await;
        assert_eq!(ends_after(&mut client).await, 180);
    }

    #[tokio::test(start_paused = true)]
    async fn unused_connection_ends_at_the_unused_timeout() {
        // Go's client opens a second connection while it waits, and keeps it for later.
        let (mut client, _phase) = serve(ConnectionSettings::default());
        sleep(Duration::from_secs(29)).await;
        request(&mut client).await;
        assert_eq!(ends_after(&mut client).await, 180);
        let (mut client, _phase) = serve(ConnectionSettings::default());
        assert_eq!(ends_after(&mut client).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn header_timeout_starts_at_the_first_byte_of_a_slow_head() {
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
    async fn connection_beyond_its_age_ends_with_its_next_response() {
        let settings = ConnectionSettings {
            max_age: Duration::from_mins(1),
            ..Default::default()
        };
        let (mut client, _phase) = serve(settings);
        assert!(!request(&mut client).await.contains("connection: close"));
        sleep(Duration::from_mins(2)).await;
        assert!(request(&mut client).await.contains("connection: close"));
        assert_eq!(ends_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn request_in_flight_ends_only_at_the_response_timeout() {
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
        assert!(
            read_response(&mut client)
                .await
                .contains("connection: close")
        );
        assert_eq!(began.elapsed().as_secs(), 39);
        served.ended.await.unwrap();
        let cut = ShedLabels {
            reason: ShedReason::WriteDeadline,
        };
        assert_eq!(served.metrics.shed.get_or_create(&cut).get(), 0);

        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        client
            .write_all(b"GET /too-late HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(ends_after(&mut client).await, 40);
        assert_eq!(served.write_timeouts(), 1);
    }

    /// Reads `bytes` each second until the server ends the connection; returns the number of bytes that it got.
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
    async fn response_that_is_not_read_in_time_is_discarded_with_its_connection() {
        for trickles in [false, true] {
            let (mut client, _phase, mut served) = serve_with(ConnectionSettings::default());
            request(&mut client).await;
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
                (
                    served.metrics.body_bytes_in_flight.get(),
                    served.write_timeouts()
                ),
                (large, 0)
            );
            (&mut served.ended).await.unwrap();
            assert_eq!(began.elapsed().as_secs(), 40);
            assert_eq!(
                (
                    served.metrics.body_bytes_in_flight.get(),
                    served.write_timeouts()
                ),
                (0, 1)
            );
            reader.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reader_within_the_response_timeout_keeps_its_connection() {
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
        assert_eq!(served.write_timeouts(), 0);
        request(&mut client).await;
    }

    #[tokio::test(start_paused = true)]
    async fn evicted_connection_ends_at_once_unless_a_request_is_in_flight() {
        for head in [&b""[..], b"GET / HT"] {
            let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
            client.write_all(head).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            served.activity.evict();
            assert_eq!(ends_after(&mut client).await, 0, "{head:?}");
        }
        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        request(&mut client).await;
        served.activity.evict();
        assert_eq!(ends_after(&mut client).await, 0);

        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        request(&mut client).await;
        client
            .write_all(b"GET /late HTTP/1.1\r\nHost: webhook.test\r\n\r\n")
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        served.activity.evict();
        assert!(
            read_response(&mut client)
                .await
                .contains("connection: close")
        );
        assert_eq!(ends_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_arrives_during_its_eviction_gets_its_response() {
        let (mut client, _phase, served) = serve_with(ConnectionSettings::default());
        request(&mut client).await;
        // The server's task does not run in between: the eviction precedes the request.
        client.write_all(REQUEST).await.unwrap();
        served.activity.evict();
        assert!(
            read_response(&mut client)
                .await
                .contains("connection: close")
        );
        served.ended.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn head_of_more_than_16_kib_is_rejected() {
        for (length, status) in [(MAX_HEAD_BYTES, "200"), (MAX_HEAD_BYTES + 1, "431")] {
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
    async fn http2_is_rejected() {
        let (mut client, _phase) = serve(ConnectionSettings::default());
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let began = Instant::now();
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received).await;
        assert!(
            received.is_empty() || received.starts_with(b"HTTP/1.1 400"),
            "{received:?}"
        );
        assert_eq!(began.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_phase_marks_responses_and_stopping_phase_ends_idle_connections() {
        let (mut client, phase) = serve(ConnectionSettings::default());
        request(&mut client).await;
        phase.send_replace(Phase::Closing);
        sleep(Duration::from_mins(1)).await;
        assert!(request(&mut client).await.contains("connection: close"));
        assert_eq!(ends_after(&mut client).await, 0);

        let (mut client, phase) = serve(ConnectionSettings::default());
        request(&mut client).await;
        sleep(Duration::from_secs(5)).await;
        phase.send_replace(Phase::Stopping);
        assert_eq!(ends_after(&mut client).await, 0);

        let (mut client, phase) = serve(ConnectionSettings::default());
        phase.send_replace(Phase::Stopping);
        assert!(
            request(&mut client).await.contains("connection: close"),
            "a connection that was just opened gets its response"
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
