//! Restart of workloads by a changed Secret: annotation, webhook with the shipped permissions, and Reloader, the real
//! one with `RELOADER_BIN` and otherwise the model of it. `reloader.rs` has Reloader's own behavior.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use http::Method;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::control_plane::ControlPlane;
use testbed::namespace::TestNamespace;
use testbed::reloader::Reloader;
use testbed::reloader_rules::{AUTO, EXCLUDE, IGNORE, LIST, SECRET_AUTO};
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{WAIT_TIMEOUT, poll, unique, wait_within};

const ENV_FROM: &str = "secrets.floe.dev/env-from";
const RELOAD: &str = "secrets.floe.dev/reload";
/// Time limit from the change to the new template.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);
/// Secret and Deployment that show how far Reloader has come: it processes one change after the other.
const LAST_RELOADED: &str = "zz-last";

/// Namespace with a webhook of its own, and the Secrets `db`, `db.prod`, `db-prod` and `dbxprod`.
struct Fixture {
    // Dropped in this order: no calls to a webhook that is gone.
    _registered: Registration,
    webhook: WebhookProcess,
    reloader: &'static Reloader,
    ns: TestNamespace,
    cp: &'static ControlPlane,
}

impl Fixture {
    async fn new(stem: &str, args: &[&str]) -> Self {
        // One at a time: all of them apply the same manifests.
        static LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let cp = ControlPlane::shared().await;
        let reloader = Reloader::shared().await;
        let ns = cp.namespace(stem).await;
        for name in ["db", "db.prod", "db-prod", "dbxprod", LAST_RELOADED] {
            let data = json!({"value": "first"});
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named(name), "stringData": data});
            cp.create(&secret).await.object();
        }
        let turn = LOCK.lock().await;
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity)
            .with(&["--log", "debug"])
            .with(args)
            .start()
            .await;
        let registered = Registration::shared(
            cp,
            &with_max_timeout(limited_to_namespaces(
                webhook.service_configuration(),
                &[&ns.name],
            )),
        )
        .await;
        drop(turn);
        let fixture = Self {
            _registered: registered,
            webhook,
            reloader,
            ns,
            cp,
        };
        fixture
            .apply(&workload(
                "Deployment",
                LAST_RELOADED,
                &json!({ENV_FROM: LAST_RELOADED}),
            ))
            .await;
        fixture
    }

    async fn apply(&self, manifest: &Value) {
        self.cp
            .kubectl(
                &["-n", &self.ns.name, "apply", "-f", "-"],
                &manifest.to_string(),
            )
            .await
            .expect_success();
    }

    async fn get(&self, what: &str) -> Value {
        let got = self
            .cp
            .kubectl(&["-n", &self.ns.name, "get", what, "-o", "json"], "")
            .await
            .expect_success();
        serde_json::from_str(&got.stdout).expect("JSON")
    }

    async fn items(&self, kinds: &str) -> Vec<Value> {
        self.get(kinds).await["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Writes data into a Secret that it never had.
    async fn change(&self, secret: &str) {
        let path = format!("/api/v1/namespaces/{}/secrets/{secret}", self.ns.name);
        let data = json!({"stringData": {"value": unique("value")}});
        self.cp
            .request(Method::PATCH, &path, Some(&data))
            .await
            .object();
    }

    /// Workloads whose template differs after the Secret's change.
    async fn restarted_by(&self, secret: &str) -> BTreeSet<String> {
        let before = self.templates().await;
        self.change(secret).await;
        self.change(LAST_RELOADED).await;
        let seen = poll(WAIT_TIMEOUT, || async {
            let after = self.templates().await;
            let last = |templates: &[(String, Value)]| {
                templates
                    .iter()
                    .find(|(name, _)| name == LAST_RELOADED)
                    .cloned()
            };
            (last(&after) != last(&before)).then_some(after)
        })
        .await;
        let after = seen.unwrap_or_else(|| {
            panic!(
                "Reloader does not come to the last change\n{}",
                self.reloader.tail()
            )
        });
        let other = after
            .into_iter()
            .filter(|workload| !before.contains(workload))
            .map(|(name, _)| name);
        other.filter(|name| name != LAST_RELOADED).collect()
    }

    async fn templates(&self) -> Vec<(String, Value)> {
        let items = self.items("deployments,statefulsets,daemonsets").await;
        let name = |item: &Value| {
            item["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        items
            .iter()
            .map(|item| (name(item), item["spec"]["template"].clone()))
            .collect()
    }
}

fn workload(kind: &str, name: &str, annotations: &Value) -> Value {
    let labels = json!({"app": name});
    let pods = json!({"containers": [{"name": "main", "image": "none"}]});
    let mut spec = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pods}});
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    if kind.ends_with("Job") {
        spec = json!({"completions": 0, "template": spec["template"]});
        spec["template"]["spec"]["restartPolicy"] = json!("Never");
    }
    if kind == "CronJob" {
        spec = json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": spec}});
    }
    let api = if kind.ends_with("Job") {
        "batch/v1"
    } else {
        "apps/v1"
    };
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "annotations": annotations}, "spec": spec})
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().copied().map(str::to_owned).collect()
}

