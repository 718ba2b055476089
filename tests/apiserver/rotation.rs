//! `rotation` on a real API server: consumers of a Secret by every kind of use, pods whose containers started before
//! its data changed, and the wait until there are none. The statuses of pods are written by the tests: no kubelet runs.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::audit::AuditLog;
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, deployment, job, pod, prefixed};
use testbed::namespace::TestNamespace;
use testbed::objects::send_as;
use testbed::wait_for;

const CANARY: &str = "canary-4be17a";

/// Permissions for reading the consumers of one namespace.
fn readers_rules() -> Value {
    let read = json!(["get", "list"]);
    json!([
        {"apiGroups": [""], "resources": ["pods", "serviceaccounts"], "verbs": read},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"], "verbs": read},
        {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": read},
    ])
}

fn rotation_command(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.arg("rotation").arg("--kubeconfig").arg(kubeconfig);
    command.args(args);
    command
}

/// Namespace with a Secret, and a user who may read its consumers.
struct Fixture<'c> {
    cp: &'c ControlPlane,
    ns: TestNamespace,
    kubeconfig: PathBuf,
    username: String,
}

impl<'c> Fixture<'c> {
    async fn new(cp: &'c ControlPlane) -> Self {
        let ns = cp.namespace("rotation").await;
        cp.secret(&ns.name, "db", &["password", "user"], CANARY)
            .await;
        let user = cp
            .service_account(&ns.name, "reader", &readers_rules())
            .await;
        Self {
            cp,
            ns,
            kubeconfig: user.kubeconfig,
            username: user.username,
        }
    }

    fn path(&self, plural: &str, name: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}/{name}", self.ns.name)
    }

    async fn rotation(&self, args: &[&str]) -> CommandOutput {
        let all = [&["secret/db", "-n", &self.ns.name][..], args].concat();
        CommandOutput::run_async(rotation_command(&self.kubeconfig, &all), "").await
    }

    /// Consumers as JSON, with the exit code.
    async fn consumers(&self) -> (i32, Value) {
        let output = self.rotation(&["-o", "json"]).await;
        let found = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.code, found)
    }

    async fn create_pod(&self, name: &str, container: &Value) {
        let mut pod = pod(&self.ns.name, name, &json!({}));
        pod["spec"]["containers"] = json!([container]);
        self.cp.create(&pod).await.object();
    }

    /// Writes the status that a kubelet would write for a container that started at this time.
    async fn run(&self, pod: &str, started: Timestamp) {
        let state = json!({"running": {"startedAt": started.to_string()}});
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "main", "image": "none", "imageID": "none", "ready": true, "restartCount": 0, "state": state,
        }]}});
        let path = format!("{}/status", self.path("pods", pod));
        let client = self.cp.client();
        let merge = "application/merge-patch+json";
        send_as(&client, Method::PATCH, &path, Some(&status), merge)
            .await
            .object();
    }

    /// Writes new data as another manager, and returns the time of that by the API server's clock.
    async fn change(&self) -> Timestamp {
        let change = json!({"stringData": {"password": format!("{CANARY}-2")}});
        let path = format!("{}?fieldManager=rotator", self.path("secrets", "db"));
        let secret = self
            .cp
            .request(Method::PATCH, &path, Some(&change))
            .await
            .object();
        let entries = secret["metadata"]["managedFields"]
            .as_array()
            .expect("managed fields");
        let entry = entries
            .iter()
            .find(|entry| entry["manager"] == "rotator")
            .expect("the manager");
        entry["time"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time")
    }
}

fn seconds(count: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(count)
}

fn env_from(name: &str) -> Value {
    json!({"name": "main", "image": "none", "envFrom": [{"secretRef": {"name": name}}]})
}

fn find<'v>(list: &'v Value, name: &str) -> &'v Value {
    let mut items = list.as_array().expect("a list").iter();
    items
        .find(|item| item["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {list:#}"))
}

