//! Effects of one address on the connections of another: silent connections, slow readers and slow writers, at the
//! limit and above it.
//!
//! The API server is 127.0.0.1 here, and the other peer is 127.0.0.2.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::server::activity::ConnectionSettings;
use floe_secrets_webhook::server::cert_store::{CertStore, ClientAuth};
use floe_secrets_webhook::server::limits::{BodyLimits, BodySettings};
use floe_secrets_webhook::server::listener::ListenerSettings;
use floe_secrets_webhook::server::metrics::{
    Port, PortLabels, ServerMetrics, ShedLabels, ShedReason,
};
use testbed::sockets::{Ca, connect, read_response, serve, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Barrier, Notify};
use tokio::time::timeout;

const MIB: usize = 1 << 20;
const OTHER_PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Connection from 127.0.0.2 with the smallest receive buffer of the system.
async fn connect_other_peer(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind((OTHER_PEER, 0).into())?;
    socket.connect(server).await
}

fn shed(metrics: &ServerMetrics, reason: ShedReason) -> u64 {
    metrics.shed.get_or_create(&ShedLabels { reason }).get()
}

fn open(metrics: &ServerMetrics) -> i64 {
    metrics
        .connections
        .get_or_create(&PortLabels {
            port: Port::Admission,
        })
        .get()
}

/// `/` responds; `/held` is counted and responds after `release`; `/large` responds with 4 MiB within the budget.
fn router(limits: &BodyLimits, release: &Arc<Notify>, held: &Arc<AtomicUsize>) -> Router {
    let (large, small) = (limits.clone(), limits.clone());
    let (release, held) = (Arc::clone(release), Arc::clone(held));
    let read = async move |request: Request| -> Response {
        match small.read(request).await {
            Ok(request) => request.body().len().to_string().into_response(),
            Err(shed) => shed.into_response(),
        }
    };
    let wait = async move || {
        held.fetch_add(1, Ordering::SeqCst);
        release.notified().await;
        "held"
    };
    let answer_large = async move || match large.hold_response(vec![b'x'; 4 * MIB]) {
        Ok(bytes) => Response::new(Body::from(bytes)),
        Err(shed) => shed.into_response(),
    };
    Router::new()
        .route("/", get(async || "ok"))
        .route("/", post(read))
        .route("/held", get(wait))
        .route("/large", get(answer_large))
}

struct Fixture {
    addr: SocketAddr,
    metrics: ServerMetrics,
    release: Arc<Notify>,
    held: Arc<AtomicUsize>,
}

impl Fixture {
    async fn new(listener: ListenerSettings, bodies: BodySettings) -> Self {
        let metrics = ServerMetrics::default();
        let (release, held) = (Arc::default(), Arc::default());
        let limits = BodyLimits::new(bodies, metrics.clone());
        let server = serve(router(&limits, &release, &held), listener, &metrics, None).await;
        Self {
            addr: server.addr,
            metrics,
            release,
            held,
        }
    }

    async fn get(&self, stream: &mut TcpStream, path: &str) -> u16 {
        let sent_request = timeout(
            testbed::sockets::WAIT_TIMEOUT,
            testbed::sockets::get(stream, path),
        )
        .await
        .expect("a response");
        sent_request.expect("the connection was closed").status
    }

    /// Opens a connection from 127.0.0.1, and reads its first response.
    async fn served(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        assert_eq!(self.get(&mut stream, "/").await, 200);
        stream
    }
}

