//! Workloads on a real API server with its controllers and kubectl, with the shipped permissions and configuration:
//! results of `kubectl apply`, changes that do not happen, and removals.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use serde_json::{Map, Value, json};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::namespace::TestNamespace;
use testbed::objects::{apply, send_as};
use testbed::wait_for;
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};

const ENV_FROM: &str = "secrets.floe.dev/env-from";
const INHERITED: &str = "secrets.floe.dev/inherited";
const RECORD: &str = "secrets.floe.dev/injected";
const LIST: &str = "secret.reloader.stakater.com/reload";

/// Namespace with a webhook of its own.
struct Fixture {
    // Dropped in this order: no calls to a webhook that is gone.
    registered: Option<Registration>,
    webhook: WebhookProcess,
    ns: TestNamespace,
    cp: &'static ControlPlane,
}

impl Fixture {
    async fn new(stem: &str, args: &[&str]) -> Self {
        Self::with(stem, &json!({}), args).await
    }

    async fn with(stem: &str, metadata: &Value, args: &[&str]) -> Self {
        let cp = ControlPlane::shared().await;
        let ns = cp.namespace_with(stem, metadata).await;
        for name in ["db", "api.token"] {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named(name), "stringData": {"k": "x"}});
            cp.create(&secret).await.object();
        }
        let (webhook, registered) = Self::serve(cp, &ns, args).await;
        Self {
            registered: Some(registered),
            webhook,
            ns,
            cp,
        }
    }

    async fn serve(
        cp: &ControlPlane,
        ns: &TestNamespace,
        args: &[&str],
    ) -> (WebhookProcess, Registration) {
        // One at a time: all of them apply the same manifests.
        static LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = LOCK.lock().await;
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity)
            .with(&["--log", "debug"])
            .with(args)
            .start()
            .await;
        let configuration = with_max_timeout(limited_to_namespaces(
            webhook.service_configuration(),
            &[&ns.name],
        ));
        let registered = Registration::shared(cp, &configuration).await;
        (webhook, registered)
    }

    /// Replaces the webhook of the namespace.
    async fn replace(&mut self, args: &[&str]) {
        self.registered = None;
        let (webhook, registered) = Self::serve(self.cp, &self.ns, args).await;
        self.webhook = webhook;
        self.registered = Some(registered);
    }

    async fn kubectl(&self, args: &[&str], stdin: &str) -> CommandOutput {
        self.cp
            .kubectl(&[&["-n", &self.ns.name], args].concat(), stdin)
            .await
    }

    async fn apply(&self, manifest: &Value, flags: &[&str]) -> CommandOutput {
        self.kubectl(
            &[&["apply", "-f", "-"], flags].concat(),
            &manifest.to_string(),
        )
        .await
    }

    async fn get(&self, what: &str) -> Value {
        let got = self
            .kubectl(&["get", what, "-o", "json", "--show-managed-fields"], "")
            .await
            .expect_success();
        serde_json::from_str(&got.stdout).expect("JSON")
    }

    /// Waits until the controllers have nothing more to write.
    async fn settled(&self, what: &str) -> Value {
        wait_for("the controllers have finished", || async {
            let before = self.get(what).await;
            let observed = &before["status"]["observedGeneration"];
            if !observed.is_null() && *observed != before["metadata"]["generation"] {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let after = self.get(what).await;
            (after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"])
                .then_some(after)
        })
        .await
    }

    async fn list(&self, kind: &str) -> Vec<Value> {
        self.get(kind).await["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    async fn pod(&self) -> Value {
        wait_for("a pod", || async { self.list("pods").await.pop() }).await
    }
}

fn annotations(pairs: &[(&str, &str)]) -> Value {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn template(restart: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": "none"}]}})
}

fn deployment(name: &str, pairs: &[(&str, &str)]) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "annotations": annotations(pairs)},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template("Always")}})
}

fn note(object: &Value, key: &str) -> Value {
    object["metadata"]["annotations"][key].clone()
}