#[tokio::test]
async fn pods_with_old_value_are_named_until_they_are_replaced() {
    let fixture = Fixture::new(ControlPlane::shared().await).await;
    for name in ["old", "new"] {
        fixture.create_pod(name, &env_from("db")).await;
    }
    fixture.create_pod("other", &env_from("db2")).await;
    let created = Timestamp::now();
    for name in ["old", "new", "other"] {
        fixture.run(name, created + seconds(5)).await;
    }
    let (code, fresh) = fixture.consumers().await;
    assert_eq!(
        (code, &fresh["counts"]["pods"]),
        (0, &json!(2)),
        "{fresh:#}"
    );

    // Times have whole seconds: the change has to be later than the start.
    wait_for("the start is over", || async {
        (Timestamp::now() > created + seconds(6)).then_some(())
    })
    .await;
    let changed = fixture.change().await;
    // The kubelet may have taken the value before the change.
    fixture.run("new", changed + seconds(10)).await;
    let (_, found) = fixture.consumers().await;
    let value = &find(&found["pods"], "new")["value"];
    assert_eq!(value, "possiblyOld", "{found:#}");
    fixture.run("new", changed + seconds(11)).await;
    // A pod from after the change has read the value after it.
    fixture.create_pod("replaced", &env_from("db")).await;
    fixture.run("replaced", changed + seconds(1)).await;
    let (code, found) = fixture.consumers().await;
    assert_eq!(code, 1, "{found:#}");
    let time = json!(changed.to_string());
    assert_eq!(
        found["secret"]["changed"],
        json!({"earliest": time, "latest": time}),
        "a manager of the data alone has an exact time"
    );
    assert_eq!(found["secret"]["keys"], json!(["password", "user"]));
    assert_eq!(find(&found["pods"], "old")["value"], "old", "{found:#}");
    for name in ["new", "replaced"] {
        assert_eq!(find(&found["pods"], name)["value"], "current", "{found:#}");
    }
    assert_eq!(found["counts"]["old"], 1);

    let table = fixture.rotation(&[]).await;
    assert_eq!(table.code, 1, "{table:?}");
    assert!(
        table
            .stdout
            .contains("1 of 3 pods run with an older value."),
        "{table:?}"
    );
    assert!(
        table
            .stdout
            .contains("A pod without an owner has to be deleted"),
        "{table:?}"
    );

    let late = fixture.rotation(&["--wait", "3s"]).await;
    assert_eq!(late.code, 1, "{late:?}");
    let waiting = rotation_command(
        &fixture.kubeconfig,
        &["secret/db", "-n", &fixture.ns.name, "--wait", "2m"],
    );
    let (waited, ()) = futures::future::join(CommandOutput::run_async(waiting, ""), async {
        let path = format!("{}?gracePeriodSeconds=0", fixture.path("pods", "old"));
        fixture
            .cp
            .request(Method::DELETE, &path, None)
            .await
            .object();
    })
    .await;
    assert_eq!(waited.code, 0, "{waited:?}");
    assert!(
        waited
            .stdout
            .contains("None of 2 pods runs with an older value."),
        "{waited:?}"
    );
}

