//! Second passes on a real API server: a pod that it sends to the webhook again, because another webhook changed it, is
//! one use of its secrets. A pod with a forged or copied annotation is a use of its own.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use base64::Engine as _;
use serde_json::{Value, json};
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, deployment, pod, prefixed, with};
use testbed::namespace::TestNamespace;
use testbed::stub_server::Stub;
use testbed::trail::{EVENT, ReplicaPod, Trail};
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{unique, wait_for};

/// Annotation by which the other webhook changes a pod.
const CHANGED: &str = "tests.floe.dev/changed";

/// `serve` that sends its lines to `admin`, and another webhook that is called after it.
struct Fixture {
    cp: &'static ControlPlane,
    /// Namespace without defaults, and one with a secret for all of its pods.
    namespaces: [TestNamespace; 2],
    webhook: WebhookProcess,
    trail: Trail,
    other: Stub,
    /// In force until the test ends.
    registrations: [Registration; 2],
}

impl Fixture {
    async fn start() -> Self {
        let cp = ControlPlane::shared().await;
        let defaults = json!({
            "labels": {"secrets.floe.dev/inject": "enabled"}, "annotations": prefixed(&json!({"env-from": "db"})),
        });
        let namespaces = [
            cp.namespace("passes").await,
            cp.namespace_with("passes", &defaults).await,
        ];
        for namespace in &namespaces {
            cp.secret(&namespace.name, "db", &["user"], "x").await;
        }
        let trail = Trail::start(cp).await;
        let replica = ReplicaPod::create(cp).await;
        let launch = Launch::serve(cp, &webhook_identity(cp).await);
        let launch = launch.with(&["--shutdown-delay", "0s"]);
        let webhook = trail.sent_by(launch, &replica).await.start().await;
        let names = [&*namespaces[0].name, &*namespaces[1].name];
        let configuration = with_max_timeout(webhook.service_configuration());
        let own = limited_to_namespaces(configuration, &names);
        let other = Stub::start_with(&cp.authority, change).await;
        let registrations = [
            Registration::shared(cp, &own).await,
            Registration::shared(cp, &later(&other, &names)).await,
        ];
        Self {
            cp,
            namespaces,
            webhook,
            trail,
            other,
            registrations,
        }
    }

    /// Pod that asks for the secret, and that the other webhook changes if its label says so.
    async fn create(&self, name: &str, is_changed: bool, event: Option<&str>) -> Value {
        let mut pod = pod(&self.namespaces[0].name, name, &asking());
        pod["metadata"]["labels"] = json!({"changed": is_changed.to_string()});
        if let Some(event) = event {
            pod["metadata"]["annotations"][EVENT] = event.into();
        }
        self.cp.create(&pod).await.object()
    }

