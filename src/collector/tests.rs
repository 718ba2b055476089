//! Collector without sockets, on virtual time: who may send, and each status.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http_body_util::BodyExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tower::ServiceExt as _;

use super::metrics::RejectionLabels;
use super::*;
use crate::audit::delivery::{AUDIENCE, MAX_BODY, ReplicaState};
use crate::audit::link::ChainId;
use crate::identity::kubernetes::REVIEW_TIMEOUT;
use crate::identity::kubernetes::test_support::{authenticated, scripted};
use crate::server::connection::ConnectionState;
use crate::server::listener::ListenerSettings;
use crate::store::conformance::{Trail, target};
use crate::store::sqlite::{SqliteSettings, SqliteStore};
use crate::store::{AuditStore, StoreError, StoreOpener};

const POD: &str = "webhook-1";

/// Collector with a store in a file, and an API server that reviews tokens: `good` is the pod's, `other-pod` another
/// one's, `stranger` another ServiceAccount's, `unbound` of no pod. All others are not valid.
struct Fixture {
    collector: Arc<LineCollector>,
    metrics: CollectorMetrics,
    opener: StoreOpener,
    /// Whether the API server is away.
    api_is_away: Arc<Mutex<bool>>,
    reviews: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
}

/// Response of the collector.
#[derive(Debug)]
struct Answered {
    status: u16,
    body: Value,
    retry_after: bool,
}

impl Answered {
    fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }
}

fn reviewed(token: &str) -> Value {
    let mut status = match token {
        "good" | "renewed" => authenticated("floe:webhook", POD, "a"),
        "other-pod" => authenticated("floe:webhook", "webhook-2", "b"),
        "stranger" => authenticated("jobs:webhook", POD, "a"),
        "unbound" => authenticated("floe:webhook", POD, ""),
        _ => return json!({"status": {"error": "no"}}),
    };
    status["status"]["audiences"] = json!([AUDIENCE]);
    status
}

impl Fixture {
    /// Collector whose store is not open yet.
    fn unopened() -> Self {
        let api_is_away = Arc::new(Mutex::new(false));
        let reviews = Arc::<AtomicUsize>::default();
        let (away, count) = (Arc::clone(&api_is_away), Arc::clone(&reviews));
        let (api, _) = scripted(Arc::new(move |review| {
            count.fetch_add(1, Ordering::SeqCst);
            if *away.lock().unwrap() {
                return (503, json!({}));
            }
            (201, reviewed(review["spec"]["token"].as_str().unwrap()))
        }));
        let store_metrics = StoreMetrics::default();
        let (opener, store) = StoreOpener::new("audit.db", store_metrics.clone());
        let metrics = CollectorMetrics::default();
        let collector = LineCollector::new(CollectorParts {
            senders: BTreeSet::from(["floe/webhook".parse().unwrap()]),
            reviewer: TokenReviewer::new(api, AUDIENCE),
            store,
            store_metrics,
            metrics: metrics.clone(),
            server_metrics: ServerMetrics::default(),
            traces: Traces::off(),
            clock: Clock::system(),
        });
        Self {
            collector,
            metrics,
            opener,
            api_is_away,
            reviews,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn new() -> Self {
        let fixture = Self::unopened();
        fixture.open(None).await;
        fixture
    }

    async fn open(&self, max_bytes: Option<u64>) {
        let settings = SqliteSettings {
            create: true,
            max_bytes,
            ..SqliteSettings::new(self.folder.path().join("audit.db"))
        };
        let open = move || -> Result<Arc<dyn AuditStore>, StoreError> {
            Ok(Arc::new(SqliteStore::open(&settings)?))
        };
        self.opener.open(open).await;
    }

    async fn send(&self, connection: &ConnectionState, token: &str, body: Vec<u8>) -> Answered {
        let request = request(peer(connection), token);
        let request = request.body(Body::from(body)).unwrap();
        let response = self.collector.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().contains_key(RETRY_AFTER);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.len() <= delivery::MAX_RESPONSE, "{}", body.len());
        Answered {
            status,
            body: serde_json::from_slice(&body).unwrap(),
            retry_after,
        }
    }

    /// Sends the pod's batch on a new connection.
    async fn sent(&self, body: Vec<u8>) -> Answered {
        self.send(&ConnectionState::default(), "good", body).await
    }

    fn reviews(&self) -> usize {
        self.reviews.load(Ordering::SeqCst)
    }

    fn rejected(&self, reason: Rejection) -> u64 {
        let labels = RejectionLabels { reason };
        self.metrics.rejected.get_or_create(&labels).get()
    }
}

fn peer(connection: &ConnectionState) -> Peer {
    Peer {
        addr: ([127, 0, 0, 1], 1).into(),
        verified: false,
        name: None,
        state: connection.clone(),
    }
}

fn request(peer: Peer, token: &str) -> http::request::Builder {
    Request::post(delivery::PATH)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, delivery::MEDIA_TYPE)
        .extension(peer)
}

