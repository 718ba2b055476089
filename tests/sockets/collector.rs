//! Collector over TLS on the real listener, with an API server that reviews tokens as the test requires.

#![cfg(feature = "test-util")]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use floe_secrets_webhook::audit::delivery::{
    AUDIENCE, BatchHead, MAX_BODY, MAX_LINES, PATH, ReplicaState,
};
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::collector::{CollectorMetrics, CollectorParts, LineCollector};
use floe_secrets_webhook::identity::kubernetes::TokenReviewer;
use floe_secrets_webhook::kubernetes::{ObjectApi, client::client};
use floe_secrets_webhook::server::cert_store::{CertStore, ClientAuth};
use floe_secrets_webhook::server::listener::ListenerSettings;
use floe_secrets_webhook::server::metrics::ServerMetrics;
use floe_secrets_webhook::store::conformance::{Trail, chain_id};
use floe_secrets_webhook::store::sqlite::{SqliteSettings, SqliteStore};
use floe_secrets_webhook::store::{
    AuditStore, ExportRange, LinePosition, StoreError, StoreMetrics, StoreOpener,
};
use floe_secrets_webhook::telemetry::traces::Traces;
use serde_json::{Value, json};
use testbed::sockets::{Ca, Server, connect, read_response, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

const POD: &str = "webhook-1";

type Connection = TlsStream<TcpStream>;

/// Collector with a store in a file.
struct Fixture {
    ca: Ca,
    server: Server,
    opener: StoreOpener,
    reviews: Arc<AtomicUsize>,
    path: PathBuf,
    api: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.api.abort();
    }
}

/// Response of the API server to a review. Only `good` and `renewed` are tokens, both of the pod.
async fn review(State(reviews): State<Arc<AtomicUsize>>, body: Bytes) -> String {
    let review: Value = serde_json::from_slice(&body).unwrap();
    reviews.fetch_add(1, Ordering::SeqCst);
    let token = review.pointer("/spec/token").and_then(Value::as_str);
    let is_valid = matches!(token, Some("good" | "renewed"));
    let status = json!({"status": {
        "authenticated": is_valid,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:floe:webhook",
            "extra": {
                "authentication.kubernetes.io/pod-name": [POD],
                "authentication.kubernetes.io/pod-uid": ["a"],
            },
        },
    }});
    status.to_string()
}

/// Starts the API server, and returns its address and the number of reviews.
async fn start_api() -> (SocketAddr, Arc<AtomicUsize>, JoinHandle<()>) {
    let reviews = Arc::<AtomicUsize>::default();
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let router = Router::new()
        .route(path, post(review))
        .with_state(Arc::clone(&reviews));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, reviews, task)
}

