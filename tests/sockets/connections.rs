//! Connections on real sockets: slow ones, old ones, large bodies, panics, and the drain.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::server::activity::ConnectionSettings;
use floe_secrets_webhook::server::cert_store::{CertStore, ClientAuth};
use floe_secrets_webhook::server::limits::{BodyLimits, BodySettings};
use floe_secrets_webhook::server::listener::{Drained, ListenerSettings};
use floe_secrets_webhook::server::metrics::{
    Port, PortLabels, ServerMetrics, ShedLabels, ShedReason,
};
use floe_secrets_webhook::server::shutdown::{Shutdown, Signals};
use testbed::sockets::{Ca, HttpResponse, Server, connect, read_response, serve, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

const MIB: usize = 1 << 20;

fn settings(connection: ConnectionSettings) -> ListenerSettings {
    ListenerSettings {
        connection,
        shutdown_delay: Duration::ZERO,
        ..Default::default()
    }
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

/// Store with a fresh certificate, and its CA.
fn tls(metrics: &ServerMetrics) -> (Ca, Arc<CertStore>) {
    let ca = Ca::new("ca");
    let pair = ca.leaf("server");
    let store = CertStore::new(ClientAuth::None, Clock::system(), metrics.clone());
    store
        .load(pair.cert.as_bytes(), pair.key.as_bytes())
        .unwrap();
    (ca, store)
}

fn ok() -> Router {
    Router::new().route("/", get(async || "ok"))
}

/// Waits until the server closes the connection.
async fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(
        testbed::sockets::WAIT_TIMEOUT,
        stream.read_to_end(&mut rest),
    )
    .await
    .expect("the connection stays open");
}

// === slow, idle, old, too many ===

#[tokio::test]
async fn slow_header_is_closed_and_idle_connections_stay() {
    let metrics = ServerMetrics::default();
    let connection = ConnectionSettings {
        header_timeout: Duration::from_millis(300),
        ..Default::default()
    };
    let server = serve(ok(), settings(connection), &metrics, None).await;
    let mut used = TcpStream::connect(server.addr).await.unwrap();
    testbed::sockets::get(&mut used, "/").await.unwrap();
    let mut unused = TcpStream::connect(server.addr).await.unwrap();

    let (mut read, mut write) = TcpStream::connect(server.addr).await.unwrap().into_split();
    let loris = tokio::spawn(async move {
        while write.write_all(b"G").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    timeout(
        testbed::sockets::WAIT_TIMEOUT,
        read.read_to_end(&mut Vec::new()),
    )
    .await
    .expect("the slow connection stays open")
    .ok();
    loris.await.unwrap();

    // Both have been idle for longer than the header timeout, since before the slow one began.
    assert_eq!(
        testbed::sockets::get(&mut used, "/").await.unwrap().body,
        "ok"
    );
    assert_eq!(
        testbed::sockets::get(&mut unused, "/").await.unwrap().body,
        "ok"
    );
    wait_until("two left", async || open(&metrics) == 2).await;
}

#[tokio::test]
async fn missing_handshake_times_out() {
    let metrics = ServerMetrics::default();
    let (_, store) = tls(&metrics);
    let settings = ListenerSettings {
        handshake_timeout: Duration::from_millis(100),
        ..Default::default()
    };
    let server = serve(ok(), settings, &metrics, Some(store)).await;
    ended(&mut TcpStream::connect(server.addr).await.unwrap()).await;
    let failures = metrics.tls_handshake_failures.get_or_create(&PortLabels {
        port: Port::Admission,
    });
    assert_eq!(failures.get(), 1);
}

/// The request is sent before the server has noticed that the certificate is missing.
#[tokio::test]
async fn rejected_handshake_receives_alert() {
    let metrics = ServerMetrics::default();
    let ca = Ca::new("ca");
    let pair = ca.leaf("server");
    let store = CertStore::new(ClientAuth::Required, Clock::system(), metrics.clone());
    store
        .load(pair.cert.as_bytes(), pair.key.as_bytes())
        .unwrap();
    store.load_client_ca(ca.pem().as_bytes()).unwrap();
    let server = serve(ok(), ListenerSettings::default(), &metrics, Some(store)).await;
    for _ in 0..50 {
        let mut stream = connect(server.addr, &ca, None, "http/1.1").await.unwrap();
        // The complete body, and more that still fits into the buffers.
        let request = [
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 16384\r\n\r\n".as_slice(),
            &[b'x'; 16384],
        ]
        .concat();
        stream.write_all(&request).await.unwrap();
        stream.flush().await.unwrap();
        let message = stream.read(&mut [0; 8]).await.unwrap_err().to_string();
        assert!(message.contains("CertificateRequired"), "{message}");
    }
}

#[tokio::test]
async fn old_connection_is_closed_after_response_without_losing_requests() {
    let metrics = ServerMetrics::default();
    let (ca, store) = tls(&metrics);
    let connection = ConnectionSettings {
        max_age: Duration::from_secs(1),
        ..Default::default()
    };
    let server = serve(
        ok(),
        settings(connection),
        &metrics,
        Some(Arc::clone(&store)),
    )
    .await;
    for _ in 0..3 {
        let mut stream = connect(server.addr, &ca, None, "http/1.1").await.unwrap();
        while !testbed::sockets::get(&mut stream, "/")
            .await
            .unwrap()
            .closes_connection()
        {}
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
    let server = serve(ok(), ListenerSettings::default(), &metrics, Some(store)).await;
    let mut stream = connect(server.addr, &ca, None, "http/1.1").await.unwrap();
    for _ in 0..100 {
        assert!(
            !testbed::sockets::get(&mut stream, "/")
                .await
                .unwrap()
                .closes_connection(),
            "a young connection was closed"
        );
    }
}

#[tokio::test]
async fn http2_only_client_is_rejected_at_handshake() {
    let metrics = ServerMetrics::default();
    let (ca, store) = tls(&metrics);
    let server = serve(ok(), ListenerSettings::default(), &metrics, Some(store)).await;
    let message = connect(server.addr, &ca, None, "h2")
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains("NoApplicationProtocol"), "{message}");
    let mut stream = connect(server.addr, &ca, None, "http/1.1").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(
        testbed::sockets::get(&mut stream, "/").await.unwrap().body,
        "ok"
    );
}

// === bodies ===

/// `/` reads a body and returns its length, after `release`.
fn reading(
    settings: BodySettings,
    metrics: &ServerMetrics,
    release: Option<Arc<Notify>>,
    held: &Arc<AtomicUsize>,
) -> Router {
    let limits = BodyLimits::new(settings, metrics.clone());
    let held = Arc::clone(held);
    let handler =
        async move |Extension(limits): Extension<BodyLimits>, request: Request| -> Response {
            match limits.read(request).await {
                Ok(request) => {
                    held.fetch_add(1, Ordering::SeqCst);
                    if let Some(release) = &release {
                        release.notified().await;
                    }
                    request.body().len().to_string().into_response()
                }
                Err(shed) => shed.into_response(),
            }
        };
    Router::new()
        .route("/", post(handler))
        .layer(Extension(limits))
}

async fn serve_reading(settings: BodySettings, metrics: &ServerMetrics) -> Server {
    let router = reading(settings, metrics, None, &Arc::default());
    serve(router, ListenerSettings::default(), metrics, None).await
}

async fn post_length(stream: &mut TcpStream, length: usize) -> HttpResponse {
    let head = format!("POST / HTTP/1.1\r\nhost: webhook.test\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; length]).await.unwrap();
    read_response(stream).await.unwrap()
}

async fn post_chunked(stream: &mut TcpStream, chunks: usize, size: usize) -> HttpResponse {
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: webhook.test\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
    for _ in 0..chunks {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_response(stream).await.unwrap()
}

#[tokio::test]
async fn body_of_9_mb_gets_413_and_connection_stays() {
    let metrics = ServerMetrics::default();
    let server = serve_reading(BodySettings::default(), &metrics).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(post_length(&mut stream, 9 * MIB).await.status, 413);
    assert_eq!(post_chunked(&mut stream, 9, MIB).await.status, 413);
    assert_eq!(shed(&metrics, ShedReason::BodyTooLarge), 2);
    assert_eq!(
        post_length(&mut stream, 8 * MIB).await.body,
        (8 * MIB).to_string()
    );
    assert_eq!(post_chunked(&mut stream, 7, 1000).await.body, "7000");
    assert_eq!(metrics.body_bytes_in_flight.get(), 0);
}

#[tokio::test]
async fn large_body_is_rejected_before_it_is_sent() {
    let metrics = ServerMetrics::default();
    let server = serve_reading(BodySettings::default(), &metrics).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        9 * MIB
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let refused = read_response(&mut stream).await.unwrap();
    assert_eq!(refused.status, 413);
    assert!(!refused.head.to_ascii_lowercase().contains("retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_slow_bodies_of_1_mib_hold_at_most_32_mib() {
    let metrics = ServerMetrics::default();
    let (release, held) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    // Time is not tested here, and a busy machine may take long.
    let settings = BodySettings {
        deadline: testbed::sockets::WAIT_TIMEOUT,
        ..Default::default()
    };
    let router = reading(settings, &metrics, Some(Arc::clone(&release)), &held);
    let server = serve(router, ListenerSettings::default(), &metrics, None).await;
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let addr = server.addr;
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                let request =
                    format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {MIB}\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                for _ in 0..64 {
                    // A shed request is cut off if it continues for longer than the linger time.
                    if stream.write_all(&[b'x'; MIB / 64]).await.is_err() {
                        break;
                    }
                    sleep(Duration::from_millis(2)).await;
                }
                read_response(&mut stream)
                    .await
                    .map_or(503, |answer| answer.status)
            })
        })
        .collect();
    // No bytes are released before each of the forty is either complete and held, or shed.
    let mut most = 0;
    wait_until("all decided", async || {
        most = most.max(metrics.body_bytes_in_flight.get());
        let refused = usize::try_from(shed(&metrics, ShedReason::BytesInFlight)).unwrap();
        held.load(Ordering::SeqCst) + refused == 40
    })
    .await;
    let mib = i64::try_from(MIB).unwrap();
    assert_eq!(
        metrics.body_bytes_in_flight.get(),
        i64::try_from(held.load(Ordering::SeqCst)).unwrap() * mib
    );
    assert!(
        (16 * mib..=32 * mib).contains(&most),
        "{most} bytes at the most"
    );
    for _ in 0..40 {
        release.notify_one();
        tokio::task::yield_now().await;
    }
    let mut statuses = Vec::new();
    for client in clients {
        wait_until("released", async || {
            release.notify_waiters();
            client.is_finished()
        })
        .await;
        statuses.push(client.await.unwrap());
    }
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(accepted, held.load(Ordering::SeqCst), "{statuses:?}");
    assert!(
        accepted <= 32 && statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(metrics.body_bytes_in_flight.get(), 0);
}

#[tokio::test]
async fn announced_missing_bytes_hold_no_budget_and_get_408() {
    let metrics = ServerMetrics::default();
    let deadline = Duration::from_secs(3);
    let server = serve_reading(
        BodySettings {
            deadline,
            ..Default::default()
        },
        &metrics,
    )
    .await;
    let mut trickles = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\nx",
            8 * MIB
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        trickles.push(stream);
    }
    wait_until("all began", async || metrics.body_bytes_in_flight.get() > 0).await;
    let mut honest = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(post_length(&mut honest, 8 * MIB).await.status, 200);
    for mut stream in trickles {
        assert_eq!(read_response(&mut stream).await.unwrap().status, 408);
    }
    assert_eq!(shed(&metrics, ShedReason::BodyDeadline), 4);
    assert_eq!(metrics.body_bytes_in_flight.get(), 0);
}

// === panics ===

#[tokio::test]
async fn panic_is_bare_500_and_next_request_works() {
    let metrics = ServerMetrics::default();
    let panics = async || -> &'static str { panic!("canary") };
    let server = serve(
        ok().route("/panic", get(panics)),
        ListenerSettings::default(),
        &metrics,
        None,
    )
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let answer = testbed::sockets::get(&mut stream, "/panic").await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (500, "internal error\n")
    );
    assert_eq!(
        testbed::sockets::get(&mut stream, "/").await.unwrap().body,
        "ok"
    );
    assert_eq!(metrics.panics.get(), 1);
}

// === the drain ===

/// Sends requests without pause, as the API server does, until the endpoint is gone. A request counts as lost if it
/// fails on an established connection.
async fn ask_until_gone(server: std::net::SocketAddr, ca: Arc<Ca>, load: Arc<Load>) {
    while !load.gone.load(Ordering::SeqCst) {
        let Ok(mut stream) = connect(server, &ca, None, "http/1.1").await else {
            load.lost.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        load.connections.fetch_add(1, Ordering::SeqCst);
        loop {
            let Ok(answer) = testbed::sockets::get(&mut stream, "/").await else {
                load.lost.fetch_add(1, Ordering::SeqCst);
                break;
            };
            load.answered.fetch_add(1, Ordering::SeqCst);
            if answer.closes_connection() {
                break;
            }
        }
    }
}

#[derive(Default)]
struct Load {
    gone: AtomicBool,
    answered: AtomicUsize,
    lost: AtomicUsize,
    connections: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_under_load_loses_no_request() {
    let metrics = ServerMetrics::default();
    let (ca, store) = tls(&metrics);
    let ca = Arc::new(ca);
    let router = Router::new().route(
        "/",
        get(async || {
            sleep(Duration::from_millis(2)).await;
            "ok"
        }),
    );
    let settings = ListenerSettings {
        shutdown_delay: Duration::from_secs(3),
        // An idle connection that delayed the drain would do so for longer than this test waits.
        drain_timeout: Duration::from_hours(1),
        ..Default::default()
    };
    let server = serve(router, settings, &metrics, Some(store)).await;
    let load = Arc::new(Load::default());
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(ask_until_gone(
                server.addr,
                Arc::clone(&ca),
                Arc::clone(&load),
            ))
        })
        .collect();
    // The drain must neither wait for idle connections nor be delayed by them.
    let mut idle = connect(server.addr, &ca, None, "http/1.1").await.unwrap();
    testbed::sockets::get(&mut idle, "/").await.unwrap();
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    wait_until("load", async || count(&load.answered) > 1000).await;
    assert_eq!(
        count(&load.connections),
        16,
        "connections were ended before the drain"
    );

    let began = Instant::now();
    server.shutdown.drain();
    // New connections arrive until the cluster has removed the endpoint.
    wait_until("new connections", async || count(&load.connections) > 40).await;
    load.gone.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let drained = timeout(testbed::sockets::WAIT_TIMEOUT, server.ended)
        .await
        .expect("an idle connection delayed the drain")
        .unwrap();
    let (answered, connections) = (count(&load.answered), count(&load.connections));
    println!(
        "{answered} answered on {connections} connections, drained in {:?}",
        began.elapsed()
    );
    assert_eq!((count(&load.lost), drained), (0, Drained { aborted: 0 }));
    assert_eq!(open(&metrics), 0);
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn drain_completes_requests_in_flight_and_serves_backlog() {
    let metrics = ServerMetrics::default();
    let release = Arc::new(Notify::new());
    let wait = Arc::clone(&release);
    let slow = async move || {
        wait.notified().await;
        "late"
    };
    let server = serve(
        ok().route("/slow", get(slow)),
        settings(ConnectionSettings::default()),
        &metrics,
        None,
    )
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    wait_until("in flight", async || open(&metrics) == 1).await;
    // One thread runs this test: the server cannot have accepted this one when the drain begins.
    let connecting = std::net::TcpStream::connect(server.addr).unwrap();
    server.shutdown.drain();
    connecting.set_nonblocking(true).unwrap();
    let mut waiting = TcpStream::from_std(connecting).unwrap();
    assert_eq!(
        testbed::sockets::get(&mut waiting, "/").await.unwrap().body,
        "ok"
    );

    wait_until("not accepting", async || {
        TcpStream::connect(server.addr).await.is_err()
    })
    .await;
    release.notify_one();
    let late = read_response(&mut stream).await.unwrap();
    assert!(late.body == "late" && late.closes_connection(), "{late:?}");
    assert_eq!(server.ended.await.unwrap(), Drained { aborted: 0 });
}

#[tokio::test]
async fn endless_request_is_cut_after_drain_timeout() {
    let metrics = ServerMetrics::default();
    let never = async || std::future::pending::<&'static str>().await;
    let settings = ListenerSettings {
        drain_timeout: Duration::from_millis(100),
        ..settings(ConnectionSettings::default())
    };
    let server = serve(
        Router::new().route("/", get(never)),
        settings,
        &metrics,
        None,
    )
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    wait_until("in flight", async || open(&metrics) == 1).await;
    server.shutdown.drain();
    assert_eq!(
        timeout(testbed::sockets::WAIT_TIMEOUT, server.ended)
            .await
            .unwrap()
            .unwrap(),
        Drained { aborted: 1 }
    );
    ended(&mut stream).await;
}

#[tokio::test]
async fn first_signal_drains_and_second_aborts() {
    let metrics = ServerMetrics::default();
    let never = async || std::future::pending::<&'static str>().await;
    let settings = ListenerSettings {
        drain_timeout: Duration::from_hours(1),
        ..Default::default()
    };
    let server = serve(
        Router::new().route("/", get(never)),
        settings,
        &metrics,
        None,
    )
    .await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    wait_until("in flight", async || open(&metrics) == 1).await;

    let listening = tokio::spawn(Signals::install().unwrap().run(server.shutdown.clone()));
    let send = |name: &str| {
        let command = format!("kill -{name} {}", std::process::id());
        assert!(
            std::process::Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    };
    send("TERM");
    timeout(testbed::sockets::WAIT_TIMEOUT, server.shutdown.draining())
        .await
        .unwrap();
    assert!(server.shutdown.is_draining() && !server.ended.is_finished());
    send("INT");
    assert_eq!(
        timeout(testbed::sockets::WAIT_TIMEOUT, server.ended)
            .await
            .unwrap()
            .unwrap(),
        Drained { aborted: 1 }
    );
    listening.await.unwrap();
}

#[test]
fn abort_is_also_a_drain() {
    let shutdown = Shutdown::new();
    shutdown.clone().abort();
    assert!(shutdown.is_draining());
}