    /// Events of pods in a namespace as `audit query` prints them, oldest first, as soon as there are `count`.
    async fn events(&self, namespace: usize, args: &[&str], count: usize) -> Vec<Value> {
        let namespace = &self.namespaces[namespace].name;
        let fixed = [
            "-o",
            "json",
            "--action",
            "pod.admit",
            "--namespace",
            namespace,
        ];
        let args = [&fixed, args].concat();
        wait_for("the records", || async {
            let queried = self.trail.store.run("query", &args).await.expect_success();
            let document: Value = serde_json::from_str(&queried.stdout).expect("JSON");
            let mut events = document["events"].as_array().cloned().unwrap_or_default();
            events.reverse();
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// Waits until all lines are stored, and ends the processes.
    async fn end(self) -> Trail {
        drop(self.registrations);
        self.webhook.stop().await;
        self.trail
    }
}

fn asking() -> Value {
    prefixed(&json!({"env-from": "db"}))
}

/// Response of the other webhook: an annotation, if there is none yet.
fn change(request: &Value) -> Value {
    if request["object"]["metadata"]["annotations"]
        .get(CHANGED)
        .is_some()
    {
        return json!({"allowed": true});
    }
    let pointer = format!("/metadata/annotations/{}", CHANGED.replace('/', "~1"));
    let patch = json!([{"op": "add", "path": pointer, "value": "yes"}]).to_string();
    let patch = base64::engine::general_purpose::STANDARD.encode(patch);
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// Configuration of the other webhook, with a name that sorts last.
fn later(other: &Stub, namespaces: &[&str]) -> Value {
    let mut later = other.url_configuration();
    later["metadata"]["name"] = format!("zzz-{}", unique("later")).into();
    let mut entry = later["webhooks"][0].take();
    for field in ["matchConditions", "namespaceSelector"] {
        entry.as_object_mut().expect("an entry").remove(field);
    }
    let own = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces});
    let fields = json!({
        "name": "later.tests.floe.dev",
        "namespaceSelector": {"matchExpressions": [own]},
        "objectSelector": {"matchLabels": {"changed": "true"}},
    });
    with(&mut entry, &fields);
    later["webhooks"] = json!([entry]);
    later
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    let text = value.pointer(path).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no {path}: {value}"))
}

/// Uid of the request of a record.
fn uid(event: &Value) -> &str {
    text(event, "/record/request/admission_uid")
}

fn event_of(created: &Value) -> &str {
    let event = created["metadata"]["annotations"][EVENT].as_str();
    event.expect("an event")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pod_that_is_sent_again_is_one_use() {
    let fixture = Fixture::start().await;
    let created = fixture.create("bare", true, None).await;
    // The webhook that made the last change is not called again.
    assert_eq!(fixture.other.calls_about("bare").len(), 1);
    let both = fixture.events(0, &["--second-passes"], 2).await;
    let [first, second] = &both[..] else {
        panic!("{both:#?}")
    };
    // The API server gives each review a uid of its own, also within one request.
    assert_ne!(uid(first), uid(second));
    assert_eq!(uid(first), event_of(&created));
    assert_eq!(text(second, "/record/request/found_event"), uid(first));
    assert_eq!(second["second_pass_of"], first["position"]);
    let uses = fixture.events(0, &[], 1).await;
    assert_eq!(uses.len(), 1, "{uses:#?}");
    assert_eq!(uses[0]["position"], first["position"]);
    // A record that is named is found.
    let named = fixture.events(0, &["--request-uid", uid(second)], 1).await;
    assert_eq!(named[0]["second_pass_of"], first["position"]);

    // Secrets by default.
    let mut default = pod(&fixture.namespaces[1].name, "default", &json!({"a": "b"}));
    default["metadata"]["labels"] = json!({"changed": "true"});
    fixture.cp.create(&default).await.object();
    let both = fixture.events(1, &["--second-passes"], 2).await;
    assert_eq!(both[1]["second_pass_of"], both[0]["position"], "{both:#?}");

    // Pods of a controller.
    let mut workload = deployment("dbt", &asking(), &json!([container()]));
    workload["spec"]["replicas"] = json!(3);
    workload["spec"]["template"]["metadata"]["labels"]["changed"] = "true".into();
    let namespace = &fixture.namespaces[0].name;
    let applied = fixture.cp.kubectl_apply(namespace, &workload).await;
    applied.expect_success();
    let all = fixture.events(0, &["--second-passes"], 8).await;
    assert_eq!(all.len(), 8, "{all:#?}");
    let uses = fixture.events(0, &[], 4).await;
    assert_eq!(uses.len(), 4, "{uses:#?}");
    for pod in fixture.cp.pods(namespace, "app=dbt").await {
        let is_its = |event: &&Value| uid(event) == event_of(&pod);
        assert_eq!(uses.iter().filter(is_its).count(), 1, "{uses:#?}");
    }

    let is_known = |event: &Value| event["asked_by"][0]["username"].is_string();
    let all = wait_for("the askers", || async {
        let all = fixture.events(0, &["--second-passes"], 8).await;
        all.iter().all(is_known).then_some(all)
    })
    .await;
    let asker = |event: &Value| text(event, "/asked_by/0/username").to_owned();
    for event in &all {
        let first = all
            .iter()
            .find(|first| first["position"] == event["second_pass_of"]);
        assert_eq!(asker(event), first.map_or(asker(event), asker));
        assert!(!asker(event).ends_with("replicaset-controller"), "{event}");
    }

    let exported = fixture.end().await.store.export().await;
    exported.is_intact().await;
    let records = exported.uses();
    assert!(
        all.iter().all(|event| records[uid(event)] == 1),
        "nothing is lost"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pod_with_a_forged_or_copied_annotation_is_a_use_of_its_own() {
    let fixture = Fixture::start().await;
    let namespace = &fixture.namespaces[0].name;
    let created = fixture.create("original", true, None).await;
    let event = event_of(&created);
    fixture.create("forged", false, Some("forged")).await;
    fixture.create("copy", false, Some(event)).await;
    let mut workload = deployment("copies", &asking(), &json!([container()]));
    workload["spec"]["replicas"] = json!(2);
    workload["spec"]["template"]["metadata"]["annotations"][EVENT] = event.into();
    let applied = fixture.cp.kubectl_apply(namespace, &workload).await;
    applied.expect_success();
    // Passes of a pod with such an annotation cannot be told from two pods with it: rather too many uses than too few.
    fixture
        .create("forged-and-changed", true, Some("forged"))
        .await;

    let all = fixture.events(0, &["--second-passes"], 8).await;
    let uses = fixture.events(0, &[], 7).await;
    assert_eq!((all.len(), uses.len()), (8, 7), "{all:#?}");
    let second = |event: &&Value| event["second_pass_of"].is_u64();
    let seconds: Vec<&Value> = all.iter().filter(second).collect();
    assert_eq!(seconds.len(), 1, "{seconds:#?}");
    assert_eq!(text(seconds[0], "/record/object/name"), "original");
    for (event, count) in [("forged", 3), (event, 4)] {
        let found = |found: &&Value| found["record"]["request"]["found_event"] == event;
        assert_eq!(all.iter().filter(found).count(), count, "{all:#?}");
    }
    fixture.end().await.store.export().await.is_intact().await;
}
