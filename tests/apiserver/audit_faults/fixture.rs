//! Fixture of the faults: one `serve` that sends its lines to one `admin`, reviews, and the bookkeeping.

use std::collections::BTreeSet;
use std::time::Instant;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testbed::admission_client::{pod, review};
use testbed::control_plane::ControlPlane;
use testbed::manifests::prefixed;
use testbed::namespace::TestNamespace;
use testbed::trail::{ExportedTrail, ReplicaPod, Trail};
use testbed::webhook::{SERVICE_HOST, webhook_identity};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{WAIT_TIMEOUT, poll, print_line, wait_for};

/// Connections on which reviews are sent.
const CONNECTIONS: usize = 8;

/// `count`, or `long` by `make audit-faults`.
#[expect(
    clippy::disallowed_methods,
    reason = "`make audit-faults` sets the duration by the environment"
)]
pub fn or_long<T>(count: T, long: T) -> T {
    let is_long = std::env::var_os("AUDIT_FAULTS").is_some_and(|value| !value.is_empty());
    if is_long { long } else { count }
}

/// Reviews while something is waited for.
const FEW: usize = 5;

/// `serve`, `admin`, and the admissions that were answered.
pub struct Fixture {
    pub cp: &'static ControlPlane,
    pub namespace: TestNamespace,
    pub trail: Trail,
    pub webhook: WebhookProcess,
    /// Pod that `serve` stands for.
    pub replica: ReplicaPod,
    /// Uids of the answered reviews.
    answered: BTreeSet<String>,
    /// Annotations that ask for secrets.
    asks: Value,
}

impl Fixture {
    pub async fn start() -> Self {
        let trail = Trail::start(ControlPlane::shared().await).await;
        Self::with(trail, |launch| launch).await
    }

    /// Fixture with another `admin`, and with changes to the arguments of `serve`.
    pub async fn with(trail: Trail, change: impl FnOnce(Launch) -> Launch) -> Self {
        let cp = trail.cp;
        let namespace = cp.namespace("faults").await;
        cp.secret(&namespace.name, "db", &["user"], "x").await;
        let replica = ReplicaPod::create(cp).await;
        let launch = Launch::serve(cp, &webhook_identity(cp).await);
        let launch = launch.with(&["--shutdown-delay", "0s"]);
        let launch = change(trail.sent_by(launch, &replica).await);
        let webhook = launch.start().await;
        Self {
            cp,
            namespace,
            trail,
            webhook,
            replica,
            answered: BTreeSet::new(),
            asks: prefixed(&json!({"env-from": "db"})),
        }
    }

    /// Lets reviews ask for all of these Secrets, which have to exist.
    pub fn ask_for(&mut self, secrets: &str) {
        self.asks = prefixed(&json!({"env-from": secrets}));
    }

    /// Sends reviews of pods, each of which has to be allowed.
    pub async fn admit(&mut self, count: usize) {
        let reviews = (0..count).map(|_| {
            let mut review = review(&pod(&self.asks));
            review["request"]["namespace"] = self.namespace.name.clone().into();
            review
        });
        let reviews: Vec<Value> = reviews.collect();
        let shares = reviews.chunks(count.div_ceil(CONNECTIONS).max(1));
        let webhook = &self.webhook;
        let answers = shares.map(|share| async move { send_all(webhook, share).await });
        let answered = futures::future::join_all(answers).await;
        self.answered.extend(answered.into_iter().flatten());
    }

    /// Sends a few reviews at a time until `holds`.
    pub async fn admit_until(&mut self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let end = Instant::now() + WAIT_TIMEOUT;
        while !holds(self).await {
            assert!(Instant::now() < end, "not within {WAIT_TIMEOUT:?}: {what}");
            self.admit(FEW).await;
        }
    }

    /// Number of answered reviews that a store has.
    fn stored(&self, trail: &ExportedTrail) -> u64 {
        let uses = trail.uses();
        let uids = self.answered.iter();
        uids.filter(|uid| uses.contains_key(uid.as_str())).count() as u64
    }

