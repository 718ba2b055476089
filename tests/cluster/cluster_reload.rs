//! Changed Secrets reach the containers: on a real node, with the webhook's own pods installed by the plain manifests,
//! and Reloader outside of the cluster, the real one with `RELOADER_BIN` and otherwise the model of it.
//!
//! `make test-cluster` runs this where the API server of `KUBECONFIG` is reachable, and sets `BUSYBOX_IMAGE` to an
//! image with a shell that its nodes have. It is ignored otherwise: it needs root or a cluster.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, shell_image};
use testbed::command_output::CommandOutput;
use testbed::objects::{apply, send};
use testbed::reloader::{NAME, Reloader, rbac_manifests};
use testbed::webhook_process::program;
use testbed::{poll, print_line, unique, wait_for};

/// Time limit from a change to the last container that prints it. The new template is promised within 30 s; the rest is
/// the cluster's.
const WAIT_TIMEOUT: Duration = Duration::from_mins(2);
const ENV_FROM: &str = "secrets.floe.dev/env-from";
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// Namespace of the cluster, and Reloader with the permissions of a `ServiceAccount`.
struct Fixture {
    client: Client,
    namespace: String,
    reloader: Reloader,
    _cluster: Cluster,
}

impl Fixture {
    async fn new() -> Self {
        let mut cluster = Cluster::connect().await;
        let namespace = cluster.namespace("reload").await;
        let reloaders = unique("reloader");
        for object in rbac_manifests(&reloaders) {
            cluster.apply_temporarily(&object).await;
        }
        let identity = cluster.identity(&reloaders, NAME).await;
        let reloader = Reloader::start_as(&cluster.client, &identity).await;
        Self {
            client: cluster.client.clone(),
            namespace,
            reloader,
            _cluster: cluster,
        }
    }

    fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.namespace})
    }

    async fn secret(&self, name: &str, value: &str) {
        let data = json!({"PASSWORD": value});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": self.metadata(name), "stringData": data});
        apply(&self.client, &secret).await.object();
    }

    /// Workload whose container prints the variable of the Secret, and that requests it by an annotation on its own
    /// metadata.
    async fn workload(&self, kind: &str, name: &str, secret: &str) {
        self.workload_with(kind, name, &json!({ENV_FROM: secret}))
            .await;
    }

    /// [`Self::workload`] with these annotations.
    async fn workload_with(&self, kind: &str, name: &str, annotations: &Value) {
        let mut metadata = self.metadata(name);
        metadata["annotations"] = annotations.clone();
        let script = "echo \"$PASSWORD\"; trap exit TERM; while :; do sleep 1; done";
        let container = json!({
            "name": "main", "image": shell_image(), "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
        });
        let labels = json!({"app": name});
        let mut spec = json!({
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        });
        if kind == "StatefulSet" {
            spec["serviceName"] = json!(name);
        }
        let object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec});
        apply(&self.client, &object).await.object();
    }

    /// Job whose pod runs until it is deleted.
    async fn job(&self, name: &str, secret: &str) {
        let script = "echo \"$PASSWORD\"; trap exit TERM; while :; do sleep 1; done";
        let container = json!({
            "name": "main", "image": shell_image(), "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
        });
        let template = json!({
            "metadata": {"labels": {"app": name}, "annotations": {ENV_FROM: secret}},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
        });
        let object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": self.metadata(name),
            "spec": {"backoffLimit": 0, "template": template},
        });
        apply(&self.client, &object).await.object();
    }

    /// `rotation` of a Secret, as the administrator.
    async fn rotation(&self, secret: &str, args: &[&str]) -> (CommandOutput, Value) {
        let mut command = Command::new(program());
        command.args([
            "rotation",
            &format!("secret/{secret}"),
            "-n",
            &self.namespace,
        ]);
        command.args(["-o", "json"]).args(args);
        let output = CommandOutput::run_async(command, "").await;
        let found =
            serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{}", output.text()));
        (output, found)
    }

    /// Output of each pod of a workload, by the pod's uid, without deleted pods.
    async fn printed(&self, name: &str) -> BTreeMap<String, String> {
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let list = send(
            &self.client,
            Method::GET,
            &format!("{pods}?labelSelector=app%3D{name}"),
            None,
        )
        .await
        .object();
        let mut printed = BTreeMap::new();
        for pod in list["items"].as_array().into_iter().flatten() {
            let metadata = &pod["metadata"];
            if metadata["deletionTimestamp"].is_null() {
                let name = metadata["name"].as_str().unwrap_or_default();
                let log = send(
                    &self.client,
                    Method::GET,
                    &format!("{pods}/{name}/log"),
                    None,
                )
                .await;
                // There is no log before the container runs.
                let text = if log.is_accepted() {
                    log.body.as_str().unwrap_or_default().trim()
                } else {
                    ""
                };
                printed.insert(
                    metadata["uid"].as_str().unwrap_or_default().to_owned(),
                    text.to_owned(),
                );
            }
        }
        printed
    }

    /// Waits until a workload has one pod, and that one prints this. Returns its uid.
    async fn prints(&self, name: &str, value: &str) -> String {
        let found = poll(WAIT_TIMEOUT, || async {
            let mut printed = self.printed(name).await;
            let (uid, text) = printed.pop_first()?;
            (printed.is_empty() && text == value).then_some(uid)
        });
        match found.await {
            Some(uid) => uid,
            None => panic!(
                "{name} does not print {value:?} alone, but {:?}\n{}",
                self.printed(name).await,
                self.reloader.tail()
            ),
        }
    }
}

