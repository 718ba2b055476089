//! Behavior of Stakater Reloader that the webhook's annotations rely on, as one suite for the real one (`RELOADER_BIN`)
//! and for the model of it. The output names the one that was tested.
//!
//! A missing reload is never waited for: Reloader processes one change after the other, so once a later change has an
//! effect, all effects of the earlier one are there.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use http::Method;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::control_plane::ControlPlane;
use testbed::namespace::TestNamespace;
use testbed::objects::path;
use testbed::reloader::Reloader;
use testbed::reloader_rules::{AUTO, EXCLUDE, IGNORE, LIST, MATCH, SEARCH, SECRET_AUTO, matches};
use testbed::{WAIT_TIMEOUT, poll, print_line, unique, wait_for};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Namespace with workloads and Secrets, and Reloader next to it.
struct Fixture {
    cp: &'static ControlPlane,
    reloader: &'static Reloader,
    ns: TestNamespace,
    _turn: Turn,
}

/// Reloader processes the changes of all tests one after the other: tests that measure time must run alone.
enum Turn {
    Shared(#[expect(dead_code, reason = "guard held until drop")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "guard held until drop")] RwLockWriteGuard<'static, ()>),
}

static LOCK: RwLock<()> = RwLock::const_new(());

/// Name of a Secret and of the Deployment that show how far Reloader has come.
const LAST_RELOADED: &str = "zz-last";

impl Fixture {
    async fn new(stem: &str) -> Self {
        Self::set(stem, Turn::Shared(LOCK.read().await)).await
    }

    /// Fixture of a test that runs alone, so that its changes are processed at once.
    async fn alone(stem: &str) -> Self {
        Self::set(stem, Turn::Alone(LOCK.write().await)).await
    }

    async fn set(stem: &str, turn: Turn) -> Self {
        let cp = ControlPlane::shared().await;
        let reloader = Reloader::shared().await;
        let fixture = Self {
            cp,
            reloader,
            ns: cp.namespace(stem).await,
            _turn: turn,
        };
        fixture.secret(LAST_RELOADED, &json!({})).await;
        fixture
            .create(&deployment(LAST_RELOADED).listed(LAST_RELOADED))
            .await;
        fixture
    }

    /// Creates a Secret with these annotations.
    async fn secret(&self, name: &str, annotations: &Value) {
        let mut metadata = self.ns.named(name);
        metadata["annotations"] = annotations.clone();
        let data = json!({"value": "first"});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        self.cp.create(&secret).await.object();
    }

    async fn create(&self, workload: &Workload) {
        self.cp.create(&workload.object(&self.ns)).await.object();
    }