fn head_of(chain: &str) -> BatchHead {
    BatchHead {
        chain: ChainId::parse(chain).unwrap(),
        lost_before: false,
        replica: ReplicaState {
            pod: POD.to_owned(),
            unshipped: 2,
            ..ReplicaState::default()
        },
    }
}

fn body_of(head: &BatchHead, lines: &[String]) -> Vec<u8> {
    let mut body = head.to_line();
    for line in lines {
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    body
}

/// Lines of the pod's chain.
fn lines(secret: &str, count: usize) -> Vec<String> {
    let mut trail = Trail::new("a");
    let line = |_| {
        let mut record = trail.record();
        record.targets = vec![target(secret)];
        trail.line_of(record)
    };
    (0..count).map(line).collect()
}

fn batch(lines: &[String]) -> Vec<u8> {
    body_of(&head_of("a/1"), lines)
}

#[tokio::test]
async fn batch_is_stored_in_order_and_acknowledged() {
    let fixture = Fixture::new().await;
    let connection = ConnectionState::default();
    let lines = lines("db", 4);
    let empty = fixture.send(&connection, "good", batch(&[])).await;
    assert_eq!((empty.status, &empty.body), (200, &json!({"durable": 0})));
    let first = fixture.send(&connection, "good", batch(&lines[..2])).await;
    assert_eq!((first.status, &first.body), (200, &json!({"durable": 2})));
    // Sent again after a lost response, with more.
    let again = fixture.send(&connection, "good", batch(&lines[..3])).await;
    assert_eq!(again.body, json!({"durable": 3}));
    assert_eq!(fixture.metrics.collected.get(), 3);
    assert_eq!(fixture.reviews(), 1, "the sender is not checked per batch");
    let [replica] = &*fixture.collector.replicas() else {
        panic!("one replica")
    };
    assert_eq!(
        (replica.state.pod.as_str(), replica.state.unshipped),
        (POD, 2)
    );
}

#[tokio::test]
async fn gap_is_rejected_with_the_wanted_number_unless_lines_are_declared_lost() {
    let fixture = Fixture::new().await;
    let lines = lines("db", 4);
    fixture.sent(batch(&lines[..1])).await;
    let gap = fixture.sent(batch(&lines[2..])).await;
    assert_eq!((gap.status, gap.reason()), (409, "out_of_order"));
    assert_eq!(gap.body["wanted"], 2);
    let head = BatchHead {
        lost_before: true,
        ..head_of("a/1")
    };
    let declared = fixture.sent(body_of(&head, &lines[2..])).await;
    assert_eq!(declared.body, json!({"durable": 4}));
    assert_eq!(fixture.rejected(Rejection::OutOfOrder), 1);
}

#[tokio::test]
async fn second_history_is_rejected_and_counted_as_a_conflict() {
    let fixture = Fixture::new().await;
    fixture.sent(batch(&lines("db", 2))).await;
    let other = fixture.sent(batch(&lines("other", 2))).await;
    assert_eq!((other.status, other.reason()), (409, "second_history"));
    assert_eq!(fixture.metrics.conflicts.get(), 1);
    assert_eq!(fixture.rejected(Rejection::SecondHistory), 1);
}

#[tokio::test]
async fn bytes_that_are_not_a_batch_are_rejected() {
    let fixture = Fixture::new().await;
    let line = lines("db", 1).remove(0);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(8 << 10));
    let twice = line.replacen('{', "{\"v\":1,\"v\":1,", 1);
    for (body, status) in [
        (b"".to_vec(), 400),
        (b"[]\n".to_vec(), 400),
        (batch(&["no JSON".to_owned()]), 400),
        (batch(&[twice]), 400),
        (batch(&[String::new(), line.clone()]), 400),
        (body_of(&head_of("a/2"), std::slice::from_ref(&line)), 400),
        (batch(&[long]), 413),
        (vec![b'x'; MAX_BODY + 1], 413),
    ] {
        let text = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answered = fixture.sent(body).await;
        assert_eq!(answered.status, status, "{text}: {answered:?}");
        let message = answered.body["message"].as_str().unwrap();
        assert!(message.len() > 20 && !answered.retry_after, "{answered:?}");
    }
    assert_eq!(fixture.rejected(Rejection::InvalidBatch), 6);
    assert_eq!(fixture.rejected(Rejection::TooLarge), 2);
    let stored = fixture.sent(batch(&[])).await;
    assert_eq!(stored.body, json!({"durable": 0}));
}