#[tokio::test]
async fn every_use_is_found_with_its_effect() {
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp).await;
    let n = fixture.ns.name.as_str();
    let none = json!({});
    let zero = |mut object: Value| {
        object["spec"]["replicas"] = 0.into();
        object
    };
    let mut named = zero(deployment("named", &none, &json!([env_from("db")])));
    named["metadata"]["annotations"] = json!({"secret.reloader.stakater.com/reload": "db"});
    let by_key = json!({"name": "main", "image": "none",
        "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]});
    let bare = zero(deployment("bare", &none, &json!([by_key])));
    let mounting = json!({"name": "main", "image": "none", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let mut mounted = zero(deployment("mounted", &none, &json!([mounting])));
    mounted["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "v", "secret": {"secretName": "db"}}]);
    let one_file = json!({"name": "main", "image": "none",
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "password"}]});
    let mut file = zero(deployment("file", &none, &json!([one_file])));
    file["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}]}}]);
    let mut pulling = zero(deployment("pulling", &none, &json!([container()])));
    pulling["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{"name": "db"}]);
    let annotated = zero(deployment(
        "annotated",
        &prefixed(&json!({"env-from": "db"})),
        &json!([container()]),
    ));
    let other = zero(deployment("other", &none, &json!([env_from("db2")])));
    let run = job("once", &none, &json!([env_from("db")]));
    let nightly = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 30 2 *", "jobTemplate": {"spec": run["spec"]}},
    });
    for object in [
        &named, &bare, &mounted, &file, &pulling, &annotated, &other, &run, &nightly,
    ] {
        cp.kubectl_apply(n, object).await.expect_success();
    }
    cp.pod_of(n, "app=once").await;

    let (_, found) = fixture.consumers().await;
    let effects: Vec<(String, String, String)> = found["workloads"]
        .as_array()
        .expect("workloads")
        .iter()
        .map(|workload| {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            (
                text(&workload["name"]),
                text(&workload["uses"][0]["by"]),
                text(&workload["change"]),
            )
        })
        .collect();
    let row =
        |name: &str, by: &str, effect: &str| (name.to_owned(), by.to_owned(), effect.to_owned());
    let expected = [
        row("nightly", "envFrom", "nextRun"),
        row("annotated", "annotation", "keepsOldValue"),
        row("bare", "env", "keepsOldValue"),
        row("file", "subPath", "keepsOldValue"),
        row("mounted", "volume", "follows"),
        row("named", "envFrom", "restarts"),
        row("pulling", "imagePull", "follows"),
        row("once", "envFrom", "nextRun"),
    ];
    assert_eq!(effects, expected, "{found:#}");
    let named = find(&found["workloads"], "named");
    assert_eq!(
        named["annotation"], "secret.reloader.stakater.com/reload",
        "{named:#}"
    );
    let pods = found["pods"].as_array().expect("pods");
    assert_eq!(
        (pods.len(), &pods[0]["owner"], &pods[0]["change"]),
        (1, &json!("Job/once"), &json!("nextRun"))
    );
    let table = fixture.rotation(&[]).await;
    testbed::print_line(&table.stdout);
    assert!(
        table
            .stdout
            .contains("Reloader restarts it (secret.reloader.stakater.com/reload)"),
        "{table:?}"
    );
}

#[tokio::test]
async fn change_by_manager_of_other_fields_is_at_the_latest() {
    let fixture = Fixture::new(ControlPlane::shared().await).await;
    fixture.create_pod("app", &env_from("db")).await;
    let created = Timestamp::now();
    fixture.run("app", created + seconds(2)).await;
    wait_for("the start is over", || async {
        (Timestamp::now() > created + seconds(3)).then_some(())
    })
    .await;
    let both = json!({"metadata": {"labels": {"a": "b"}}, "stringData": {"password": "x"}});
    let path = format!("{}?fieldManager=both", fixture.path("secrets", "db"));
    fixture
        .cp
        .request(Method::PATCH, &path, Some(&both))
        .await
        .object();
    let (code, found) = fixture.consumers().await;
    assert_eq!(
        (code, &found["counts"]["possiblyOld"]),
        (1, &json!(1)),
        "{found:#}"
    );
    let table = fixture.rotation(&[]).await;
    assert!(table.stdout.contains("at the latest"), "{table:?}");

    // Labels alone are not a change of data.
    let labels = json!({"metadata": {"labels": {"c": "d"}}});
    let path = format!("{}?fieldManager=labels", fixture.path("secrets", "db"));
    fixture
        .cp
        .request(Method::PATCH, &path, Some(&labels))
        .await
        .object();
    let (_, after) = fixture.consumers().await;
    assert_eq!(after["secret"]["changed"], found["secret"]["changed"]);
}

#[tokio::test]
async fn missing_secret_and_permissions_exit_with_2() {
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp).await;
    let n = fixture.ns.name.as_str();
    let missing = rotation_command(&fixture.kubeconfig, &["secret/none", "-n", n]);
    let missing = CommandOutput::run_async(missing, "").await;
    let expected = format!("error: secret \"none\" not found in namespace \"{n}\".");
    assert!(
        missing.code == 2 && missing.stderr.starts_with(&expected),
        "{missing:?}"
    );
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    let user = cp.service_account(n, "pods-only", &rules).await;
    let owned = deployment("owned", &json!({}), &json!([env_from("db")]));
    cp.kubectl_apply(n, &owned).await.expect_success();
    cp.pod_of(n, "app=owned").await;
    let partial = rotation_command(&user.kubeconfig, &["db", "-n", n]);
    let partial = CommandOutput::run_async(partial, "").await;
    assert!(
        partial.code == 0
            && partial.stderr.contains("Deployments were not read")
            && !partial.stderr.contains("Rollouts"),
        "{partial:?}"
    );
    let partial = rotation_command(&user.kubeconfig, &["db", "-n", n, "-o", "json"]);
    let partial = CommandOutput::run_async(partial, "").await;
    let found: Value = serde_json::from_str(&partial.stdout).expect("JSON");
    let pods = found["pods"].as_array().expect("pods");
    assert_eq!((pods.len(), &pods[0]["change"]), (1, &json!("unknown")));
    let (_, known) = fixture.consumers().await;
    assert_eq!(known["pods"][0]["owner"], "Deployment/owned", "{known:#}");
    assert_eq!(known["pods"][0]["change"], "keepsOldValue", "{known:#}");
    let user = cp.service_account(n, "nothing", &json!([])).await;
    let denied = rotation_command(&user.kubeconfig, &["secret/db", "-n", n]);
    let denied = CommandOutput::run_async(denied, "").await;
    assert!(
        denied.code == 2 && denied.stderr.contains("cannot get resource \"secrets\""),
        "{denied:?}"
    );
    // Without managed fields there is no time to compare with.
    let clear = json!({"metadata": {"managedFields": [{}]}});
    cp.request(Method::PATCH, &fixture.path("secrets", "db"), Some(&clear))
        .await
        .object();
    let unknown = fixture.rotation(&[]).await;
    assert!(
        unknown.code == 2
            && unknown
                .stderr
                .contains("do not have the time of its last change"),
        "{unknown:?}"
    );
    assert!(!unknown.text().contains(CANARY));
}

#[tokio::test]
async fn data_of_secrets_are_never_read() {
    let audit = AuditLog::with_secrets();
    let cp = ControlPlane::start(audit.options(false)).await;
    let fixture = Fixture::new(&cp).await;
    let (n, name) = (fixture.ns.name.as_str(), "annotated");
    let annotations = prefixed(&json!({"refs": "db/password"}));
    cp.create(&pod(n, name, &annotations)).await.object();
    let (_, found) = fixture.consumers().await;
    assert_eq!(find(&found["pods"], name)["uses"][0]["by"], "annotation");
    let mut explain = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    explain
        .args(["explain", "pod/annotated", "-n", n, "--kubeconfig"])
        .arg(&fixture.kubeconfig);
    let explained = CommandOutput::run_async(explain, "").await;
    assert!(
        explained
            .stdout
            .contains("exists and has the key \"password\""),
        "{explained:?}"
    );
    let responses = wait_for("both reads are in the audit log", || async {
        let responses = audit.secret_responses(&fixture.username);
        (responses.len() >= 2).then_some(responses)
    })
    .await;
    for response in responses {
        assert_eq!(response["kind"], "PartialObjectMetadata", "{response:#}");
        assert!(response["data"].is_null() && !response.to_string().contains(CANARY));
    }
}