    fn secret_path(&self, name: &str) -> String {
        path(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": self.ns.named(name)}))
    }

    /// Sends a merge patch of a Secret.
    async fn patch(&self, name: &str, patch: &Value) {
        self.cp
            .request(Method::PATCH, &self.secret_path(name), Some(patch))
            .await
            .object();
    }

    /// Writes data into a Secret that it never had.
    async fn change(&self, name: &str) {
        self.patch(name, &json!({"stringData": {"value": unique("value")}}))
            .await;
    }

    /// Waits until Reloader has processed all changes up to now.
    async fn settled(&self) {
        let before = self.one("Deployment", LAST_RELOADED).await;
        self.change(LAST_RELOADED).await;
        let seen = poll(WAIT_TIMEOUT, || async {
            (self.one("Deployment", LAST_RELOADED).await != before).then_some(())
        })
        .await;
        assert!(
            seen.is_some(),
            "Reloader does not come to the last change\n{}",
            self.reloader.tail()
        );
    }

    /// Pod template of a workload.
    async fn one(&self, kind: &str, name: &str) -> Value {
        let object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": self.ns.named(name)});
        self.cp
            .request(Method::GET, &path(&object), None)
            .await
            .object()["spec"]["template"]
            .clone()
    }

    async fn list(&self, api: &str, plural: &str) -> Vec<Value> {
        let root = if api == "v1" {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{api}")
        };
        let path = format!("{root}/namespaces/{}/{plural}", self.ns.name);
        let list = self.cp.request(Method::GET, &path, None).await.object();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    async fn jobs(&self) -> Vec<Value> {
        self.list("batch/v1", "jobs").await
    }

    /// Pod templates of all workloads except [`LAST_RELOADED`].
    async fn templates(&self) -> BTreeMap<String, Value> {
        let mut templates = BTreeMap::new();
        for plural in ["deployments", "daemonsets", "statefulsets"] {
            for item in self.list("apps/v1", plural).await {
                let name = item["metadata"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned();
                if name != LAST_RELOADED {
                    assert!(
                        templates
                            .insert(name, item["spec"]["template"].clone())
                            .is_none(),
                        "one name, one workload"
                    );
                }
            }
        }
        templates
    }

    /// Workloads whose template differs after `work`.
    async fn reloaded_by(&self, work: impl Future<Output = ()>) -> BTreeSet<String> {
        let before = self.templates().await;
        work.await;
        self.settled().await;
        let after = self.templates().await;
        after
            .into_iter()
            .filter(|(name, template)| before.get(name) != Some(template))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Workload to create; by default it uses no Secret and has no annotations.
#[derive(Debug, Clone)]
struct Workload {
    kind: &'static str,
    name: String,
    metadata: Value,
    template: Value,
    spec: Value,
}

fn workload(kind: &'static str, name: &str) -> Workload {
    let spec = json!({"containers": [{"name": "main", "image": "none"}, {"name": "side", "image": "none"}]});
    Workload {
        kind,
        name: name.to_owned(),
        metadata: json!({}),
        template: json!({}),
        spec,
    }
}

fn deployment(name: &str) -> Workload {
    workload("Deployment", name)
}

impl Workload {
    /// Adds annotations.
    fn with(mut self, metadata: &Value) -> Self {
        self.metadata = metadata.clone();
        self
    }

    /// Adds annotations to the pod template.
    fn with_template(mut self, template: &Value) -> Self {
        self.template = template.clone();
        self
    }

    /// Adds the annotation that the webhook writes.
    fn listed(self, list: &str) -> Self {
        self.with(&json!({LIST: list}))
    }

    /// Merges fields into the pods' spec.
    fn spec(mut self, patch: &Value) -> Self {
        json_patch::merge(&mut self.spec, patch);
        self
    }

    /// Adds the whole Secret to the first container's environment.
    fn using(self, secret: &str) -> Self {
        let env = json!([{"secretRef": {"name": secret}}]);
        self.spec(&json!({"containers": [{"name": "main", "image": "none", "envFrom": env}]}))
    }

    fn object(&self, ns: &TestNamespace) -> Value {
        let mut metadata = ns.named(&self.name);
        metadata["annotations"] = self.metadata.clone();
        let labels = json!({"app": self.name});
        let template = json!({"metadata": {"labels": labels, "annotations": self.template}, "spec": self.spec});
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
        match self.kind {
            // Nothing runs here: only the template matters.
            "Deployment" => spec["replicas"] = json!(0),
            "StatefulSet" => {
                spec["replicas"] = json!(0);
                spec["serviceName"] = json!(self.name);
            }
            "DaemonSet" => {}
            "Job" | "CronJob" => {
                spec.as_object_mut().expect("an object").remove("selector");
                spec["template"]["spec"]["restartPolicy"] = json!("Never");
                // Completes at once.
                spec["completions"] = json!(0);
            }
            other => panic!("no {other} here"),
        }
        if self.kind == "CronJob" {
            // Keeps all finished Jobs.
            spec = json!({
                "schedule": "0 0 1 1 *", "suspend": true, "successfulJobsHistoryLimit": 100,
                "jobTemplate": {"spec": spec},
            });
        }
        let api = if self.kind.ends_with("Job") {
            "batch/v1"
        } else {
            "apps/v1"
        };
        json!({"apiVersion": api, "kind": self.kind, "metadata": metadata, "spec": spec})
    }
}

/// Markers of Reloader in a template: container, variable and value.
fn markers(template: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for container in template["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
    {
        for variable in container["env"].as_array().into_iter().flatten() {
            if text(&variable["name"]).starts_with("STAKATER_") {
                found.push((
                    text(&container["name"]),
                    text(&variable["name"]),
                    text(&variable["value"]),
                ));
            }
        }
    }
    found
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().copied().map(str::to_owned).collect()
}

// === Named list ===

/// Value of the annotation, and whether a changed Secret `my-db` restarts the Deployment, which does not use it.
#[tokio::test]
async fn list_names_secrets_by_regular_expressions() {
    let table = [
        ("my-db", true),
        ("other", false),
        ("my", false),
        ("db", false),
        ("my-db-2", false),
        ("MY-DB", false),
        // List: blanks and empty entries have no effect, and invalid expressions do not hide other entries.
        ("other,my-db", true),
        (" other ,  my-db ", true),
        ("my-db\n", true),
        ("other my-db", false),
        ("other;my-db", false),
        (",,my-db,,", true),
        ("", false),
        (",", false),
        ("[", false),
        ("[,my-db", true),
        ("my-db,(", true),
        ("m{1,5}y-db", false),
        // Regular expressions, anchored at both ends.
        ("my.db", true),
        (r"my\.db", false),
        (r"my\-db", true),
        ("my-.*", true),
        ("my-[a-d]b", true),
        ("^my-db$", true),
        ("(other|my-db)", true),
        // Without a group: an alternative is anchored at one end only.
        ("my|other", true),
        ("other|db", true),
        ("x|y", false),
        ("other|", true),
        // Globs have another meaning as expressions.
        ("*", true),
        ("*-db", true),
        ("my*", false),
        ("?", true),
        ("+", false),
    ];
    let fixture = Fixture::new("list").await;
    fixture.secret("my-db", &json!({})).await;
    for (row, (list, _)) in table.iter().enumerate() {
        fixture
            .create(&deployment(&format!("row-{row}")).listed(list))
            .await;
    }
    let reloaded = fixture.reloaded_by(fixture.change("my-db")).await;
    let seen: Vec<_> = (0..)
        .zip(table)
        .map(|(row, (list, _))| (list, reloaded.contains(&format!("row-{row}"))))
        .collect();
    assert_eq!(seen, table);
}

#[tokio::test]
async fn escaped_dot_matches_one_secret() {
    let fixture = Fixture::new("dots").await;
    for name in ["db.prod", "db-prod", "dbxprod", "db.prod.eu"] {
        fixture.secret(name, &json!({})).await;
    }
    fixture.create(&deployment("plain").listed("db.prod")).await;
    fixture
        .create(&deployment("escaped").listed(r"db\.prod"))
        .await;
    fixture.create(&deployment("alike").listed("db-prod")).await;
    assert_eq!(
        fixture.reloaded_by(fixture.change("db.prod")).await,
        set(&["plain", "escaped"])
    );
    assert_eq!(
        fixture.reloaded_by(fixture.change("db-prod")).await,
        set(&["plain", "alike"])
    );
    assert_eq!(
        fixture.reloaded_by(fixture.change("dbxprod")).await,
        set(&["plain"])
    );
    assert_eq!(
        fixture.reloaded_by(fixture.change("db.prod.eu")).await,
        set(&[])
    );
}

#[test]
fn model_matches_entries_as_real_reloader_does() {
    let table = include_str!("../../crates/injection/tests/testdata/reloader_matching.tsv");
    let mut wrong = Vec::new();
    for line in table.lines().skip(1) {
        let [entry, secret, expected]: [&str; 3] = line
            .split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .expect("entry, secret, matches");
        let response = match matches(entry, secret) {
            None => "invalid",
            Some(true) => "true",
            Some(false) => "false",
        };
        if response != expected {
            wrong.push(format!(
                "{entry:?} and {secret:?}: {expected} by the table, {response} by the model"
            ));
        }
    }
    assert!(table.lines().count() > 5000, "the table is whole");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// === Selected workloads ===

/// Annotations of the workload and of its template, whether the template uses the Secret, whether it is reloaded.
#[tokio::test]
async fn annotations_decide_in_order() {
    let table: &[(&str, Value, Value, bool, bool)] = &[
        ("nothing", json!({}), json!({}), true, false),
        ("list-unused", json!({LIST: "db"}), json!({}), false, true),
        (
            "list-on-template-unused",
            json!({}),
            json!({LIST: "db"}),
            false,
            true,
        ),
        ("auto", json!({AUTO: "true"}), json!({}), true, true),
        (
            "auto-unused",
            json!({AUTO: "true"}),
            json!({}),
            false,
            false,
        ),
        ("auto-1", json!({AUTO: "1"}), json!({}), true, true),
        (
            "auto-capitals",
            json!({AUTO: "TRUE"}),
            json!({}),
            true,
            true,
        ),
        ("auto-yes", json!({AUTO: "yes"}), json!({}), true, false),
        ("auto-false", json!({AUTO: "false"}), json!({}), true, false),
        (
            "secret-auto",
            json!({SECRET_AUTO: "true"}),
            json!({}),
            true,
            true,
        ),
        (
            "secret-auto-false-auto-true",
            json!({SECRET_AUTO: "false", AUTO: "true"}),
            json!({}),
            true,
            true,
        ),
        (
            "configmap-auto",
            json!({"configmap.reloader.stakater.com/auto": "true"}),
            json!({}),
            true,
            false,
        ),
        (
            "auto-on-template",
            json!({}),
            json!({AUTO: "true"}),
            true,
            true,
        ),
        // An author's `false` does not disable a list: whoever writes lists has to respect it.
        (
            "auto-false-and-list",
            json!({AUTO: "false", LIST: "db"}),
            json!({}),
            false,
            true,
        ),
        (
            "auto-false-on-template-and-list",
            json!({LIST: "db"}),
            json!({AUTO: "false"}),
            true,
            true,
        ),
        // One of these annotations on the metadata hides all of the template's.
        (
            "list-hides-auto",
            json!({LIST: "other"}),
            json!({AUTO: "true"}),
            true,
            false,
        ),
        (
            "empty-list-hides-auto",
            json!({LIST: ""}),
            json!({AUTO: "true"}),
            true,
            false,
        ),
        (
            "auto-false-hides-list",
            json!({AUTO: "false"}),
            json!({LIST: "db"}),
            true,
            false,
        ),
        (
            "search-hides-list",
            json!({SEARCH: "true"}),
            json!({LIST: "db"}),
            true,
            false,
        ),
        (
            "auto-beside-other-list",
            json!({LIST: "other", AUTO: "true"}),
            json!({}),
            true,
            true,
        ),
        (
            "configmap-list-hides-nothing",
            json!({"configmap.reloader.stakater.com/reload": "db"}),
            json!({AUTO: "true"}),
            true,
            true,
        ),
        (
            "exclusion-hides-nothing",
            json!({EXCLUDE: "other"}),
            json!({LIST: "db"}),
            false,
            true,
        ),
        // Excluded by name on the metadata overrides everything else.
        (
            "excluded-list",
            json!({EXCLUDE: "db", LIST: "db"}),
            json!({}),
            false,
            false,
        ),
        (
            "excluded-auto",
            json!({EXCLUDE: " other , db ", AUTO: "true"}),
            json!({}),
            true,
            false,
        ),
        (
            "excluded-template-list",
            json!({EXCLUDE: "db"}),
            json!({LIST: "db"}),
            false,
            false,
        ),
        (
            "excluded-by-expression",
            json!({EXCLUDE: ".*", LIST: "db"}),
            json!({}),
            false,
            true,
        ),
        (
            "excluded-on-template",
            json!({LIST: "db"}),
            json!({EXCLUDE: "db"}),
            false,
            true,
        ),
        (
            "excluded-with-list-on-template",
            json!({}),
            json!({EXCLUDE: "db", LIST: "db"}),
            false,
            true,
        ),
        // Annotations of other mechanisms have no effect, nor does `ignore` on a workload.
        (
            "infisical",
            json!({"secrets.infisical.com/auto-reload": "true"}),
            json!({}),
            true,
            false,
        ),
        (
            "ignore-on-workload",
            json!({IGNORE: "true", LIST: "db"}),
            json!({}),
            false,
            true,
        ),
    ];
    let fixture = Fixture::new("order").await;
    fixture.secret("db", &json!({})).await;
    for (name, metadata, template, uses, _) in table {
        let bare = deployment(name).with(metadata).with_template(template);
        fixture
            .create(&if *uses { bare.using("db") } else { bare })
            .await;
    }
    let reloaded = fixture.reloaded_by(fixture.change("db")).await;
    let seen: Vec<_> = table
        .iter()
        .map(|(name, ..)| (*name, reloaded.contains(*name)))
        .collect();
    let expected: Vec<_> = table
        .iter()
        .map(|(name, .., reloads)| (*name, *reloads))
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn search_finds_secrets_with_match() {
    let fixture = Fixture::new("search").await;
    for (name, annotations) in [("plain", json!({})), ("tagged", json!({MATCH: "true"}))] {
        fixture.secret(name, &annotations).await;
        fixture
            .create(
                &deployment(&format!("uses-{name}"))
                    .with(&json!({SEARCH: "true"}))
                    .using(name),
            )
            .await;
    }
    fixture
        .create(&deployment("uses-none").with(&json!({SEARCH: "true"})))
        .await;
    let both = async {
        fixture.change("plain").await;
        fixture.change("tagged").await;
    };
    assert_eq!(fixture.reloaded_by(both).await, set(&["uses-tagged"]));
}

/// Uses of a Secret, with `auto`; the last column is the container that gets the marker.
#[tokio::test]
async fn use_is_read_from_stored_template() {
    let main = |patch: Value| {
        let mut container = json!({"name": "main", "image": "none"});
        json_patch::merge(&mut container, &patch);
        container
    };
    let side = json!({"name": "side", "image": "none"});
    let from = json!([{"secretRef": {"name": "db"}}]);
    let key = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "value"}}}]);
    let mount = json!([{"name": "files", "mountPath": "/files"}]);
    let files = json!([{"name": "files", "secret": {"secretName": "db"}}]);
    let projected =
        json!([{"name": "files", "projected": {"sources": [{"secret": {"name": "db"}}]}}]);
    let optional = json!([{"secretRef": {"name": "db", "optional": true}}]);
    let table = [
        (
            "env-from",
            json!({"containers": [main(json!({"envFrom": from})), side]}),
            Some("main"),
        ),
        (
            "env-from-second",
            json!({"containers": [side, main(json!({"envFrom": from}))]}),
            Some("main"),
        ),
        (
            "env-from-optional",
            json!({"containers": [main(json!({"envFrom": optional})), side]}),
            Some("main"),
        ),
        (
            "key",
            json!({"containers": [side, main(json!({"env": key}))]}),
            Some("main"),
        ),
        (
            "mounted",
            json!({"volumes": files, "containers": [side, main(json!({"volumeMounts": mount}))]}),
            Some("main"),
        ),
        (
            "projected",
            json!({"volumes": projected, "containers": [side, main(json!({"volumeMounts": mount}))]}),
            Some("main"),
        ),
        ("not-mounted", json!({"volumes": files}), None),
        (
            "init",
            json!({"initContainers": [main(json!({"name": "init", "envFrom": from}))], "containers": [side]}),
            Some("side"),
        ),
        (
            "init-mount",
            json!({
                "volumes": files, "containers": [side],
                "initContainers": [main(json!({"name": "init", "volumeMounts": mount}))],
            }),
            Some("side"),
        ),
        (
            "other",
            json!({"containers": [main(json!({"envFrom": [{"secretRef": {"name": "db-2"}}]}))]}),
            None,
        ),
        (
            "configmap",
            json!({"containers": [main(json!({"envFrom": [{"configMapRef": {"name": "db"}}]}))]}),
            None,
        ),
        (
            "pull-secret",
            json!({"imagePullSecrets": [{"name": "db"}]}),
            None,
        ),
    ];
    let fixture = Fixture::new("use").await;
    fixture.secret("db", &json!({})).await;
    for (name, spec, _) in &table {
        fixture
            .create(&deployment(name).with(&json!({AUTO: "true"})).spec(spec))
            .await;
    }
    fixture.reloaded_by(fixture.change("db")).await;
    let templates = fixture.templates().await;
    for (name, _, expected) in table {
        let containers: Vec<String> = markers(&templates[name])
            .into_iter()
            .map(|(container, ..)| container)
            .collect();
        assert_eq!(containers, Vec::from_iter(expected), "{name}");
    }
}

// === Changes ===

#[tokio::test]
async fn only_new_data_of_existing_secret_counts() {
    let fixture = Fixture::new("changes").await;
    let optional = json!([{"name": "main", "image": "none", "envFrom": [{"secretRef": {"name": "db", "optional": true}}]}]);
    fixture.create(&deployment("app").listed("db")).await;
    // Started without the Secret, it continues without it.
    fixture
        .create(
            &deployment("optional")
                .with(&json!({AUTO: "true"}))
                .spec(&json!({"containers": optional})),
        )
        .await;
    assert_eq!(
        fixture.reloaded_by(fixture.secret("db", &json!({}))).await,
        set(&[]),
        "created"
    );
    let label =
        json!({"metadata": {"labels": {"touched": "yes"}, "annotations": {"touched": "yes"}}});
    assert_eq!(
        fixture.reloaded_by(fixture.patch("db", &label)).await,
        set(&[]),
        "labelled"
    );
    let same = json!({"stringData": {"value": "first"}});
    assert_eq!(
        fixture.reloaded_by(fixture.patch("db", &same)).await,
        set(&[]),
        "the same data"
    );
    let again = async {
        let path = fixture.secret_path("db");
        fixture
            .cp
            .request(Method::DELETE, &path, None)
            .await
            .object();
        fixture.settled().await;
        fixture.secret("db", &json!({"made": "anew"})).await;
    };
    assert_eq!(
        fixture.reloaded_by(again).await,
        set(&[]),
        "deleted, and made anew"
    );
    assert_eq!(
        fixture.reloaded_by(fixture.change("db")).await,
        set(&["app", "optional"]),
        "other data"
    );
    let more = json!({"stringData": {"another": "key"}});
    assert_eq!(
        fixture.reloaded_by(fixture.patch("db", &more)).await,
        set(&["app", "optional"]),
        "one more key"
    );
    let less = json!({"data": {"another": null}});
    assert_eq!(
        fixture.reloaded_by(fixture.patch("db", &less)).await,
        set(&["app", "optional"]),
        "one key less"
    );
}

#[rstest]
#[case::ignored(json!({IGNORE: "true"}), false)]
#[case::only_by_this_very_word(json!({IGNORE: "True"}), true)]
#[case::not_ignored(json!({IGNORE: "false"}), true)]
#[tokio::test]
async fn ignored_secret_reloads_nothing(#[case] annotations: Value, #[case] reloads: bool) {
    let fixture = Fixture::new("ignore").await;
    fixture.secret("db", &annotations).await;
    fixture.create(&deployment("app").listed("db")).await;
    let expected: &[&str] = if reloads { &["app"] } else { &[] };
    assert_eq!(
        fixture.reloaded_by(fixture.change("db")).await,
        set(expected)
    );
}

// === Effects ===

#[rstest]
#[case::deployment("Deployment")]
#[case::stateful_set("StatefulSet")]
#[case::daemon_set("DaemonSet")]
#[tokio::test]
async fn list_on_metadata_suffices(#[case] kind: &'static str) {
    let fixture = Fixture::alone("kinds").await;
    fixture.secret("my-db.prod", &json!({})).await;
    fixture
        .create(&workload(kind, "app").listed(r"my-db\.prod"))
        .await;
    let mut expected = fixture.one(kind, "app").await;
    let started = Instant::now();
    fixture
        .patch("my-db.prod", &json!({"stringData": {"value": "second"}}))
        .await;
    let template = wait_for("a new template", || async {
        let template = fixture.one(kind, "app").await;
        (template != expected).then_some(template)
    })
    .await;
    let elapsed = started.elapsed();
    print_line(&format!(
        "{kind}: a new template {elapsed:?} after the change"
    ));
    assert!(elapsed < Duration::from_secs(30));
    // Hash of `value=second`, and no other difference.
    let marker = json!({"name": "STAKATER_MY_DB_PROD_SECRET", "value": "352b02d169a54c6a32ffa78482369a8728804448"});
    expected["spec"]["containers"][0]["env"] = json!([marker]);
    assert_eq!(template, expected);
    let object =
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": fixture.ns.named("app")});
    let stored = fixture
        .cp
        .request(Method::GET, &path(&object), None)
        .await
        .object();
    let managers: Vec<_> = stored["metadata"]["managedFields"]
        .as_array()
        .expect("managers")
        .iter()
        .map(|one| &one["manager"])
        .collect();
    assert!(managers.contains(&&json!("Reloader")), "{managers:?}");
    assert_eq!(stored["metadata"]["generation"], 2);
}

#[tokio::test]
async fn marker_of_secret_is_replaced_by_each_change() {
    let fixture = Fixture::new("two").await;
    fixture.secret("one", &json!({})).await;
    fixture.secret("two", &json!({})).await;
    fixture
        .create(&deployment("app").listed("one,two").using("two"))
        .await;
    let both = async {
        fixture.change("one").await;
        fixture.change("two").await;
    };
    assert_eq!(fixture.reloaded_by(both).await, set(&["app"]));
    let names = |template: &Value| {
        markers(template)
            .into_iter()
            .map(|(_, name, _)| name)
            .collect::<BTreeSet<_>>()
    };
    let first = fixture.one("Deployment", "app").await;
    assert_eq!(
        names(&first),
        set(&["STAKATER_ONE_SECRET", "STAKATER_TWO_SECRET"])
    );
    assert_eq!(
        fixture.reloaded_by(fixture.change("one")).await,
        set(&["app"])
    );
    let second = fixture.one("Deployment", "app").await;
    assert_eq!(names(&second), names(&first));
    let moved = markers(&first)
        .into_iter()
        .filter(|marker| !markers(&second).contains(marker))
        .collect::<Vec<_>>();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(moved[0].1, "STAKATER_ONE_SECRET");
}

/// Names that differ only in punctuation share a marker, so equal data in both is not a change.
#[tokio::test]
async fn names_differing_only_in_punctuation_share_marker() {
    let fixture = Fixture::new("marker").await;
    fixture.secret("db-prod", &json!({})).await;
    fixture.secret("db.prod", &json!({})).await;
    fixture
        .create(&deployment("app").listed(r"db-prod,db\.prod"))
        .await;
    let second = json!({"stringData": {"value": "second"}});
    assert_eq!(
        fixture.reloaded_by(fixture.patch("db-prod", &second)).await,
        set(&["app"])
    );
    assert_eq!(
        fixture.reloaded_by(fixture.patch("db.prod", &second)).await,
        set(&[]),
        "annotated too early"
    );
    assert_eq!(
        fixture.reloaded_by(fixture.change("db.prod")).await,
        set(&["app"])
    );
    assert_eq!(markers(&fixture.one("Deployment", "app").await).len(), 1);
}

/// The list on a pod is information for users: Reloader reads no pod, neither a bare one nor one of a `ReplicaSet`.
#[tokio::test]
async fn pods_are_never_read() {
    let fixture = Fixture::new("pods").await;
    fixture.secret("db", &json!({})).await;
    let spec = json!({"containers": [{"name": "main", "image": "none", "envFrom": [{"secretRef": {"name": "db"}}]}]});
    let annotations_of_pod = json!({LIST: "db", AUTO: "true"});
    let mut metadata = fixture.ns.named("alone");
    metadata["annotations"] = annotations_of_pod.clone();
    fixture
        .cp
        .create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        .await
        .object();
    let labels = json!({"app": "set"});
    let template =
        json!({"metadata": {"labels": labels, "annotations": annotations_of_pod}, "spec": spec});
    let of_set = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": template});
    let mut metadata = fixture.ns.named("set");
    metadata["annotations"] = annotations_of_pod;
    fixture
        .cp
        .create(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": of_set}))
        .await
        .object();
    let specs = async || -> Vec<Value> {
        let pods = fixture.list("v1", "pods").await;
        pods.iter()
            .map(|pod| {
                json!([
                    pod["metadata"]["uid"],
                    pod["metadata"]["annotations"],
                    pod["spec"]
                ])
            })
            .collect()
    };
    let before = wait_for("both pods", || async {
        let pods = specs().await;
        (pods.len() == 2).then_some(pods)
    })
    .await;
    assert_eq!(fixture.reloaded_by(fixture.change("db")).await, set(&[]));
    assert_eq!(specs().await, before);
}

// === Jobs and CronJobs, which get no annotation from the webhook ===

#[tokio::test]
async fn finished_job_runs_again() {
    let fixture = Fixture::new("job").await;
    fixture.secret("db", &json!({})).await;
    fixture.create(&workload("Job", "load").listed("db")).await;
    fixture
        .create(&workload("Job", "by-template").with_template(&json!({LIST: "db"})))
        .await;
    fixture.create(&workload("Job", "silent").using("db")).await;
    let ids = |jobs: &[Value]| -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        jobs.iter()
            .map(|job| {
                (
                    text(&job["metadata"]["name"]),
                    text(&job["metadata"]["uid"]),
                )
            })
            .collect()
    };
    let before = wait_for("the Jobs are complete", || async {
        let jobs = fixture.jobs().await;
        let complete = |job: &Value| {
            let conditions = job["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Complete" && one["status"] == "True")
            })
        };
        jobs.iter().all(complete).then(|| ids(&jobs))
    })
    .await;
    fixture.change("db").await;
    fixture.settled().await;
    let jobs = fixture.jobs().await;
    let after = ids(&jobs);
    let anew: BTreeSet<String> = after
        .iter()
        .filter(|(name, id)| before[*name] != **id)
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(after.len(), 3);
    assert_eq!(anew, set(&["by-template", "load"]));
    let load = jobs
        .iter()
        .find(|job| job["metadata"]["name"] == "load")
        .expect("it is there");
    assert_eq!(markers(&load["spec"]["template"]).len(), 1);
}

#[tokio::test]
async fn suspended_cron_job_runs_at_once() {
    let fixture = Fixture::new("cron").await;
    fixture.secret("db", &json!({})).await;
    fixture
        .create(&workload("CronJob", "nightly").listed("db"))
        .await;
    fixture
        .create(&workload("CronJob", "by-template").with_template(&json!({LIST: "db"})))
        .await;
    fixture.create(&workload("CronJob", "silent")).await;
    let owners = |jobs: &[Value]| -> Vec<String> {
        let owner = |job: &Value| {
            job["metadata"]["ownerReferences"][0]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let mut owners: Vec<String> = jobs.iter().map(owner).collect();
        owners.sort();
        owners
    };
    fixture.change("db").await;
    fixture.settled().await;
    let jobs = fixture.jobs().await;
    assert_eq!(owners(&jobs), ["by-template", "nightly"]);
    for job in &jobs {
        assert_eq!(
            job["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"],
            "manual"
        );
        assert_eq!(markers(&job["spec"]["template"]).len(), 1);
    }
    // The template's annotation is copied to its Job, which is itself reloaded next time, and another is created.
    let id = |jobs: &[Value], owner: &str| -> BTreeSet<String> {
        let of = jobs
            .iter()
            .filter(|job| job["metadata"]["ownerReferences"][0]["name"] == owner);
        of.map(|job| {
            job["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
    };
    fixture.change("db").await;
    fixture.settled().await;
    let later = fixture.jobs().await;
    assert_eq!(
        owners(&later),
        ["by-template", "by-template", "nightly", "nightly"]
    );
    assert!(id(&later, "nightly").is_superset(&id(&jobs, "nightly")));
    assert!(id(&later, "by-template").is_disjoint(&id(&jobs, "by-template")));
}

// === Failures ===

/// Kinds have an order, and the first rejection ends the round. The round is retried five times, including everything
/// that succeeded.
#[tokio::test]
async fn rejected_update_blocks_reload_of_others() {
    let fixture = Fixture::new("refused").await;
    fixture.secret("db", &json!({})).await;
    for (kind, name) in [
        ("Deployment", "app"),
        ("CronJob", "nightly"),
        ("DaemonSet", "agent"),
        ("StatefulSet", "store"),
    ] {
        fixture.create(&workload(kind, name).listed("db")).await;
    }
    let policy = unique("no-daemonsets");
    let api = "admissionregistration.k8s.io/v1";
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["daemonsets"], "operations": ["UPDATE"]});
    let in_namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": fixture.ns.name}});
    for object in [
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": policy}, "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            // The controller's own updates go to the status, which is a resource of its own.
            "validations": [{"expression": "false", "message": "not here"}],
        }}),
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": policy}, "spec": {
            "policyName": policy, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": in_namespace},
        }}),
    ] {
        fixture.cp.create(&object).await.object();
    }
    let agent = path(&workload("DaemonSet", "agent").object(&fixture.ns));
    wait_for("the policy is in effect", || async {
        let touched = json!({"metadata": {"labels": {"touched": "yes"}}});
        let response = fixture
            .cp
            .request(
                Method::PATCH,
                &format!("{agent}?dryRun=All"),
                Some(&touched),
            )
            .await;
        (!response.is_accepted()).then_some(())
    })
    .await;

    fixture.change("db").await;
    wait_for("six rounds", || async {
        (fixture.jobs().await.len() == 6).then_some(())
    })
    .await;
    let reloaded = fixture.reloaded_by(async {}).await;
    assert_eq!(reloaded, set(&[]), "nothing comes later");
    let templates = fixture.templates().await;
    let marked: BTreeSet<String> = templates
        .iter()
        .filter(|(_, template)| !markers(template).is_empty())
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(
        marked,
        set(&["app"]),
        "the StatefulSet comes after the DaemonSet"
    );
    assert_eq!(
        fixture.jobs().await.len(),
        6,
        "each round made the CronJob run"
    );
    for kind in [
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicies",
    ] {
        fixture
            .cp
            .request(
                Method::DELETE,
                &format!("/apis/{api}/{kind}/{policy}"),
                None,
            )
            .await
            .object();
    }
}

/// The real one is limited to five requests per second after the first ten: the more workloads, the later the last.
#[tokio::test]
async fn workloads_are_reloaded_one_after_the_other() {
    const WORKLOADS: usize = 40;
    let fixture = Fixture::alone("many").await;
    fixture.secret("db", &json!({})).await;
    for number in 0..WORKLOADS {
        fixture
            .create(&deployment(&format!("app-{number}")).listed("db"))
            .await;
    }
    let started = Instant::now();
    fixture.change("db").await;
    let done = wait_for("all of them", || async {
        let templates = fixture.templates().await;
        templates
            .values()
            .all(|template| !markers(template).is_empty())
            .then(|| started.elapsed())
    })
    .await;
    print_line(&format!(
        "{WORKLOADS} Deployments of one Secret: the last one after {done:?}"
    ));
    assert!(done < Duration::from_secs(30));
}