#[tokio::test]
async fn lines_of_a_newer_program_are_stored_as_they_were_written() {
    let fixture = Fixture::new().await;
    let line = &lines("db", 1)[0];
    let newer = line.replace("\"v\":1}", "\"v\":7,\"zone\":{\"a\":[1.5e3,null]}}");
    assert_ne!(newer, *line);
    let answered = fixture.sent(batch(std::slice::from_ref(&newer))).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    let store = fixture.collector.store.get().unwrap();
    let range = crate::store::ExportRange {
        from: jiff::Timestamp::MIN,
        to: jiff::Timestamp::MAX,
    };
    let (stored, _) = store
        .export(range, crate::store::LinePosition(0))
        .await
        .unwrap();
    assert_eq!(stored, [newer]);
}

#[tokio::test]
async fn only_pods_of_the_senders_write_and_only_their_own_chain() {
    let fixture = Fixture::new().await;
    let body = || batch(&lines("db", 1));
    for (token, status) in [
        ("wrong", 401),
        ("a b", 401),
        ("stranger", 403),
        ("unbound", 403),
        ("other-pod", 403),
    ] {
        let connection = ConnectionState::default();
        let answered = fixture.send(&connection, token, body()).await;
        assert_eq!(answered.status, status, "{token}: {answered:?}");
        assert!(!answered.body.to_string().contains(token) || token == "stranger");
    }
    let mut renamed = head_of("a/1");
    renamed.replica.pod = "webhook-2".to_owned();
    assert_eq!(fixture.sent(body_of(&renamed, &[])).await.status, 403);
    assert_eq!(
        fixture.sent(body_of(&head_of("b/1"), &[])).await.status,
        403
    );
    assert!(fixture.collector.replicas().is_empty());
    assert_eq!(fixture.sent(body()).await.status, 200);
}

#[tokio::test]
async fn changed_token_is_checked_at_once() {
    let fixture = Fixture::new().await;
    let connection = ConnectionState::default();
    assert_eq!(
        fixture.send(&connection, "good", batch(&[])).await.status,
        200
    );
    assert_eq!(
        fixture
            .send(&connection, "renewed", batch(&[]))
            .await
            .status,
        200
    );
    assert_eq!(fixture.reviews(), 2);
    assert_eq!(
        fixture
            .send(&connection, "other-pod", batch(&[]))
            .await
            .status,
        403
    );
    assert_eq!(
        fixture.send(&connection, "wrong", batch(&[])).await.status,
        401
    );
    assert_eq!(
        fixture.send(&connection, "good", batch(&[])).await.status,
        200
    );
    assert_eq!(fixture.reviews(), 5, "no check holds after another token");
}