/// By default only annotations are written: no use of the Secret is in the template.
#[rstest]
#[case::annotations_alone(&[])]
#[case::template_injected(&["--workloads-inject-template"])]
#[tokio::test]
async fn each_kind_restarts_by_annotation_alone(#[case] args: &[&str]) {
    let fixture = Fixture::new("restarts", args).await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let name = kind.to_lowercase();
        let manifest = workload(kind, &name, &json!({ENV_FROM: "db.prod"}));
        fixture.apply(&manifest).await;
        let what = format!("{name}/{name}");
        let before = fixture.get(&what).await["spec"]["template"].clone();
        let used = before["spec"]["containers"][0]["envFrom"].is_array();
        assert_eq!(used, !args.is_empty(), "{kind}");
        let started = Instant::now();
        fixture.change("db.prod").await;
        let after = wait_within(
            RESTART_TIMEOUT,
            &format!("a new template of the {kind}"),
            || async {
                let template = fixture.get(&what).await["spec"]["template"].clone();
                (template != before).then_some(template)
            },
        )
        .await;
        let line = format!(
            "{kind} {args:?}: a new template within {:?} of the change",
            started.elapsed()
        );
        writeln!(std::io::stderr(), "{line}").ok();
        let variable = &after["spec"]["containers"][0]["env"][0];
        assert_eq!(variable["name"], "STAKATER_DB_PROD_SECRET", "{kind}");
        // Reloader's marker is kept when the same manifest is applied again, so nothing restarts for that.
        fixture.apply(&manifest).await;
        assert_eq!(
            fixture.get(&what).await["spec"]["template"],
            after,
            "{kind}"
        );
        if kind == "Deployment" {
            let fresh = wait_within(WAIT_TIMEOUT, "a pod of the new template", || async {
                let pods = fixture.items("pods").await;
                pods.into_iter().find(|pod| {
                    pod["spec"]["containers"][0]["env"][0]["value"] == variable["value"]
                })
            })
            .await;
            let source = json!([{"secretRef": {"name": "db.prod"}}]);
            assert_eq!(fresh["spec"]["containers"][0]["envFrom"], source, "once");
        }
    }
    let metrics = fixture.webhook.get("/metrics").expect("metrics").1;
    assert!(
        metrics.contains(r#"surface="workloads",operation="update""#),
        "Reloader's patches are not reviewed:\n{metrics}"
    );
}

