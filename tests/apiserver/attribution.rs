//! Askers behind the real controllers: the trail of a real `serve` in a store, attributed by the owners of a real API
//! server, and read by `audit query`.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use floe_secrets_webhook::attribution::{self, AttributionMetrics, Controllers};
use floe_secrets_webhook::audit::link::ChainId;
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::store::sqlite::{SqliteSettings, SqliteStore};
use floe_secrets_webhook::store::{AttributionStore as _, AuditStore as _, Batch, LinePosition};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, deployment, job, pod, prefixed, template};
use testbed::namespace::{Identity, TestNamespace};
use testbed::wait_for;
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};
use tokio::task::JoinHandle;

/// Store that is fed with the lines of a webhook's log, and attributed.
struct AttributedTrail {
    folder: TempDir,
    store: Arc<SqliteStore>,
    /// Lines that are stored.
    stored: usize,
    /// Seconds by which the clock of attribution is ahead.
    ahead: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl AttributedTrail {
    fn start(reader: &Identity) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = SqliteSettings {
            create: true,
            ..SqliteSettings::new(folder.path().join("audit.db"))
        };
        let store = Arc::new(SqliteStore::open(&settings).expect("a store"));
        let ahead = Arc::new(AtomicI64::new(0));
        let seconds = Arc::clone(&ahead);
        let clock = Clock::new(move || {
            Timestamp::now() + SignedDuration::from_secs(seconds.load(Ordering::Relaxed))
        });
        let task = tokio::spawn(attribution::run(
            store.clone(),
            reader.client(),
            Controllers::default(),
            AttributionMetrics::register(&mut Registry::default()),
            clock,
            tokio_util::sync::CancellationToken::new(),
        ));
        Self {
            folder,
            store,
            stored: 0,
            ahead,
            task,
        }
    }

    /// Stores the lines that the webhook has written since.
    async fn feed(&mut self, webhook: &WebhookProcess) {
        let log = webhook.log();
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let lines = complete.lines().filter(|line| {
            let line: Value = serde_json::from_str(line).expect("each line is JSON");
            line["chain"].is_object()
        });
        let new: Vec<&str> = lines.skip(self.stored).collect();
        let Some(first) = new.first() else { return };
        let first: Value = serde_json::from_str(first).expect("JSON");
        let chain = first["chain"]["id"].as_str().expect("a chain");
        let chain = ChainId::parse(chain).expect("a chain's id");
        let batch = Batch::parse(chain, new.join("\n").as_bytes()).expect("a batch");
        self.store.append(batch).await.expect("stored");
        self.stored += new.len();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.db")
    }