#[tokio::test(start_paused = true)]
async fn sender_is_checked_again_every_minute() {
    let fixture = Fixture::new().await;
    let connection = ConnectionState::default();
    let send = async || fixture.send(&connection, "good", batch(&[])).await;
    assert_eq!(send().await.status, 200);
    *fixture.api_is_away.lock().unwrap() = true;
    let began = Instant::now();
    while began.elapsed() < CHECK_INTERVAL {
        assert_eq!(send().await.status, 200, "{:?}", began.elapsed());
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(fixture.reviews(), 1);
    let away = send().await;
    assert_eq!((away.status, away.reason()), (503, "unavailable"));
    assert!(away.retry_after);
    assert_eq!(
        fixture.sent(batch(&[])).await.status,
        503,
        "a new connection"
    );
    *fixture.api_is_away.lock().unwrap() = false;
    assert_eq!(send().await.status, 200);
}

#[tokio::test]
async fn store_that_is_not_open_is_unavailable() {
    let fixture = Fixture::unopened();
    let body = || batch(&lines("db", 1));
    let early = fixture.sent(body()).await;
    assert_eq!((early.status, early.retry_after), (503, true));
    assert!(
        early.body["message"]
            .as_str()
            .unwrap()
            .contains("being opened")
    );
    assert_eq!(fixture.collector.replicas().len(), 1, "its state is known");
    fixture.open(None).await;
    assert_eq!(fixture.sent(body()).await.status, 200);
    fixture.opener.close("audit.db").await;
    let late = fixture.sent(body()).await;
    assert!(
        late.body["message"].as_str().unwrap().contains("closed"),
        "{late:?}"
    );
}

#[tokio::test]
async fn full_store_is_unavailable_and_keeps_what_it_has() {
    let fixture = Fixture::unopened();
    fixture.open(Some(400 << 10)).await;
    let lines = lines("db", 2_000);
    let mut durable = 0;
    let full = loop {
        let answered = fixture.sent(batch(&lines[durable..durable + 50])).await;
        if answered.status != 200 {
            break answered;
        }
        durable = usize::try_from(answered.body["durable"].as_u64().unwrap()).unwrap();
    };
    assert_eq!((full.status, full.retry_after), (503, true), "{full:?}");
    assert!(
        full.body["message"].as_str().unwrap().contains("is full"),
        "{full:?}"
    );
    assert!(durable > 0 && !fixture.collector.store_metrics.is_ready());
    let kept = fixture.sent(batch(&[])).await;
    assert_eq!(kept.body, json!({"durable": durable}));
}

#[test]
fn changed_bytes_of_a_batch_are_rejected_or_stored() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    let body = batch(&lines("db", 3));
    let change = (any::<Index>(), any::<u8>());
    proptest!(ProptestConfig::with_cases(300), |(changes in vec(change, 1..4), cut in any::<Index>())| {
        let mut changed = body.clone();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        changed.truncate(cut.index(body.len()) + 1);
        let answered = runtime.block_on(fixture.sent(changed));
        let expected = [200, 400, 403, 409, 413];
        prop_assert!(expected.contains(&answered.status), "{answered:?}");
    });
}

#[test]
fn docs_contain_the_limits_of_the_collector() {
    let docs = include_str!("../../docs/AUDIT.md");
    let seconds = |time: Duration| usize::try_from(time.as_secs()).unwrap();
    let (bodies, listener) = (body_settings(), ListenerSettings::collector());
    let limits = [
        ("Connections of the collector", listener.max_connections),
        (
            "Connections of one address to the collector",
            listener.per_peer,
        ),
        (
            "Seconds in which a batch has to arrive",
            seconds(bodies.deadline),
        ),
        (
            "Bytes of batches that the collector has in memory",
            usize::try_from(bodies.in_flight).unwrap(),
        ),
        ("Seconds of a check of a sender", seconds(REVIEW_TIMEOUT)),
        (
            "Minutes for which a replica that does not send is known",
            usize::try_from(replicas::FORGET_AFTER.as_mins()).unwrap(),
        ),
        (
            "Seconds between attempts to open a store",
            seconds(crate::store::OPEN_INTERVAL),
        ),
        ("Bytes of a batch's head", delivery::MAX_HEAD),
        (
            "Bytes of all lines of a delivered batch",
            delivery::MAX_LINES,
        ),
        (
            "Bytes of a bearer token",
            crate::identity::kubernetes::MAX_TOKEN,
        ),
        (
            "Batches that the collector handles at the same time",
            MAX_BATCHES,
        ),
        ("Batches of one pod at the same time", MAX_BATCHES_OF_A_POD),
        ("Replicas whose state is kept", MAX_REPLICAS),
        (
            "Checks of senders per second",
            MAX_CHECKS_PER_SECOND as usize,
        ),
        (
            "Seconds for which a check of the sender holds",
            seconds(CHECK_INTERVAL),
        ),
    ];
    for (name, limit) in limits {
        let row = format!("| {name} | {limit} |");
        assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
    }
}

#[tokio::test(start_paused = true)]
async fn body_that_does_not_end_is_rejected_in_time() {
    let fixture = Fixture::new().await;
    let stream = futures::stream::pending::<Result<Bytes, std::io::Error>>();
    let peer = peer(&ConnectionState::default());
    let request = request(peer, "good")
        .body(Body::from_stream(stream))
        .unwrap();
    let began = Instant::now();
    let response = fixture.collector.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(
        fixture.sent(batch(&[])).await.status,
        200,
        "its place is free"
    );
}