/// Annotations that a template inherits from the metadata around it.
fn inherited(template: &Value) -> Value {
    serde_json::from_str(note(template, INHERITED).as_str().unwrap_or("null")).expect("JSON")
}

/// State that `kubectl` must not change.
fn still(object: &Value) -> (Value, Value) {
    (
        object["metadata"]["generation"].clone(),
        object["metadata"]["resourceVersion"].clone(),
    )
}

#[tokio::test]
async fn deployment_annotations_reach_its_pods() {
    let fixture = Fixture::new("carried", &[]).await;
    let applied = fixture
        .apply(&deployment("web", &[(ENV_FROM, "db, api.token")]), &[])
        .await
        .expect_success();
    assert_eq!(applied.stderr, "");
    let live = fixture.settled("deployment/web").await;
    assert_eq!(
        inherited(&live["spec"]["template"]),
        json!({"env-from": "db, api.token"})
    );
    assert_eq!(note(&live, LIST), r"api\.token,db");
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["envFrom"],
        json!(null),
        "annotations alone"
    );
    let pod = fixture.pod().await;
    let sources = json!([{"secretRef": {"name": "db"}}, {"secretRef": {"name": "api.token"}}]);
    assert_eq!(pod["spec"]["containers"][0]["envFrom"], sources);
    // The pod has the reload annotation of its workload; the template in between has none.
    assert_eq!(
        (note(&pod, LIST), note(&live["spec"]["template"], LIST)),
        (note(&live, LIST), json!(null))
    );
    assert_eq!(fixture.list("replicasets").await.len(), 1);
    let metrics = fixture.webhook.get("/metrics").expect("metrics").1;
    assert!(
        metrics
            .contains(r#"surface="workloads",operation="create",decision="mutated",reason="ok""#),
        "{metrics}"
    );
    // Nothing changes while nobody does anything: no loop between the webhook and the controllers.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(still(&fixture.get("deployment/web").await), still(&live));
    assert_eq!(fixture.list("replicasets").await.len(), 1);
}

#[tokio::test]
async fn each_kind_inherits_annotations_and_gets_its_reload_annotation() {
    let fixture = Fixture::new("kinds", &[]).await;
    let metadata =
        |name: &str| json!({"name": name, "annotations": annotations(&[(ENV_FROM, "db")])});
    let selector = json!({"matchLabels": {"app": "web"}});
    let job = json!({"backoffLimit": 0, "template": template("Never")});
    for (version, kind, spec, pointer, restarts) in [
        (
            "apps/v1",
            "StatefulSet",
            json!({"serviceName": "web", "selector": selector, "template": template("Always")}),
            "/spec/template",
            true,
        ),
        (
            "apps/v1",
            "DaemonSet",
            json!({"selector": selector, "template": template("Always")}),
            "/spec/template",
            true,
        ),
        ("batch/v1", "Job", job.clone(), "/spec/template", false),
        (
            "batch/v1",
            "CronJob",
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}),
            "/spec/jobTemplate/spec/template",
            false,
        ),
    ] {
        let name = kind.to_lowercase();
        let manifest =
            json!({"apiVersion": version, "kind": kind, "metadata": metadata(&name), "spec": spec});
        for flags in [
            &[][..],
            &[],
            &["--server-side", "--force-conflicts"],
            &["--server-side"],
        ] {
            let applied = fixture.apply(&manifest, flags).await.expect_success();
            assert_eq!(applied.stderr, "", "{kind} {flags:?}");
        }
        let live = fixture.get(&format!("{name}/{name}")).await;
        assert_eq!(
            inherited(live.pointer(pointer).expect("a template")),
            json!({"env-from": "db"}),
            "{kind}"
        );
        assert_eq!(
            note(&live, LIST),
            if restarts { json!("db") } else { json!(null) },
            "{kind}"
        );
    }
    fixture
        .kubectl(&["create", "job", "--from=cronjob/cronjob", "by-hand"], "")
        .await
        .expect_success();
    for (job, what) in [
        ("job", "a Job's own pod"),
        ("by-hand", "the pod of a CronJob's Job"),
    ] {
        let pods = wait_for(what, || async {
            let pods = fixture
                .kubectl(
                    &[
                        "get",
                        "pods",
                        "-l",
                        &format!("job-name={job}"),
                        "-o",
                        "json",
                    ],
                    "",
                )
                .await
                .expect_success();
            let pods: Value = serde_json::from_str(&pods.stdout).expect("JSON");
            pods["items"]
                .as_array()
                .filter(|items| !items.is_empty())
                .cloned()
        })
        .await;
        assert_eq!(
            pods[0]["spec"]["containers"][0]["envFrom"],
            json!([{"secretRef": {"name": "db"}}]),
            "{what}"
        );
        assert_eq!(
            note(&pods[0], LIST),
            json!(null),
            "{what} is never restarted"
        );
    }
}