/// A workload restarts for the secrets that it requests now: after its annotation moved to the template, after an undo
/// across a change, and after its author adopted the list for Reloader.
#[rstest]
#[case::annotations_alone(&[])]
#[case::template_injected(&["--workloads-inject-template"])]
#[tokio::test]
async fn moved_undone_and_adopted_workloads_restart_for_current_requests(#[case] args: &[&str]) {
    let fixture = Fixture::new("moves", args).await;
    let with_template = |mut manifest: Value, annotations: Value| {
        manifest["spec"]["template"]["metadata"]["annotations"] = annotations;
        manifest
    };

    // Moved from the metadata to the template, and from one secret to another.
    fixture
        .apply(&workload("Deployment", "moved", &json!({ENV_FROM: "db"})))
        .await;
    let bare = workload("Deployment", "moved", &json!({}));
    fixture
        .apply(&with_template(bare, json!({ENV_FROM: "db"})))
        .await;
    fixture
        .apply(&workload("Deployment", "changed", &json!({ENV_FROM: "db"})))
        .await;
    fixture
        .apply(&workload(
            "Deployment",
            "changed",
            &json!({ENV_FROM: "db-prod"}),
        ))
        .await;
    assert_eq!(fixture.restarted_by("db").await, set(&["moved"]));
    assert_eq!(fixture.restarted_by("db-prod").await, set(&["changed"]));

    // Undone: the template is that of an earlier revision, and the metadata still requests the later secret.
    let mut undone = workload("StatefulSet", "undone", &json!({ENV_FROM: "db"}));
    fixture.apply(&undone).await;
    undone["metadata"]["annotations"] = json!({ENV_FROM: "db.prod"});
    undone["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    fixture.apply(&undone).await;
    let undo = [
        "-n",
        &fixture.ns.name,
        "rollout",
        "undo",
        "statefulset/undone",
    ];
    wait_within(WAIT_TIMEOUT, "two revisions to undo", || async {
        let done = fixture.cp.kubectl(&undo, "").await;
        (done.code == 0).then_some(())
    })
    .await;
    assert_eq!(fixture.restarted_by("db").await, set(&["moved"]));
    assert_eq!(fixture.restarted_by("db.prod").await, set(&["undone"]));

    // Adopted: the list is its author's now, and stays without the webhook's annotation.
    fixture
        .apply(&workload("DaemonSet", "taken", &json!({ENV_FROM: "db"})))
        .await;
    fixture
        .apply(&workload("DaemonSet", "taken", &json!({LIST: "db"})))
        .await;
    // Removed: nothing restarts it any more.
    fixture
        .apply(&workload("DaemonSet", "removed", &json!({ENV_FROM: "db"})))
        .await;
    fixture
        .apply(&workload("DaemonSet", "removed", &json!({})))
        .await;
    assert_eq!(fixture.restarted_by("db").await, set(&["moved", "taken"]));
}

#[tokio::test]
async fn dot_in_secret_name_is_literal() {
    let fixture = Fixture::new("dots", &[]).await;
    fixture
        .apply(&workload(
            "Deployment",
            "dotted",
            &json!({ENV_FROM: "db.prod"}),
        ))
        .await;
    fixture
        .apply(&workload(
            "Deployment",
            "dashed",
            &json!({ENV_FROM: "db-prod"}),
        ))
        .await;
    fixture
        .apply(&workload("Deployment", "short", &json!({ENV_FROM: "db"})))
        .await;
    assert_eq!(fixture.restarted_by("db.prod").await, set(&["dotted"]));
    assert_eq!(fixture.restarted_by("db-prod").await, set(&["dashed"]));
    assert_eq!(fixture.restarted_by("dbxprod").await, set(&[]));
    assert_eq!(fixture.restarted_by("db").await, set(&["short"]));
}

/// Annotations of the workload and of its template, and whether a changed `db` restarts it.
#[tokio::test]
async fn author_annotations_decide_restart() {
    let table: &[(&str, Value, Value, bool)] = &[
        ("asks", json!({ENV_FROM: "db"}), json!({}), true),
        ("asks-on-template", json!({}), json!({ENV_FROM: "db"}), true),
        (
            "asks-for-another",
            json!({ENV_FROM: "db.prod"}),
            json!({}),
            false,
        ),
        (
            "off",
            json!({ENV_FROM: "db", RELOAD: "off"}),
            json!({}),
            false,
        ),
        (
            "infisical",
            json!({ENV_FROM: "db", RELOAD: "infisical"}),
            json!({}),
            false,
        ),
        (
            "auto-false",
            json!({ENV_FROM: "db", AUTO: "false"}),
            json!({}),
            false,
        ),
        (
            "secret-auto-false",
            json!({ENV_FROM: "db", SECRET_AUTO: "false"}),
            json!({}),
            false,
        ),
        (
            "auto-false-on-template",
            json!({ENV_FROM: "db"}),
            json!({AUTO: "false"}),
            false,
        ),
        (
            "ignore",
            json!({ENV_FROM: "db", IGNORE: "true"}),
            json!({}),
            false,
        ),
        (
            "excluded",
            json!({ENV_FROM: "db", EXCLUDE: "db"}),
            json!({}),
            false,
        ),
        (
            "excluded-on-template",
            json!({ENV_FROM: "db"}),
            json!({EXCLUDE: "db"}),
            false,
        ),
        (
            "own-list",
            json!({ENV_FROM: "db.prod", LIST: "d[b]"}),
            json!({}),
            true,
        ),
        (
            "own-list-on-template",
            json!({ENV_FROM: "db.prod"}),
            json!({LIST: "d[b]"}),
            true,
        ),
        (
            "broken-list",
            json!({ENV_FROM: "db", LIST: "["}),
            json!({}),
            true,
        ),
    ];
    let fixture = Fixture::new("says", &[]).await;
    for (name, metadata, template, _) in table {
        let mut manifest = workload("Deployment", name, metadata);
        manifest["spec"]["replicas"] = json!(0);
        manifest["spec"]["template"]["metadata"]["annotations"] = template.clone();
        fixture.apply(&manifest).await;
    }
    let restarted = fixture.restarted_by("db").await;
    let seen: Vec<_> = table
        .iter()
        .map(|(name, ..)| (*name, restarted.contains(*name)))
        .collect();
    let expected: Vec<_> = table
        .iter()
        .map(|(name, .., restarts)| (*name, *restarts))
        .collect();
    assert_eq!(seen, expected);

    // Removed again: no annotation of the webhook is left that could restart it.
    fixture
        .apply(&workload("Deployment", "asks", &json!({})))
        .await;
    assert!(!fixture.restarted_by("db").await.contains("asks"));
}

/// The author's `auto` on the template still counts, although Reloader reads the metadata now that the webhook's list
/// is there.
#[tokio::test]
async fn author_auto_on_template_still_counts() {
    let fixture = Fixture::new("promoted", &[]).await;
    let mut manifest = workload("Deployment", "app", &json!({ENV_FROM: "db"}));
    manifest["spec"]["template"]["metadata"]["annotations"] = json!({AUTO: "true"});
    manifest["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{"secretRef": {"name": "db.prod"}}]);
    fixture.apply(&manifest).await;
    assert_eq!(fixture.restarted_by("db.prod").await, set(&["app"]));
    manifest["metadata"]["annotations"][RELOAD] = json!("reloader");
    fixture.apply(&manifest).await;
    assert_eq!(fixture.restarted_by("db.prod").await, set(&["app"]));
    assert_eq!(fixture.restarted_by("db").await, set(&["app"]));
    assert_eq!(fixture.restarted_by("db-prod").await, set(&[]));
}

#[rstest]
#[case::by_default(json!({ENV_FROM: "db"}))]
#[case::whatever_is_asked(json!({ENV_FROM: "db", RELOAD: "reloader"}))]
#[tokio::test]
async fn jobs_never_run_again(#[case] annotations: Value) {
    let fixture = Fixture::new("jobs", &[]).await;
    fixture.apply(&workload("Job", "load", &annotations)).await;
    fixture
        .apply(&workload("CronJob", "nightly", &annotations))
        .await;
    let ids = async || -> Vec<Value> {
        fixture
            .items("jobs")
            .await
            .iter()
            .map(|job| job["metadata"]["uid"].clone())
            .collect()
    };
    let before = ids().await;
    assert_eq!(before.len(), 1);
    fixture.restarted_by("db").await;
    assert_eq!(ids().await, before);
}