impl Fixture {
    async fn new(listener: ListenerSettings) -> Self {
        let (address, reviews, api) = start_api().await;
        let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
        config.accept_invalid_certs = true;
        let objects = ObjectApi::new(client(config).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let store_metrics = StoreMetrics::default();
        let (opener, store) = StoreOpener::new("audit.db", store_metrics.clone());
        let settings = SqliteSettings {
            create: true,
            ..SqliteSettings::new(&path)
        };
        let open = move || -> Result<Arc<dyn AuditStore>, StoreError> {
            Ok(Arc::new(SqliteStore::open(&settings)?))
        };
        opener.open(open).await;
        let metrics = ServerMetrics::default();
        let collector = LineCollector::new(CollectorParts {
            senders: ["floe/webhook".parse().unwrap()].into(),
            reviewer: TokenReviewer::new(objects, AUDIENCE),
            store,
            store_metrics,
            metrics: CollectorMetrics::default(),
            server_metrics: metrics.clone(),
            traces: Traces::off(),
            clock: Clock::system(),
        });
        let ca = Ca::new("ca");
        let leaf = ca.leaf("admin");
        let certificate = CertStore::new(ClientAuth::None, Clock::system(), metrics.clone());
        certificate
            .load(leaf.cert.as_bytes(), leaf.key.as_bytes())
            .unwrap();
        let server = serve(collector.router(), listener, &metrics, Some(certificate)).await;
        Self {
            ca,
            server,
            opener,
            reviews,
            path,
            api,
            _folder: folder,
        }
    }

    async fn connect(&self) -> Connection {
        connect(self.server.addr, &self.ca, None, "http/1.1")
            .await
            .unwrap()
    }

    /// Lines of the file, after the collector was stopped.
    async fn stored(self) -> Vec<String> {
        self.server.shutdown.drain();
        self.opener.close("audit.db").await;
        let store = SqliteStore::open_read_only(&SqliteSettings::new(&self.path)).unwrap();
        let range = ExportRange {
            from: jiff::Timestamp::MIN,
            to: jiff::Timestamp::MAX,
        };
        let (mut all, mut after) = (Vec::new(), LinePosition::default());
        loop {
            let (lines, next) = store.export(range, after).await.unwrap();
            all.extend(lines);
            match next {
                Some(next) => after = next,
                None => return all,
            }
        }
    }
}

fn batch(lines: &[String]) -> Vec<u8> {
    let head = BatchHead {
        chain: chain_id("a"),
        lost_before: false,
        replica: ReplicaState {
            pod: POD.to_owned(),
            ..ReplicaState::default()
        },
    };
    let mut body = head.to_line();
    for line in lines {
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    body
}

async fn send_head(connection: &mut Connection, token: &str, length: usize) {
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: webhook.test\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
}

/// Sends a batch, and returns the status and the body of the response.
async fn send(connection: &mut Connection, token: &str, body: &[u8]) -> (u16, Value) {
    send_head(connection, token, body.len()).await;
    connection.write_all(body).await.unwrap();
    connection.flush().await.unwrap();
    let response = read_response(connection).await.unwrap();
    (
        response.status,
        serde_json::from_str(&response.body).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_connection_are_in_the_file_byte_by_byte() {
    let fixture = Fixture::new(ListenerSettings::collector()).await;
    let lines = Trail::new("a").lines(300);
    let mut connection = fixture.connect().await;
    for (sent, part) in lines.chunks(100).enumerate() {
        let durable = (sent + 1) * 100;
        let response = send(&mut connection, "good", &batch(part)).await;
        assert_eq!(response, (200, json!({"durable": durable})));
    }
    assert_eq!(fixture.reviews.load(Ordering::SeqCst), 1);
    let (status, rejected) = send(&mut connection, "wrong", &batch(&[])).await;
    assert_eq!(
        (status, &rejected["reason"]),
        (401, &json!("unauthenticated"))
    );
    assert_eq!(send(&mut connection, "renewed", &batch(&[])).await.0, 200);
    assert_eq!(fixture.reviews.load(Ordering::SeqCst), 3);
    drop(connection);
    assert_eq!(fixture.stored().await, lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn longest_batch_is_read_and_a_longer_one_is_refused() {
    let fixture = Fixture::new(ListenerSettings::collector()).await;
    let mut trail = Trail::new("a");
    let mut lines = trail.lines(1_000);
    let bytes = |lines: &[String]| lines.iter().map(|line| line.len() + 1).sum::<usize>();
    while bytes(&lines) <= MAX_LINES {
        lines.extend(trail.lines(1));
    }
    let last = lines.pop().unwrap();
    let mut connection = fixture.connect().await;
    let (status, stored) = send(&mut connection, "good", &batch(&lines)).await;
    assert_eq!((status, &stored), (200, &json!({"durable": lines.len()})));
    // The whole body is sent before the response is read.
    for body in [vec![b' '; MAX_BODY + 1], {
        lines.push(last);
        batch(&lines)
    }] {
        let mut connection = fixture.connect().await;
        let (status, rejected) = send(&mut connection, "good", &body).await;
        assert_eq!((status, &rejected["reason"]), (413, &json!("too_large")));
    }
    let mut connection = fixture.connect().await;
    let (status, rejected) = send(&mut connection, "wrong", &vec![b' '; MAX_BODY]).await;
    assert_eq!(
        (status, &rejected["reason"]),
        (401, &json!("unauthenticated"))
    );
    lines.pop();
    assert_eq!(fixture.stored().await.len(), lines.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_leave_room_for_others() {
    let listener = ListenerSettings {
        max_connections: 8,
        per_peer: 4,
        ..ListenerSettings::collector()
    };
    let fixture = Fixture::new(listener).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = fixture.connect().await;
        assert_eq!(send(&mut connection, "good", &batch(&[])).await.0, 200);
        connections.push(connection);
    }
    // The oldest connections had no request in flight, and were closed.
    let mut oldest = connections.swap_remove(0);
    let mut rest = Vec::new();
    drop(oldest.read_to_end(&mut rest).await);
    assert!(rest.is_empty(), "{rest:?}");
    let newest = connections.last_mut().unwrap();
    assert_eq!(send(newest, "good", &batch(&[])).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn third_batch_of_a_pod_waits_outside_and_slow_ones_hold_only_their_pod() {
    let fixture = Fixture::new(ListenerSettings::collector()).await;
    let body = batch(&Trail::new("a").lines(1));
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut connection = fixture.connect().await;
        assert_eq!(send(&mut connection, "good", &batch(&[])).await.0, 200);
        send_head(&mut connection, "good", body.len()).await;
        connection.write_all(&body[..10]).await.unwrap();
        connection.flush().await.unwrap();
        slow.push(connection);
    }
    let mut third = fixture.connect().await;
    testbed::sockets::wait_until("the places of the pod are taken", async || {
        let (status, rejected) = send(&mut third, "good", &batch(&[])).await;
        status == 503 && rejected["message"].as_str().unwrap().contains("this pod")
    })
    .await;
    let mut first = slow.swap_remove(0);
    first.write_all(&body[10..]).await.unwrap();
    first.flush().await.unwrap();
    assert_eq!(read_response(&mut first).await.unwrap().status, 200);
    assert_eq!(send(&mut third, "good", &batch(&[])).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_in_flight_is_stored_during_the_drain() {
    let fixture = Fixture::new(ListenerSettings {
        shutdown_delay: std::time::Duration::ZERO,
        ..ListenerSettings::collector()
    })
    .await;
    let lines = Trail::new("a").lines(2);
    let body = batch(&lines);
    let mut connection = fixture.connect().await;
    assert_eq!(send(&mut connection, "good", &batch(&[])).await.0, 200);
    send_head(&mut connection, "good", body.len()).await;
    connection.write_all(&body[..100]).await.unwrap();
    connection.flush().await.unwrap();
    fixture.server.shutdown.drain();
    testbed::sockets::wait_until("the listener is closed", async || {
        TcpStream::connect(fixture.server.addr).await.is_err()
    })
    .await;
    connection.write_all(&body[100..]).await.unwrap();
    connection.flush().await.unwrap();
    let response = read_response(&mut connection).await.unwrap();
    assert_eq!((response.status, response.closes_connection()), (200, true));
    assert_eq!(fixture.stored().await, lines);
}
