//! Load on a real API server with the shipped permissions: bursts lose nothing, a new Secret counts at once, and an
//! unavailable backend does not block pods without annotations.
//!
//! The load comes from an ordinary `ServiceAccount`: `system:masters` is exempt from flow control and hides starvation.
//! Outcomes are asserted, never latency; the one deadline is that of a promise. Measurements are printed.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::admission_client::kubeconfig_for;
use testbed::control_plane::{ControlPlane, Options};
use testbed::namespace::{Identity, TestNamespace};
use testbed::objects::{ApiResponse, path, send};
use testbed::webhook::{
    Registration, limited_to_namespaces, manifest, webhook_identity, with_max_timeout,
};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{free_ports, objects, wait_for};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

/// Number of pods in a burst.
const BURST: usize = 500;

/// One test of this file at a time: they share two cores and one control plane.
async fn turn() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::const_new(());
    LOCK.lock().await
}

/// Namespace with the webhook in force and an ordinary user.
struct Fixture<'cp> {
    cp: &'cp ControlPlane,
    // Deleted before the webhook ends: fields drop in this order.
    _registration: Registration,
    webhook: WebhookProcess,
    ns: TestNamespace,
    loader: Identity,
}

impl<'cp> Fixture<'cp> {
    /// For bursts: with a Service, the API server opens a new TLS connection for nearly every pod, and a machine that
    /// also builds may not manage 500 of those within the shipped 5 s.
    async fn new(cp: &'cp ControlPlane, identity: &Identity) -> Self {
        Self::registered(cp, identity, cp.namespace("load").await, with_max_timeout).await
    }

    async fn in_namespace(cp: &'cp ControlPlane, identity: &Identity, ns: TestNamespace) -> Self {
        Self::registered(cp, identity, ns, std::convert::identity).await
    }

    async fn registered(
        cp: &'cp ControlPlane,
        identity: &Identity,
        ns: TestNamespace,
        change: fn(Value) -> Value,
    ) -> Self {
        let webhook = Launch::serve(cp, identity).start().await;
        let configuration = change(limited_to_namespaces(
            webhook.service_configuration(),
            &[&ns.name],
        ));
        let registration = Registration::shared(cp, &configuration).await;
        let rules =
            json!([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["create"]}]);
        let loader = cp.service_account(&ns.name, "loader", &rules).await;
        Self {
            cp,
            _registration: registration,
            webhook,
            ns,
            loader,
        }
    }

    fn secret(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": self.ns.named(name),
            "stringData": {"password": "x"},
        })
    }

    fn pod(&self, name: &str, secret: &str) -> Value {
        let mut metadata = self.ns.named(name);
        metadata["annotations"] = json!({"secrets.floe.dev/env-from": secret});
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        })
    }

    /// Creates the Secrets of a burst, with the API server's concurrency.
    async fn secrets(&self, names: &[String]) {
        let client = self.cp.client();
        let made = stream::iter(names.iter().map(|name| create(&client, self.secret(name))))
            .buffer_unordered(16);
        made.for_each(async |(response, _)| drop(response.object()))
            .await;
    }

    /// Creates a pod for each of these secrets, all concurrently.
    async fn burst(&self, stem: &str, secrets: &[String]) -> Burst {
        let client = self.loader.client();
        let before = self.reads();
        let began = Instant::now();
        let creates = secrets
            .iter()
            .enumerate()
            .map(|(at, secret)| create(&client, self.pod(&format!("{stem}-{at}"), secret)));
        let responses = join_all(creates).await;
        let took = began.elapsed();
        let mut burst = Burst {
            took,
            reads: self.reads() - before,
            ..Burst::default()
        };
        for (response, slowed) in responses {
            burst.slowed_down += slowed;
            if !response.is_accepted() {
                *burst
                    .refused
                    .entry(format!("{} {}", response.status, response.message()))
                    .or_default() += 1;
            } else if response
                .body
                .pointer("/spec/containers/0/envFrom/0/secretRef/name")
                .is_some()
            {
                burst.injected += 1;
            }
        }
        eprintln!("{stem}: {burst:?}");
        burst
    }

    /// GETs of Secrets by the webhook.
    fn reads(&self) -> u64 {
        self.webhook
            .counter_value("backend_requests", &["operation=\"bind\""])
    }
}

/// Results of a burst.
#[derive(Debug, Default, PartialEq, Eq)]
struct Burst {
    injected: usize,
    refused: BTreeMap<String, usize>,
    /// Number of 429 responses of the API server itself, before any webhook.
    slowed_down: usize,
    reads: u64,
    took: Duration,
}