/// Owners of the pods that run with an older value, each with the effect of a change.
fn stale(found: &Value) -> BTreeMap<String, String> {
    let pods = found["pods"].as_array().into_iter().flatten();
    let old = pods.filter(|pod| pod["value"] == "old" || pod["value"] == "possiblyOld");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    old.map(|pod| (text(&pod["owner"]), text(&pod["change"])))
        .collect()
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn changed_secret_restarts_pods_with_new_value() {
    let fixture = Fixture::new().await;
    fixture.secret("db.prod", "first").await;
    fixture.secret("db-prod", "theirs").await;
    for kind in KINDS {
        fixture
            .workload(kind, &kind.to_lowercase(), "db.prod")
            .await;
    }
    // Uses a Secret with a similar name.
    fixture.workload("Deployment", "bystander", "db-prod").await;
    let bystander = fixture.prints("bystander", "theirs").await;
    // Nothing restarts these two.
    let reload_off = json!({ENV_FROM: "db.prod", "secrets.floe.dev/reload": "off"});
    fixture
        .workload_with("Deployment", "unwatched", &reload_off)
        .await;
    fixture.job("once", "db.prod").await;
    let unwatched = fixture.prints("unwatched", "first").await;
    fixture.prints("once", "first").await;
    let mut before = Vec::new();
    for kind in KINDS {
        before.push(fixture.prints(&kind.to_lowercase(), "first").await);
    }

    let (fresh, found) = fixture.rotation("db.prod", &[]).await;
    assert_eq!(
        (fresh.code, &found["counts"]["pods"]),
        (0, &json!(5)),
        "{found:#}"
    );
    // Times in metadata have whole seconds: a change at the end of one is in another second than the starts before it, and
    // those after it.
    let started = jiff::Timestamp::now().as_second();
    wait_for("the end of a second after the last start", || async {
        let now = jiff::Timestamp::now();
        let is_end = (700_000_000..900_000_000).contains(&now.subsec_nanosecond());
        (now.as_second() > started + 1 && is_end).then_some(())
    })
    .await;

    let changed = Instant::now();
    fixture.secret("db.prod", "second").await;
    let (stale_at_once, found) = fixture.rotation("db.prod", &[]).await;
    assert_eq!(stale_at_once.code, 1, "{found:#}");
    assert_eq!(stale(&found)["Job/once"], "nextRun", "{found:#}");
    for (kind, before) in KINDS.into_iter().zip(before) {
        let after = fixture.prints(&kind.to_lowercase(), "second").await;
        print_line(&format!(
            "{kind}: a new pod prints the new value within {:?} of the change",
            changed.elapsed()
        ));
        assert_ne!(after, before, "another pod");
    }
    assert_eq!(
        fixture.prints("bystander", "theirs").await,
        bystander,
        "the same pod"
    );
    rotation_ends_with_the_last_old_pod(&fixture, &unwatched).await;
}

/// After Reloader has restarted the others, the Job's pod and the workload that nothing restarts have the old value.
async fn rotation_ends_with_the_last_old_pod(fixture: &Fixture, unwatched: &str) {
    let left = BTreeMap::from([
        (
            "Deployment/unwatched".to_owned(),
            "keepsOldValue".to_owned(),
        ),
        ("Job/once".to_owned(), "nextRun".to_owned()),
    ]);
    // Pods that are being deleted still run.
    let others_are_gone = poll(WAIT_TIMEOUT, || async {
        let (_, found) = fixture.rotation("db.prod", &[]).await;
        (stale(&found) == left).then_some(())
    });
    assert!(
        others_are_gone.await.is_some(),
        "{:#}",
        fixture.rotation("db.prod", &[]).await.1
    );
    let waiting = fixture.rotation("db.prod", &["--wait", "90s"]);
    let restarting = async {
        let namespace = &fixture.namespace;
        let template = json!({"metadata": {"annotations": {"restarted": "now"}}});
        let change = json!({"spec": {"template": template}});
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/unwatched");
        send(&fixture.client, Method::PATCH, &path, Some(&change))
            .await
            .object();
        let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/once");
        let deletion = json!({"propagationPolicy": "Foreground"});
        send(&fixture.client, Method::DELETE, &path, Some(&deletion))
            .await
            .object();
    };
    let ((ended, found), ()) = futures::future::join(waiting, restarting).await;
    assert_eq!(ended.code, 0, "{found:#}");
    let after = fixture.prints("unwatched", "second").await;
    assert_ne!(after, unwatched, "another pod");
    print_line("rotation --wait ended with the last pod that had the old value");
}