async fn send(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Asserts that the server has closed the connection without sending anything.
async fn assert_ended(stream: &mut TcpStream) {
    let mut received = Vec::new();
    timeout(
        testbed::sockets::WAIT_TIMEOUT,
        stream.read_to_end(&mut received),
    )
    .await
    .expect("the connection stays open")
    .ok();
    assert!(received.is_empty(), "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_one_address_block_no_other() {
    let listener = ListenerSettings {
        max_connections: 64,
        per_peer: 40,
        ..Default::default()
    };
    let fixture = Fixture::new(listener, BodySettings::default()).await;
    let mut idle_before = fixture.served().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, addr) = (Arc::clone(&stop), fixture.addr);
    let flood = tokio::spawn(async move {
        let mut silent = std::collections::VecDeque::new();
        while !stopped.load(Ordering::SeqCst) {
            silent.push_back(connect_other_peer(addr).await.unwrap());
            if silent.len() > 200 {
                silent.pop_front();
            }
        }
        silent
    });
    wait_until("the other peer is above its share", async || {
        shed(&fixture.metrics, ShedReason::Evicted) > 0
    })
    .await;
    for _ in 0..100 {
        fixture.served().await;
        assert_eq!(fixture.get(&mut idle_before, "/").await, 200);
    }
    stop.store(true, Ordering::SeqCst);
    let silent = flood.await.unwrap();
    assert_eq!(
        shed(&fixture.metrics, ShedReason::Connections),
        0,
        "there was always an idle connection to close"
    );
    wait_until("the other peer has only its share", async || {
        open(&fixture.metrics) <= 41
    })
    .await;
    drop(silent);
}

#[tokio::test]
async fn oldest_idle_connection_is_closed_at_limit_and_busy_ones_never() {
    let listener = ListenerSettings {
        max_connections: 3,
        per_peer: 3,
        ..Default::default()
    };
    let fixture = Fixture::new(listener, BodySettings::default()).await;
    let mut busy = TcpStream::connect(fixture.addr).await.unwrap();
    send(&mut busy, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wait_until("in flight", async || {
        fixture.held.load(Ordering::SeqCst) == 1
    })
    .await;
    let mut idle = fixture.served().await;
    let mut unused = connect_other_peer(fixture.addr).await.unwrap();
    wait_until("three", async || open(&fixture.metrics) == 3).await;

    let mut second = fixture.served().await;
    assert_ended(&mut unused).await;
    let _third = fixture.served().await;
    assert_ended(&mut idle).await;
    assert_eq!(
        (
            shed(&fixture.metrics, ShedReason::Evicted),
            shed(&fixture.metrics, ShedReason::Connections)
        ),
        (2, 0)
    );

    send(&mut second, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wait_until("two in flight", async || {
        fixture.held.load(Ordering::SeqCst) == 2
    })
    .await;
    let mut fourth = fixture.served().await;
    send(&mut fourth, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wait_until("three in flight", async || {
        fixture.held.load(Ordering::SeqCst) == 3
    })
    .await;
    assert_ended(&mut TcpStream::connect(fixture.addr).await.unwrap()).await;
    assert_eq!(
        (
            shed(&fixture.metrics, ShedReason::Evicted),
            shed(&fixture.metrics, ShedReason::Connections)
        ),
        (3, 1)
    );
    fixture.release.notify_waiters();
    for stream in [&mut busy, &mut second, &mut fourth] {
        assert_eq!(read_response(stream).await.unwrap().body, "held");
    }
}

#[tokio::test]
async fn busy_connections_of_one_address_stop_at_its_share() {
    let listener = ListenerSettings {
        max_connections: 8,
        per_peer: 5,
        ..Default::default()
    };
    let fixture = Fixture::new(listener, BodySettings::default()).await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut reader = connect_other_peer(fixture.addr).await.unwrap();
        send(&mut reader, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
        readers.push(reader);
    }
    wait_until("all in flight", async || {
        fixture.held.load(Ordering::SeqCst) == 5
    })
    .await;
    for refused in 1..=10 {
        assert_ended(&mut connect_other_peer(fixture.addr).await.unwrap()).await;
        assert_eq!(shed(&fixture.metrics, ShedReason::Connections), refused);
    }
    let (mut first, mut second, mut third) = (
        fixture.served().await,
        fixture.served().await,
        fixture.served().await,
    );
    for stream in [&mut first, &mut second, &mut third] {
        assert_eq!(fixture.get(stream, "/").await, 200);
    }
    assert_eq!(shed(&fixture.metrics, ShedReason::Evicted), 0);
    fixture.release.notify_waiters();
    for reader in &mut readers {
        assert_eq!(read_response(reader).await.unwrap().body, "held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_responses_hold_budget_until_closed_but_no_ordinary_review() {
    let connection = ConnectionSettings {
        response_timeout: Duration::from_secs(2),
        ..Default::default()
    };
    let listener = ListenerSettings {
        connection,
        ..Default::default()
    };
    let fixture = Fixture::new(listener, BodySettings::default()).await;
    let mut readers = Vec::new();
    // 24 MiB are for large responses, except for what the system buffers.
    wait_until("the budget of large answers is used up", async || {
        let mut reader = connect_other_peer(fixture.addr).await.unwrap();
        send(&mut reader, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        readers.push(reader);
        shed(&fixture.metrics, ShedReason::BytesInFlight) > 0
    })
    .await;
    let mut honest = TcpStream::connect(fixture.addr).await.unwrap();
    let body = "x".repeat(200 << 10);
    send(
        &mut honest,
        &format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
    .await;
    assert_eq!(read_response(&mut honest).await.unwrap().status, 200);

    wait_until("cut", async || {
        shed(&fixture.metrics, ShedReason::WriteDeadline) >= 6
    })
    .await;
    wait_until("nothing held", async || {
        fixture.metrics.body_bytes_in_flight.get() == 0
    })
    .await;
    // The system does not continue to send unread data: the connection is reset.
    let mut rest = Vec::new();
    let outcome = timeout(
        testbed::sockets::WAIT_TIMEOUT,
        readers[0].read_to_end(&mut rest),
    )
    .await
    .unwrap();
    assert_eq!(
        outcome.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert!(rest.len() < 4 * MIB, "{} bytes", rest.len());
    fixture.served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_large_bodies_leave_reserve_to_ordinary_reviews() {
    // Time is not tested here, and a busy machine may take long.
    let bodies = BodySettings {
        deadline: Duration::from_hours(1),
        ..Default::default()
    };
    let fixture = Fixture::new(ListenerSettings::default(), bodies).await;
    let mut writers = Vec::new();
    for _ in 0..3 {
        let mut writer = connect_other_peer(fixture.addr).await.unwrap();
        // Everything except the last byte.
        send(
            &mut writer,
            &format!(
                "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
                8 * MIB
            ),
        )
        .await;
        writer.write_all(&vec![b'x'; 8 * MIB - 1]).await.unwrap();
        writers.push(writer);
    }
    let held = i64::try_from(24 * MIB).unwrap();
    wait_until("24 MiB are held", async || {
        fixture.metrics.body_bytes_in_flight.get() == held
    })
    .await;
    let post = async |framing: &str, body: &str| {
        let mut honest = TcpStream::connect(fixture.addr).await.unwrap();
        send(
            &mut honest,
            &format!("POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{body}"),
        )
        .await;
        read_response(&mut honest).await.unwrap().status
    };
    let most = 256 << 10;
    assert_eq!(
        post(&format!("content-length: {most}"), &"x".repeat(most)).await,
        200
    );
    assert_eq!(
        post(
            &format!("content-length: {}", most + 1),
            &"x".repeat(most + 1)
        )
        .await,
        503
    );
    assert_eq!(
        post("transfer-encoding: chunked", "1\r\nx\r\n0\r\n\r\n").await,
        503
    );
    for writer in &mut writers {
        writer.write_all(b"x").await.unwrap();
        assert_eq!(
            read_response(writer).await.unwrap().body,
            (8 * MIB).to_string()
        );
    }
    assert_eq!(
        post("transfer-encoding: chunked", "1\r\nx\r\n0\r\n\r\n").await,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_connections_of_one_address_are_served_concurrently() {
    let metrics = ServerMetrics::default();
    // No request is answered before all of them are in flight.
    let all = Arc::new(Barrier::new(400));
    let meet = async move || {
        all.wait().await;
        "ok"
    };
    let router = Router::new().route("/", get(meet));
    let server = serve(router, ListenerSettings::default(), &metrics, None).await;
    let clients: Vec<_> = (0..400)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(server.addr).await.unwrap();
                timeout(
                    testbed::sockets::WAIT_TIMEOUT,
                    testbed::sockets::get(&mut stream, "/"),
                )
                .await
                .expect("a response")
                .unwrap()
                .status
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    let counted =
        [ShedReason::Connections, ShedReason::Evicted].map(|reason| shed(&metrics, reason));
    assert_eq!(counted, [0, 0]);
}

#[tokio::test]
async fn authenticated_connections_count_against_no_share() {
    let metrics = ServerMetrics::default();
    let ca = Ca::new("ca");
    let (pair, client) = (ca.leaf("server"), ca.leaf("client"));
    let store = CertStore::new(ClientAuth::Required, Clock::system(), metrics.clone());
    store
        .load(pair.cert.as_bytes(), pair.key.as_bytes())
        .unwrap();
    store.load_client_ca(ca.pem().as_bytes()).unwrap();
    let listener = ListenerSettings {
        per_peer: 1,
        ..Default::default()
    };
    let router = Router::new().route("/", get(async || "ok"));
    let server = serve(router, listener, &metrics, Some(store)).await;
    let mut verified = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(server.addr, &ca, Some(&client), "http/1.1")
            .await
            .unwrap();
        assert_eq!(
            testbed::sockets::get(&mut stream, "/")
                .await
                .unwrap()
                .status,
            200
        );
        verified.push(stream);
    }
    let mut unverified = TcpStream::connect(server.addr).await.unwrap();
    wait_until("all open", async || open(&metrics) == 4).await;
    let _newcomer = TcpStream::connect(server.addr).await.unwrap();
    assert_ended(&mut unverified).await;
    for stream in &mut verified {
        assert_eq!(
            testbed::sockets::get(stream, "/").await.unwrap().status,
            200
        );
    }
    assert_eq!(shed(&metrics, ShedReason::Evicted), 1);
}