/// Creates an object; a 429 by flow control is retried, as every client of Kubernetes does.
async fn create(client: &Client, object: Value) -> (ApiResponse, usize) {
    for slowed in 0.. {
        let response = send(
            client,
            Method::POST,
            &objects::collection(&object),
            Some(&object),
        )
        .await;
        if response.status != 429 || slowed == 120 {
            return (response, slowed);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    unreachable!("the loop ends by returning")
}

fn names(stem: &str) -> Vec<String> {
    (0..BURST).map(|at| format!("{stem}-{at}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_pods_is_injected_completely() {
    let _turn = turn().await;
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp, &webhook_identity(cp).await).await;
    let memory = fixture.webhook.memory();

    fixture.secrets(&["shared".to_owned()]).await;
    let same = fixture
        .burst("same", &vec!["shared".to_owned(); BURST])
        .await;
    assert_eq!((same.injected, &same.refused), (BURST, &BTreeMap::new()));
    assert!(same.reads <= 5, "one secret was read {} times", same.reads);

    let distinct = names("distinct");
    fixture.secrets(&distinct).await;
    let distinct = fixture.burst("distinct", &distinct).await;
    assert_eq!(
        (distinct.injected, &distinct.refused),
        (BURST, &BTreeMap::new())
    );
    // One each, and more where a busy API server was slow to respond.
    assert!(
        distinct.reads <= BURST as u64 * 3 / 2,
        "500 secrets were read {} times",
        distinct.reads
    );
    eprintln!(
        "memory (now, most) in KiB: {memory:?} before, {:?} after",
        fixture.webhook.memory()
    );
}

/// API server with low concurrency: the webhook's reads must not queue behind the creates that wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_survives_low_api_server_limits() {
    let _turn = turn().await;
    let flags = [
        "--max-requests-inflight=20",
        "--max-mutating-requests-inflight=10",
    ]
    .map(str::to_owned)
    .to_vec();
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        apiserver_flags: flags,
    })
    .await;
    let identity = webhook_identity(&cp).await;
    let fixture = Fixture::new(&cp, &identity).await;
    let flow_schema = await_own_flow(&cp, &identity).await;

    let limited = names("limited");
    fixture.secrets(&limited).await;
    let limited = fixture.burst("limited", &limited).await;
    assert_eq!(
        (limited.injected, &limited.refused),
        (BURST, &BTreeMap::new())
    );

    // Printed to show the effect of the FlowSchema.
    cp.request(Method::DELETE, &flow_schema, None)
        .await
        .object();
    wait_for("the webhook has no flow of its own", || async {
        (!has_own_flow(&cp, &identity).await).then_some(())
    })
    .await;
    let bare = names("bare");
    fixture.secrets(&bare).await;
    let bare = fixture.burst("without-flow-schema", &bare).await;
    eprintln!(
        "without the FlowSchema {} of {BURST} were refused",
        BURST - bare.injected
    );
}

/// Path of the FlowSchema, once the API server uses it for the webhook's requests.
async fn await_own_flow(cp: &ControlPlane, identity: &Identity) -> String {
    wait_for("the webhook's flow", || async {
        has_own_flow(cp, identity).await.then_some(())
    })
    .await;
    path(&own_flow_schema())
}

fn own_flow_schema() -> Value {
    let documents = objects::yaml(&manifest("flowcontrol.yaml"));
    documents
        .into_iter()
        .find(|document| document["kind"] == "FlowSchema")
        .expect("a FlowSchema is shipped")
}

async fn has_own_flow(cp: &ControlPlane, identity: &Identity) -> bool {
    let schema = cp
        .request(Method::GET, &path(&own_flow_schema()), None)
        .await;
    let request = http::Request::get("/api/v1/namespaces/default/secrets/none");
    let response = identity
        .client()
        .send(
            request
                .body(kube::client::Body::empty())
                .expect("a request"),
        )
        .await;
    let headers = response.expect("the API server responds").headers().clone();
    let filed_under = headers
        .get("x-kubernetes-pf-flowschema-uid")
        .and_then(|uid| uid.to_str().ok());
    filed_under.is_some() && filed_under == schema.body["metadata"]["uid"].as_str()
}

/// Race that caches lose: the pod is created right after the Secret's 201.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_counts_from_the_moment_it_exists() {
    let _turn = turn().await;
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp, &webhook_identity(cp).await).await;
    let client = fixture.loader.client();
    let (fixture, client) = (&fixture, &client);
    let pairs = stream::iter(0..BURST).map(async |at| {
        let secret = format!("fresh-{at}");
        // Also right after the webhook found that there is none.
        if at % 5 == 0 {
            let (early, _) = create(client, fixture.pod(&format!("early-{at}"), &secret)).await;
            assert_eq!(early.status, 422, "{}", early.body);
        }
        create(client, fixture.secret(&secret)).await.0.object();
        create(client, fixture.pod(&format!("pod-{at}"), &secret))
            .await
            .0
    });
    let responses: Vec<ApiResponse> = pairs.buffer_unordered(8).collect().await;
    let refused: Vec<&str> = responses
        .iter()
        .filter(|response| !response.is_accepted())
        .map(ApiResponse::message)
        .collect();
    assert_eq!(refused, [""; 0]);
    eprintln!("{BURST} pods, each right after its Secret: none refused");
}

// === unavailable backend ===