    /// Waits until each answered review is stored once or counted as lost. Returns the number of lost ones.
    pub async fn settled(&self) -> u64 {
        let answered = self.answered.len() as u64;
        let settled = poll(WAIT_TIMEOUT, || async {
            let trail = self.trail.store.export().await;
            (self.stored(&trail) + trail.lost() >= answered).then_some(())
        });
        let is_settled = settled.await.is_some();
        let trail = self.trail.store.export().await;
        let (stored, lost) = (self.stored(&trail), trail.lost());
        print_line(&format!(
            "answered {answered} = stored {stored} + lost {lost}"
        ));
        assert!(
            is_settled && stored + lost == answered,
            "answered {answered}, stored {stored}, lost {lost}"
        );
        let twice = trail.uses().into_iter().find(|(_, count)| *count != 1);
        assert_eq!(twice, None);
        if lost == 0 {
            trail.is_intact().await;
        }
        lost
    }

    /// Ends both programs, and imports the lines that standard output of `serve` has: nothing is lost then.
    pub async fn import_completes(&self) {
        for process in [&self.webhook, &self.trail.admin] {
            process.terminate();
            wait_for("the end", || async { process.exit_status() }).await;
        }
        let folder = self.webhook.launch.folder.path();
        let log = folder.join("floe-secrets-webhook.log");
        let log = log.display().to_string();
        let imported = self.trail.store.run("import", &[&log]).await;
        imported.expect_success();
        let trail = self.trail.store.export().await;
        assert_eq!(self.stored(&trail), self.answered.len() as u64);
        trail.is_intact().await;
    }

    /// Number of batches that `admin` has rejected.
    pub fn rejected(&self) -> u64 {
        self.trail
            .admin
            .counter_value("audit_rejected_batches", &[])
    }

    /// Waits until `serve` has failed to ship, and reports it.
    pub async fn shipping_fails(&self) {
        wait_for("a failure to ship", || async {
            let failures = self.webhook.counter_value("audit_shipping_failures", &[]);
            (failures > 0).then_some(())
        })
        .await;
    }

    /// Lines that wait for the collector.
    pub fn waiting_lines(&self) -> u64 {
        self.webhook.counter_value("audit_unshipped_lines", &[])
    }

    /// Waits until so many lines wait for the collector.
    pub async fn lines_wait(&self, count: u64) {
        wait_for("lines that wait", || async {
            (self.waiting_lines() >= count).then_some(())
        })
        .await;
    }

    /// Starts `admin` again without waiting until it is ready.
    pub fn respawn_admin(self) -> Self {
        let trail = self.trail.respawn_admin();
        Self { trail, ..self }
    }

    /// Runs `admin` again, which was killed or is killed by this.
    pub async fn restart_admin(self) -> Self {
        let trail = self.trail.restart_admin().await;
        Self { trail, ..self }
    }
}

/// Sends reviews one after the other on one connection. Returns the uids of those that were answered.
async fn send_all(webhook: &WebhookProcess, reviews: &[Value]) -> Vec<String> {
    let stream = TokioIo::new(webhook.connect_tls().await);
    let (mut sender, connection) = handshake(stream).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let mut answered = Vec::new();
    for review in reviews {
        let response = send(&mut sender, review).await;
        assert_eq!(response["response"]["allowed"], true, "{response}");
        let uid = response["response"]["uid"].as_str().expect("a uid");
        answered.push(uid.to_owned());
    }
    connection.abort();
    answered
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, review: &Value) -> Value {
    let request = Request::post("/admit/pods?timeout=10s")
        .header("host", SERVICE_HOST)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(review.to_string())))
        .expect("a request");
    sender.ready().await.expect("an open connection");
    let response = sender.send_request(request).await.expect("a response");
    let body = response.into_body().collect().await.expect("a body");
    serde_json::from_slice(&body.to_bytes()).expect("JSON")
}