#[tokio::test]
async fn missing_secret_warns_and_mistake_is_rejected() {
    let fixture = Fixture::new("missing", &[]).await;
    let applied = fixture
        .apply(&deployment("web", &[(ENV_FROM, "dbb")]), &[])
        .await
        .expect_success();
    let warning = format!(
        "Warning: secret \"dbb\" not found in namespace \"{}\"; pods are refused until it exists.",
        fixture.ns.name
    );
    assert!(applied.stderr.starts_with(&warning), "{}", applied.stderr);
    let events = wait_for("the event with the reason", || async {
        let events = fixture.list("events").await;
        let message: Vec<String> = events
            .iter()
            .filter(|event| event["reason"] == "FailedCreate")
            .filter_map(|event| event["message"].as_str().map(str::to_owned))
            .collect();
        message
            .into_iter()
            .find(|message| message.contains("secret \"dbb\" not found"))
    })
    .await;
    assert!(events.contains("pods.secrets.floe.dev"), "{events}");

    let denied = fixture
        .apply(
            &deployment(
                "strict",
                &[(ENV_FROM, "dbb"), ("secrets.floe.dev/on-missing", "deny")],
            ),
            &[],
        )
        .await;
    assert_eq!(denied.code, 1);
    assert!(
        denied
            .stderr
            .contains("secret \"dbb\" not found in namespace"),
        "{}",
        denied.stderr
    );

    let wrong = fixture
        .apply(
            &deployment(
                "wrong",
                &[
                    ("secrets.floe.dev/envfrom", "db"),
                    ("secrets.floe.dev/reload", "yes"),
                ],
            ),
            &[],
        )
        .await;
    assert_eq!(wrong.code, 1);
    for sentence in [
        "did you mean secrets.floe.dev/env-from?",
        "annotation secrets.floe.dev/reload",
    ] {
        assert!(wrong.stderr.contains(sentence), "{}", wrong.stderr);
    }
    // Updates that do not touch the annotations are not rejected because of them.
    fixture
        .kubectl(&["label", "deployment/web", "a=b"], "")
        .await
        .expect_success();
    fixture
        .kubectl(&["scale", "deployment/web", "--replicas=2"], "")
        .await
        .expect_success();
}