    /// Events as `audit query` prints them.
    async fn events(&self) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
        command.args([
            "audit", "query", "-o", "json", "--limit", "10000", "--store",
        ]);
        command.arg(self.path());
        let printed = CommandOutput::run_async(command, "").await.expect_success();
        let document: Value = serde_json::from_str(&printed.stdout).expect("JSON");
        document["events"].as_array().cloned().unwrap_or_default()
    }

    /// Askers of a secret in the records of objects whose names begin so, each once.
    async fn askers(&self, action: &str, prefix: &str, secret: &str) -> Vec<String> {
        let mut found = Vec::new();
        for event in self.events().await {
            let (record, askers) = (&event["record"], event["asked_by"].as_array());
            let object = &record["object"];
            let name = object["name"].as_str().or(object["generate_name"].as_str());
            let is_named = name.is_some_and(|name| name.starts_with(prefix));
            if record["action"] != action || !is_named {
                continue;
            }
            let of_secret = |asker: &&Value| asker["name"] == secret;
            for asker in askers.into_iter().flatten().filter(of_secret) {
                let name = asker["username"].as_str().or(asker["unknown"].as_str());
                let name = name.expect("an asker or a reason");
                found.push(name.rsplit(':').next().unwrap_or(name).to_owned());
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Waits until each stored record was looked at once: the time to give up counts from there.
    async fn is_looked_at(&self) {
        wait_for("a look at each record", || async {
            let left = self.store.unattributed(LinePosition::default()).await;
            let left = left.expect("a store that can be read");
            left.iter().all(|event| event.since.is_some()).then_some(())
        })
        .await;
    }

    /// Waits until a secret has this asker in all records of some objects.
    async fn expect(&mut self, webhook: &WebhookProcess, row: (&str, &str, &str, &str)) {
        let (action, prefix, secret, expected) = row;
        let deadline = tokio::time::Instant::now() + testbed::WAIT_TIMEOUT;
        loop {
            self.feed(webhook).await;
            let found = self.askers(action, prefix, secret).await;
            if found == [expected] {
                return;
            }
            let is_late = tokio::time::Instant::now() > deadline;
            assert!(!is_late, "{row:?}: {found:?} in {:#?}", self.events().await);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

impl Drop for AttributedTrail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rights of the process that keeps the trail: single objects, no secrets.
fn reader_rules() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["namespaces", "serviceaccounts"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["daemonsets", "deployments", "replicasets", "statefulsets"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": ["get"]},
        {"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get"]},
    ])
}

/// People who may write all that asks for secrets in their namespace.
async fn person(cp: &ControlPlane, namespace: &TestNamespace, name: &str) -> Identity {
    let rules = json!([{"apiGroups": ["", "apps", "batch"], "resources": ["*"], "verbs": ["*"]}]);
    cp.service_account(&namespace.name, name, &rules).await
}

async fn serve(cp: &ControlPlane) -> WebhookProcess {
    let args = ["--audit", "stdout", "--shutdown-delay", "0s"];
    let launch = Launch::serve(cp, &webhook_identity(cp).await).with(&args);
    launch.start().await
}

async fn register(
    cp: &ControlPlane,
    webhook: &WebhookProcess,
    namespace: &TestNamespace,
) -> Registration {
    let configuration = with_max_timeout(webhook.service_configuration());
    let limited = limited_to_namespaces(configuration, &[&namespace.name]);
    Registration::shared(cp, &limited).await
}

struct Fixture {
    cp: &'static ControlPlane,
    namespace: TestNamespace,
    webhook: WebhookProcess,
    trail: AttributedTrail,
    registration: Option<Registration>,
}

impl Fixture {
    async fn start(stem: &str, metadata: &Value) -> Self {
        let cp = ControlPlane::shared().await;
        let namespace = cp.namespace_with(stem, metadata).await;
        for secret in ["a", "b"] {
            cp.secret(&namespace.name, secret, &["user"], "x").await;
        }
        let rules = reader_rules();
        let reader = cp.service_account(&namespace.name, "reader", &rules).await;
        let webhook = serve(cp).await;
        let registration = register(cp, &webhook, &namespace).await;
        Self {
            cp,
            namespace,
            webhook,
            trail: AttributedTrail::start(&reader),
            registration: Some(registration),
        }
    }

    async fn kubectl(&self, person: &Identity, args: &[&str], manifest: &Value) {
        let namespaced = [&["-n", self.namespace.name.as_str()][..], args].concat();
        let stdin = manifest.to_string();
        let run = self.cp.kubectl_as(&person.kubeconfig, &namespaced, &stdin);
        run.await.expect_success();
    }

    async fn apply(&self, person: &Identity, manifest: &Value) {
        self.kubectl(person, &["create", "-f", "-"], manifest).await;
    }

    async fn expect(&mut self, action: &str, prefix: &str, secret: &str, asker: &str) {
        let row = (action, prefix, secret, asker);
        self.trail.expect(&self.webhook, row).await;
    }

    fn path(&self, group: &str, plural: &str, name: &str) -> String {
        format!(
            "/apis/{group}/v1/namespaces/{}/{plural}/{name}",
            self.namespace.name
        )
    }

    async fn is_absent(&self, path: &str) -> bool {
        self.cp.request(Method::GET, path, None).await.status == 404
    }
}

fn asking(secrets: &str) -> Value {
    prefixed(&json!({"env-from": secrets}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_have_their_askers() {
    let mut fixture = Fixture::start("askers", &json!({})).await;
    let (cp, namespace) = (fixture.cp, fixture.namespace.name.clone());
    let alice = person(cp, &fixture.namespace, "alice").await;
    let bob = person(cp, &fixture.namespace, "bob").await;
    let mallory = person(cp, &fixture.namespace, "mallory").await;

    // Two secrets of one Deployment.
    let mut api = deployment("api", &json!({}), &json!([container()]));
    api["metadata"]["annotations"] = asking("a");
    fixture.apply(&alice, &api).await;
    fixture.expect("pod.admit", "api-", "a", "alice").await;
    let both = json!({"metadata": {"annotations": asking("a,b")}}).to_string();
    let args = ["patch", "deployment", "api", "--patch", &both];
    fixture.kubectl(&bob, &args, &json!({})).await;
    fixture.expect("pod.admit", "api-", "b", "bob").await;
    fixture.expect("pod.admit", "api-", "a", "alice").await;
    fixture.expect("workload.admit", "api", "b", "bob").await;

    // A pod that somebody else gives the Deployment's ReplicaSet as its owner.
    let args = ["-n", &namespace, "get", "replicasets", "-o", "json"];
    let sets = cp.kubectl(&args, "").await.expect_success();
    let sets: Value = serde_json::from_str(&sets.stdout).expect("JSON");
    let mut forged = pod(&namespace, "forged", &asking("a"));
    forged["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
        "name": sets["items"][0]["metadata"]["name"], "uid": sets["items"][0]["metadata"]["uid"],
    }]);
    fixture.apply(&mallory, &forged).await;
    fixture.expect("pod.admit", "forged", "a", "mallory").await;

    // Pods of workloads without an object between.
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web",
            "template": template("web", &asking("a"), &json!([container()])),
        },
    });
    fixture.apply(&bob, &set).await;
    fixture.expect("pod.admit", "web-0", "a", "bob").await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}))
        .await
        .object();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": template("agent", &asking("b"), &json!([container()])),
        },
    });
    fixture.apply(&alice, &set).await;
    fixture.expect("pod.admit", "agent-", "b", "alice").await;
    fixture
        .apply(&alice, &job("load", &asking("a"), &json!([container()])))
        .await;
    fixture.expect("pod.admit", "load-", "a", "alice").await;
    let mut generated = job("", &asking("b"), &json!([container()]));
    generated["metadata"] = json!({"generateName": "once-"});
    fixture.apply(&bob, &generated).await;
    fixture.expect("pod.admit", "once-", "b", "bob").await;
    fixture
        .apply(&bob, &pod(&namespace, "bare", &asking("b")))
        .await;
    fixture.expect("pod.admit", "bare", "b", "bob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_have_their_askers() {
    let mut fixture = Fixture::start("jobs", &json!({})).await;
    let cp = fixture.cp;
    let alice = person(cp, &fixture.namespace, "alice").await;
    let bob = person(cp, &fixture.namespace, "bob").await;
    let mut template = job("", &asking("a"), &json!([container()]));
    let schedule = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "etl"},
        "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": template["spec"].take()},
        },
    });
    fixture.apply(&alice, &schedule).await;
    let args = ["create", "job", "manual", "--from=cronjob/etl"];
    fixture.kubectl(&bob, &args, &json!({})).await;
    fixture.expect("workload.admit", "manual", "a", "bob").await;
    fixture.expect("pod.admit", "manual-", "a", "bob").await;
    // The Job of the schedule comes within a minute.
    fixture.expect("pod.admit", "etl-", "a", "alice").await;
    fixture.expect("workload.admit", "etl", "a", "alice").await;

    // A Job that is removed as soon as it is complete.
    let mut short = job("short", &asking("b"), &json!([container()]));
    short["spec"]["ttlSecondsAfterFinished"] = json!(0);
    fixture.apply(&bob, &short).await;
    fixture.expect("pod.admit", "short-", "b", "bob").await;
    let pods = cp.pods(&fixture.namespace.name, "app=short").await;
    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    let status = json!({"status": {"phase": "Succeeded"}}).to_string();
    let args = [
        "patch",
        "pod",
        name,
        "--subresource=status",
        "--patch",
        &status,
    ];
    fixture.kubectl(&bob, &args, &json!({})).await;
    let path = fixture.path("batch", "jobs", "short");
    wait_for("the Job's end", || async {
        fixture.is_absent(&path).await.then_some(())
    })
    .await;
    fixture.expect("pod.admit", "short-", "b", "bob").await;

    // A trail that arrives after the Job was removed.
    let reader = cp.identity(&fixture.namespace.name, "reader").await;
    let mut late = AttributedTrail::start(&reader);
    let gone = ("pod.admit", "short-", "b", "owner-gone");
    late.expect(&fixture.webhook, gone).await;
    let living = ("pod.admit", "manual-", "a", "bob");
    late.expect(&fixture.webhook, living).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_are_asked_for_by_their_authors() {
    let label = json!({"labels": {"secrets.floe.dev/inject": "enabled"}});
    let mut fixture = Fixture::start("defaults", &label).await;
    let (cp, namespace) = (fixture.cp, fixture.namespace.name.clone());
    let alice = person(cp, &fixture.namespace, "alice").await;
    let bob = person(cp, &fixture.namespace, "bob").await;
    let carol = person(cp, &fixture.namespace, "carol").await;
    let annotate = [
        "annotate",
        "namespace",
        &namespace,
        "secrets.floe.dev/env-from=a",
    ];
    fixture.kubectl(&alice, &annotate, &json!({})).await;
    let annotate = [
        "annotate",
        "serviceaccount",
        "default",
        "secrets.floe.dev/env.B=b/user",
    ];
    fixture.kubectl(&bob, &annotate, &json!({})).await;
    // Defaults are cached for 30 s.
    wait_for("the defaults", || async {
        let name = format!("probe-{:08x}", fastrand::u32(..));
        let created = cp
            .create(&pod(&namespace, &name, &json!({})))
            .await
            .object();
        let container = &created["spec"]["containers"][0];
        (container["env"].is_array() && container["envFrom"].is_array()).then_some(())
    })
    .await;
    fixture
        .apply(&carol, &pod(&namespace, "bare", &json!({})))
        .await;
    fixture.expect("pod.admit", "bare", "a", "alice").await;
    fixture.expect("pod.admit", "bare", "b", "bob").await;
    let workload = deployment("api", &json!({}), &json!([container()]));
    fixture.apply(&carol, &workload).await;
    fixture.expect("pod.admit", "api-", "a", "alice").await;
    fixture.expect("pod.admit", "api-", "b", "bob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namesake_without_a_record_has_no_asker() {
    let mut fixture = Fixture::start("namesake", &json!({})).await;
    let cp = fixture.cp;
    let alice = person(cp, &fixture.namespace, "alice").await;
    let bob = person(cp, &fixture.namespace, "bob").await;
    let mut twin = deployment("twin", &asking("a"), &json!([container()]));
    twin["spec"]["replicas"] = json!(0);
    fixture.apply(&alice, &twin).await;
    fixture.expect("workload.admit", "twin", "a", "alice").await;
    let created = Timestamp::now();
    fixture
        .kubectl(&alice, &["delete", "deployment", "twin"], &json!({}))
        .await;
    drop(fixture.registration.take());
    // Within five seconds, a record may be of the new object.
    wait_for("another time", || async {
        (Timestamp::now().duration_since(created) > SignedDuration::from_secs(7)).then_some(())
    })
    .await;
    fixture.apply(&bob, &twin).await;
    fixture.registration = Some(register(cp, &fixture.webhook, &fixture.namespace).await);
    fixture
        .kubectl(
            &bob,
            &["scale", "deployment", "twin", "--replicas=1"],
            &json!({}),
        )
        .await;
    fixture.expect("pod.admit", "twin-", "a", "pending").await;
    fixture.trail.is_looked_at().await;
    fixture.trail.ahead.store(601, Ordering::Relaxed);
    fixture.expect("pod.admit", "twin-", "a", "no-record").await;
}