/// Kind of failure of the backend.
#[derive(Debug, Clone, Copy)]
enum BackendOutage {
    /// Nothing listens.
    ClosedPort,
    /// Connections are accepted, and nothing is ever sent.
    BlackHole {
        /// Without a TLS handshake.
        scheme: &'static str,
    },
}

/// Accepts connections and never responds. Stopped on drop.
struct BlackHole(AbortHandle);

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl BackendOutage {
    async fn url(self) -> (String, Option<BlackHole>) {
        match self {
            Self::ClosedPort => {
                let [port] = free_ports();
                (format!("http://127.0.0.1:{port}"), None)
            }
            Self::BlackHole { scheme } => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .await
                    .expect("a free port");
                let port = listener
                    .local_addr()
                    .expect("a bound listener has an address")
                    .port();
                let accepting = tokio::spawn(async move {
                    let mut held = Vec::new();
                    while let Ok((stream, _)) = listener.accept().await {
                        held.push(stream);
                    }
                });
                (
                    format!("{scheme}://127.0.0.1:{port}"),
                    Some(BlackHole(accepting.abort_handle())),
                )
            }
        }
    }
}

fn job(ns: &TestNamespace, name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": ns.named(name),
        "spec": {"template": {
            "metadata": {"annotations": annotations},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]},
        }},
    })
}

/// Requests of the Jobs with annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobRequests {
    /// All request the same secret.
    OneSecret,
    ASecretEach,
    /// No annotations: whether the namespace has defaults must be read first.
    Defaults,
}

/// The Job controller has five workers, and each Job with annotations occupies one while its pod is being rejected.
#[rstest::rstest]
#[case::refusing(BackendOutage::ClosedPort, JobRequests::ASecretEach)]
#[case::refusing_defaults(BackendOutage::ClosedPort, JobRequests::Defaults)]
#[case::silent(BackendOutage::BlackHole { scheme: "http" }, JobRequests::OneSecret)]
#[case::silent_each(BackendOutage::BlackHole { scheme: "http" }, JobRequests::ASecretEach)]
#[case::silent_defaults(BackendOutage::BlackHole { scheme: "http" }, JobRequests::Defaults)]
#[case::silent_before_tls(BackendOutage::BlackHole { scheme: "https" }, JobRequests::ASecretEach)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_backend_does_not_block_jobs_without_annotations(
    #[case] death: BackendOutage,
    #[case] asking: JobRequests,
) {
    const RETRY_TIMEOUT: Duration = Duration::from_secs(2);
    let _turn = turn().await;
    let cp = ControlPlane::shared().await;
    let (url, _hole) = death.url().await;
    let mut identity = webhook_identity(cp).await;
    identity.kubeconfig = kubeconfig_for(&cp.folder, &url);
    let label = if asking == JobRequests::Defaults {
        "enabled"
    } else {
        "no"
    };
    let ns = cp
        .namespace_with(
            "asking",
            &json!({"labels": {"secrets.floe.dev/inject": label}}),
        )
        .await;
    let fixture = Fixture::in_namespace(cp, &identity, ns).await;
    let (elsewhere, client) = (cp.namespace("plain").await, cp.client());

    for at in 0..10 {
        let annotations = match asking {
            JobRequests::OneSecret => json!({"secrets.floe.dev/env-from": "secret"}),
            JobRequests::ASecretEach => {
                json!({"secrets.floe.dev/env-from": format!("secret-{at}")})
            }
            JobRequests::Defaults => json!({}),
        };
        create(
            &client,
            job(&fixture.ns, &format!("asking-{at}"), &annotations),
        )
        .await
        .0
        .object();
    }
    let mut waits = Vec::new();
    // At once, and repeatedly while the controller retries the others.
    for at in 0..6 {
        let name = format!("plain-{at}");
        create(&client, job(&elsewhere, &name, &json!({})))
            .await
            .0
            .object();
        let created = Instant::now();
        let list = format!(
            "/api/v1/namespaces/{}/pods?labelSelector=job-name={name}",
            elsewhere.name
        );
        wait_for("the plain Job's pod", || async {
            let pods = send(&client, Method::GET, &list, None).await.object();
            pods["items"]
                .as_array()
                .filter(|pods| !pods.is_empty())
                .map(drop)
        })
        .await;
        waits.push(created.elapsed());
        tokio::time::sleep(Duration::from_millis(700).saturating_sub(created.elapsed())).await;
    }
    let refused = fixture
        .webhook
        .counter_value("admission_requests", &["decision=\"denied\""]);
    eprintln!("{death:?}, {asking:?}: plain Jobs' pods after {waits:?}; {refused} refusals");
    assert!(
        refused >= 10,
        "only {refused} refusals: the others were not even tried"
    );
    let late: Vec<_> = waits.iter().filter(|wait| **wait > RETRY_TIMEOUT).collect();
    assert!(
        late.is_empty(),
        "later than {RETRY_TIMEOUT:?}: {late:?}\n{}",
        fixture.webhook.log()
    );
}