/// An author's own list and own sources are harder: both are sent again with every apply.
fn stubborn(name: &str) -> Value {
    let mut manifest = deployment(name, &[(ENV_FROM, "db"), (LIST, "other-.*")]);
    manifest["spec"]["template"]["metadata"]["annotations"] = json!({"team": "a"});
    manifest["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{"configMapRef": {"name": "config"}}]);
    manifest
}

/// Everything except the order of managed fields. They are ordered by the time of the last write, in whole seconds, so
/// that an apply which sends an author's own value of a shared annotation may move its entry once behind that of a
/// controller. No field changes, and the next apply moves nothing.
fn all_but_the_order_of_managers(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.remove("resourceVersion");
    let managers = metadata
        .get_mut("managedFields")
        .and_then(Value::as_array_mut)
        .expect("managed fields");
    for manager in managers.iter_mut() {
        manager.as_object_mut().expect("an entry").remove("time");
    }
    managers.sort_by_key(ToString::to_string);
    object
}

/// Asserts that an apply without changes changed nothing.
async fn stood_still(fixture: &Fixture, what: &str, before: Value, round: usize) -> Value {
    let after = fixture.get(what).await;
    assert_eq!(
        all_but_the_order_of_managers(after.clone()),
        all_but_the_order_of_managers(before.clone()),
        "{what}"
    );
    assert!(
        round == 1 || still(&after) == still(&before),
        "{what}: it moves again"
    );
    after
}

#[tokio::test]
async fn applying_a_plain_manifest_again_writes_nothing_at_all() {
    let fixture = Fixture::new("plain", &[]).await;
    for (name, way) in [("client", &[][..]), ("server", &["--server-side"])] {
        let mut manifest = deployment(name, &[(ENV_FROM, "db")]);
        manifest["spec"]["selector"]["matchLabels"]["app"] = json!(name);
        manifest["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
        fixture.apply(&manifest, way).await.expect_success();
        let what = format!("deployment/{name}");
        let live = fixture.settled(&what).await;
        assert_eq!(note(&live, LIST), "db");
        for round in 1..=2 {
            let diff = fixture
                .kubectl(&[&["diff", "-f", "-"], way].concat(), &manifest.to_string())
                .await;
            assert_eq!(
                (diff.code, diff.stdout.as_str()),
                (0, ""),
                "{way:?} {round}: {}",
                diff.stderr
            );
            fixture.apply(&manifest, way).await.expect_success();
            assert_eq!(
                still(&fixture.get(&what).await),
                still(&live),
                "{way:?} {round}"
            );
        }
    }
}

#[tokio::test]
async fn applying_again_changes_nothing() {
    let fixture = Fixture::new("gitops", &[]).await;
    for way in [&[][..], &["--server-side"]] {
        let name = if way.is_empty() { "client" } else { "server" };
        let mut manifest = stubborn(name);
        manifest["spec"]["selector"]["matchLabels"]["app"] = json!(name);
        manifest["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
        fixture.apply(&manifest, way).await.expect_success();
        let what = format!("deployment/{name}");
        let mut live = fixture.settled(&what).await;
        assert_eq!(note(&live, LIST), "other-.*,db");
        for round in 1..=2 {
            let diff = fixture
                .kubectl(&[&["diff", "-f", "-"], way].concat(), &manifest.to_string())
                .await;
            assert_eq!(
                (diff.code, diff.stdout.as_str()),
                (0, ""),
                "{way:?} {round}: {}",
                diff.stderr
            );
            let again = fixture.apply(&manifest, way).await.expect_success();
            assert_eq!(again.stderr, "", "{way:?} {round}");
            live = stood_still(&fixture, &what, live, round).await;
        }
        // A second field manager with a field of its own, and then one that shares the webhook's. Without kubectl,
        // which would take over what it applied client-side before.
        let path = format!(
            "/apis/apps/v1/namespaces/{}/deployments/{name}?fieldManager=second",
            fixture.ns.name
        );
        let metadata = json!({"name": name, "namespace": fixture.ns.name, "labels": {"cost": "b"}});
        let mut own = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
        for shares in [false, true] {
            if shares {
                own["metadata"]["annotations"] = json!({ENV_FROM: "db"});
            }
            let apply = "application/apply-patch+yaml";
            send_as(
                &fixture.cp.client(),
                Method::PATCH,
                &path,
                Some(&own),
                apply,
            )
            .await
            .object();
        }
        let labelled = fixture.settled(&what).await;
        assert_eq!(labelled["spec"], live["spec"]);
        assert_eq!(
            labelled["metadata"]["annotations"],
            live["metadata"]["annotations"]
        );
        assert_eq!(
            labelled["metadata"]["generation"],
            live["metadata"]["generation"]
        );
        let mut before = labelled;
        for round in 1..=2 {
            let again = fixture.apply(&manifest, way).await.expect_success();
            assert_eq!(again.stderr, "", "{way:?} {round}: no conflict");
            before = stood_still(&fixture, &what, before, round).await;
        }
    }
    assert_eq!(fixture.list("replicasets").await.len(), 2, "one for each");
}

#[tokio::test]
async fn applying_again_changes_nothing_with_the_template_injected() {
    let fixture = Fixture::new("template", &["--workloads-inject-template"]).await;
    let manifest = stubborn("web");
    fixture.apply(&manifest, &[]).await.expect_success();
    let mut live = fixture.settled("deployment/web").await;
    let sources = json!([{"secretRef": {"name": "db"}}, {"configMapRef": {"name": "config"}}]);
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["envFrom"],
        sources
    );
    for round in 1..=2 {
        let diff = fixture
            .kubectl(&["diff", "-f", "-"], &manifest.to_string())
            .await;
        assert_eq!(
            (diff.code, diff.stdout.as_str()),
            (0, ""),
            "{round}: {}",
            diff.stderr
        );
        fixture.apply(&manifest, &[]).await.expect_success();
        live = stood_still(&fixture, "deployment/web", live, round).await;
    }
    let pod = fixture.pod().await;
    assert_eq!(
        pod["spec"]["containers"][0]["envFrom"], sources,
        "once, and not twice"
    );
    let bare = {
        let mut bare = manifest.clone();
        bare["metadata"]["annotations"] = json!({LIST: "other-.*"});
        bare
    };
    fixture.apply(&bare, &[]).await.expect_success();
    let left = fixture.settled("deployment/web").await;
    assert_eq!(
        left["spec"]["template"]["spec"]["containers"][0]["envFrom"],
        json!([{"configMapRef": {"name": "config"}}])
    );
    // Older versions also write `creationTimestamp: null`.
    for message in ["labels", "annotations"] {
        assert_eq!(
            left["spec"]["template"]["metadata"][message],
            bare["spec"]["template"]["metadata"][message]
        );
    }
}

#[tokio::test]
async fn removal_takes_back_exactly_what_was_written() {
    let fixture = Fixture::new("removal", &[]).await;
    for (name, extra) in [("plain", None), ("listed", Some((LIST, "x.*,y")))] {
        let pairs: Vec<(&str, &str)> = [(ENV_FROM, "db")].into_iter().chain(extra).collect();
        let mut manifest = deployment(name, &pairs);
        manifest["spec"]["template"]["metadata"]["annotations"] =
            json!({"secrets.floe.dev/on-missing": "warn"});
        fixture.apply(&manifest, &[]).await.expect_success();
        let what = format!("deployment/{name}");
        assert!(note(&fixture.get(&what).await, RECORD).is_string());
        manifest["metadata"]["annotations"] = annotations(&pairs[1..]);
        fixture.apply(&manifest, &[]).await.expect_success();
        let live = fixture.get(&what).await;
        assert_eq!(note(&live, RECORD), json!(null));
        assert_eq!(
            note(&live, LIST),
            extra.map_or(json!(null), |(_, list)| json!(list))
        );
        assert_eq!(
            live["spec"]["template"]["metadata"]["annotations"],
            json!({"secrets.floe.dev/on-missing": "warn"})
        );
    }
}

#[tokio::test]
async fn author_opt_out_is_respected() {
    let fixture = Fixture::new("no", &[]).await;
    for (at, key, value) in [
        ("metadata", "reloader.stakater.com/auto", "false"),
        ("template", "reloader.stakater.com/auto", "false"),
        (
            "metadata",
            "secrets.exclude.reloader.stakater.com/reload",
            "db",
        ),
        ("metadata", "reloader.stakater.com/ignore", "true"),
        ("metadata", "reloader.stakater.com/auto", "true"),
        ("metadata", "secrets.infisical.com/auto-reload", "true"),
        ("metadata", "secrets.floe.dev/reload", "off"),
    ] {
        let mut manifest = deployment("web", &[(ENV_FROM, "db")]);
        let place = if at == "metadata" {
            &mut manifest
        } else {
            &mut manifest["spec"]["template"]
        };
        place["metadata"]["annotations"][key] = json!(value);
        manifest["metadata"]["namespace"] = json!(fixture.ns.name);
        let created = fixture.cp.create_dry_run(&manifest).await.object();
        assert_eq!(note(&created, LIST), json!(null), "{at} {key}: {value}");
        assert_eq!(
            inherited(&created["spec"]["template"])["env-from"],
            "db",
            "{at} {key}: {value}"
        );
    }
}

/// Number of Deployments that a new version of the webhook gets.
const FLEET: usize = 100;
/// Number of Deployments per kubectl: each limits itself to five requests per second after the first ten.
const BATCH: usize = 10;

/// Applies all of them server-side, as a `GitOps` controller does.
async fn apply_all(fixture: &Fixture, manifests: &[Value]) {
    let client = fixture.cp.client();
    for manifest in manifests {
        apply(&client, manifest).await.object();
    }
}

/// Objects of a kind, read without a kubectl process each time.
async fn all(fixture: &Fixture, plural: &str) -> Vec<Value> {
    let path = format!("/apis/apps/v1/namespaces/{}/{plural}", fixture.ns.name);
    let list = fixture.cp.request(Method::GET, &path, None).await.object();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Stored pod templates, once the controller has seen every generation.
async fn observed_templates(fixture: &Fixture) -> BTreeMap<String, Value> {
    wait_for(
        "the controller has seen every Deployment as it is",
        || async {
            let all = all(fixture, "deployments").await;
            let seen = |object: &Value| {
                object["status"]["observedGeneration"] == object["metadata"]["generation"]
            };
            let name = |object: &Value| {
                object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let templates = || {
                all.iter()
                    .map(|object| (name(object), object["spec"]["template"].clone()))
                    .collect()
            };
            (all.len() == FLEET && all.iter().all(seen)).then(templates)
        },
    )
    .await
}

async fn generations(fixture: &Fixture) -> Vec<Value> {
    all(fixture, "deployments")
        .await
        .iter()
        .map(|object| object["metadata"]["generation"].clone())
        .collect()
}

async fn replica_sets(fixture: &Fixture) -> BTreeSet<String> {
    let all = all(fixture, "replicasets").await;
    all.iter()
        .map(|object| {
            object["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// The other version is this one with other arguments: it would write more into every template than the first, which is
/// the worst that a version can do here.
#[tokio::test]
async fn new_webhook_version_rolls_nothing_out() {
    let mut fixture = Fixture::new("fleet", &[]).await;
    let mut manifests: Vec<Value> = (0..FLEET)
        .map(|index| {
            let mut manifest = deployment(
                &format!("web-{index}"),
                &[(ENV_FROM, "db"), ("secrets.floe.dev/refs", "api.token/*")],
            );
            let label = json!(format!("web-{index}"));
            manifest["spec"]["selector"]["matchLabels"]["app"] = label.clone();
            manifest["spec"]["template"]["metadata"]["labels"]["app"] = label;
            manifest["metadata"]["namespace"] = json!(fixture.ns.name);
            // A rollout shows in a ReplicaSet; pods would only take time.
            manifest["spec"]["replicas"] = json!(0);
            manifest
        })
        .collect();
    apply_all(&fixture, &manifests).await;
    let before = observed_templates(&fixture).await;
    assert!(
        before
            .values()
            .all(|template| inherited(template)["env-from"] == "db"),
        "each asks for secrets"
    );
    let (first, sets) = (generations(&fixture).await, replica_sets(&fixture).await);
    assert_eq!(sets.len(), FLEET);

    fixture.replace(&["--workloads-inject-template"]).await;
    let names: Vec<String> = (0..FLEET)
        .map(|index| format!("deployment/web-{index}"))
        .collect();
    join_all(names.chunks(BATCH).map(async |batch| {
        let batched = batch.iter().map(String::as_str);
        let args: Vec<&str> = ["label"]
            .into_iter()
            .chain(batched)
            .chain(["touched=yes"])
            .collect();
        let touched = fixture.kubectl(&args, "").await.expect_success();
        assert_eq!(
            touched.stdout.lines().count(),
            batch.len(),
            "{}",
            touched.stdout
        );
    }))
    .await;
    assert_eq!(
        generations(&fixture).await,
        first,
        "a label is no new generation"
    );
    apply_all(&fixture, &manifests).await;
    assert_eq!(
        generations(&fixture).await,
        first,
        "nor is the same manifest"
    );
    // The other version reviewed each.
    let updates = fixture.webhook.counter_value(
        "admission_requests",
        &["surface=\"workloads\"", "operation=\"update\""],
    );
    assert!(updates >= FLEET as u64, "{updates} updates");
    // A new generation without a new template: when the controller has seen it, it has seen all before it.
    for manifest in &mut manifests {
        manifest["spec"]["minReadySeconds"] = json!(1);
    }
    apply_all(&fixture, &manifests).await;
    assert_eq!(observed_templates(&fixture).await, before);
    assert_eq!(replica_sets(&fixture).await, sets, "no rollout");
    // Templates that are changed get the other version's fields.
    fixture
        .kubectl(&["rollout", "restart", "deployment/web-1"], "")
        .await
        .expect_success();
    let live = fixture.get("deployment/web-1").await;
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["envFrom"],
        json!([{"secretRef": {"name": "db"}}])
    );
}

#[tokio::test]
async fn workloads_continue_without_webhook() {
    let fixture = Fixture::new("down", &[]).await;
    let mut manifest = deployment("web", &[(ENV_FROM, "db")]);
    fixture.apply(&manifest, &[]).await.expect_success();
    let first = fixture.settled("deployment/web").await;
    manifest["metadata"]["annotations"][ENV_FROM] = json!("api.token");
    fixture.apply(&manifest, &[]).await.expect_success();
    fixture.settled("deployment/web").await;
    assert_eq!(fixture.list("replicasets").await.len(), 2);

    fixture.webhook.kill();
    fixture
        .kubectl(&["rollout", "undo", "deployment/web"], "")
        .await
        .expect_success();
    let undone = fixture.get("deployment/web").await;
    assert_eq!(undone["spec"]["template"], first["spec"]["template"]);
    assert_eq!(
        note(&undone, RECORD),
        note(&first, RECORD),
        "the record goes back with it"
    );
    fixture
        .kubectl(&["scale", "deployment/web", "--replicas=0"], "")
        .await
        .expect_success();
    let path = format!(
        "/apis/apps/v1/namespaces/{}/deployments/web/status",
        fixture.ns.name
    );
    let status = json!({"status": {"conditions": []}});
    assert!(
        fixture
            .cp
            .request(Method::PATCH, &path, Some(&status))
            .await
            .is_accepted()
    );
    fixture
        .apply(&deployment("new", &[(ENV_FROM, "db")]), &[])
        .await
        .expect_success();
    fixture
        .kubectl(&["delete", "deployment/web", "deployment/new"], "")
        .await
        .expect_success();
}

#[tokio::test]
async fn defaults_cause_restart_and_propagate_nothing() {
    let metadata =
        json!({"labels": {"secrets.floe.dev/inject": "enabled"}, "annotations": {ENV_FROM: "db"}});
    let fixture = Fixture::with("defaults", &metadata, &[]).await;
    fixture
        .apply(&deployment("web", &[]), &[])
        .await
        .expect_success();
    let live = fixture.settled("deployment/web").await;
    assert_eq!(note(&live, LIST), "db");
    assert_eq!(
        live["spec"]["template"]["metadata"]["annotations"],
        json!(null)
    );
    assert_eq!(
        fixture.pod().await["spec"]["containers"][0]["envFrom"],
        json!([{"secretRef": {"name": "db"}}])
    );
    fixture
        .apply(
            &deployment("out", &[("secrets.floe.dev/inject", "false")]),
            &[],
        )
        .await
        .expect_success();
    let out = fixture.get("deployment/out").await;
    assert_eq!(
        (note(&out, LIST), inherited(&out["spec"]["template"])),
        (json!(null), json!({"inject": "false"}))
    );
}
