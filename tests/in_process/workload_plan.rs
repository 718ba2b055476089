//! Workloads through the complete admission path, without a cluster: reviews in, patched objects out. First tables,
//! then properties of every workload. `PROPTEST_CASES` sets their number.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failing helper fails its test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use floe_secrets_webhook::admission::event::metrics::AdmissionMetrics;
use floe_secrets_webhook::admission::handler::{Handler, Received};
use floe_secrets_webhook::admission::pipeline::Pipeline;
use floe_secrets_webhook::admission::policy::Policy;
use floe_secrets_webhook::admission::sources::{Source, Sources};
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::backend::static_binder::StaticBinder;
use floe_secrets_webhook::backend::{
    BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder,
};
use floe_secrets_webhook::defaults::{Defaults, DefaultsObject, DefaultsReader};
use floe_secrets_webhook::telemetry::span::Span;
use injection::{Annotations, SecretBinding, SecretSource};
use prometheus_client::registry::Registry;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use serde_json::{Map, Value, json};
use testbed::reloader_rules::{MATCH, ReloadDecision, reload_decision};
use tokio::time::Instant;

const PREFIX: &str = "secrets.floe.dev/";
const RECORD: &str = "secrets.floe.dev/injected";
const INHERITED: &str = "secrets.floe.dev/inherited";
const LIST: &str = "secret.reloader.stakater.com/reload";
const INFISICAL: &str = "secrets.infisical.com/auto-reload";

// === fixture ===

/// Backend that always fails.
#[derive(Debug)]
struct Down;

#[async_trait]
impl SecretBinder for Down {
    fn kind(&self) -> BackendKind {
        BackendKind::Kubernetes
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        Err(BackendError::about(
            ErrorKind::Unavailable,
            self.kind(),
            query,
        ))
    }
}

/// Defaults of the namespace.
#[derive(Debug, Default)]
struct Namespace(BTreeMap<String, String>);

#[async_trait]
impl DefaultsReader for Namespace {
    async fn namespace(&self, _: &str, _: Instant) -> Result<Option<DefaultsObject>, BackendError> {
        let annotations = Annotations::from_pairs(self.0.clone());
        Ok(Some(DefaultsObject {
            annotations,
            enabled: true,
            ..DefaultsObject::default()
        }))
    }

    async fn service_account(
        &self,
        _: &str,
        _: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(None)
    }
}

struct Fixture {
    handler: Handler,
    surface: Surface,
    runtime: tokio::runtime::Runtime,
}

struct Admitted {
    allowed: bool,
    /// Stored object.
    object: Value,
    patch: Vec<Value>,
    message: String,
    warnings: Vec<String>,
}

fn secrets(more: &[&str]) -> StaticBinder {
    let mut known = StaticBinder::default();
    for name in ["a", "b", "a.b", "c"] {
        let keys = ["k", "value"].into_iter().chain(more.iter().copied());
        known.insert("ns", name, keys.map(str::to_owned));
    }
    known
}

impl Fixture {
    fn new(inject_template: bool) -> Self {
        Self::with(Arc::new(secrets(&[])), inject_template, None)
    }

    fn with(
        binder: Arc<dyn SecretBinder>,
        inject_template: bool,
        defaults: Option<&[(&str, &str)]>,
    ) -> Self {
        let sources = Sources::from([(
            SecretSource::Kubernetes,
            Source {
                binder,
                recent_names: None,
            },
        )]);
        let surface = if defaults.is_some() {
            Surface::DefaultsWorkloads
        } else {
            Surface::Workloads
        };
        let namespace = defaults
            .into_iter()
            .flatten()
            .map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned()));
        let defaults = Arc::new(Defaults::new(Arc::new(Namespace(namespace.collect()))));
        let policy = Policy {
            inject_template,
            ..Policy::default()
        };
        let metrics = AdmissionMetrics::register(&mut Registry::default());
        let handler = Handler::new(Arc::new(Pipeline::new(sources, defaults, policy)), metrics);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            handler,
            surface,
            runtime,
        }
    }

    fn admit(&self, object: &Value, old: Option<&Value>) -> Admitted {
        let kind = object["kind"].as_str().unwrap();
        let group = object["apiVersion"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "namespace": "ns",
                "resource": {"group": group, "version": "v1", "resource": format!("{}s", kind.to_lowercase())},
                "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
                "object": object, "oldObject": old,
            },
        });
        let bytes = serde_json::to_vec(&review).unwrap();
        let answer = self.runtime.block_on(async {
            self.handler
                .handle(
                    self.surface,
                    Received::in_process(Some("timeout=5s")),
                    &bytes,
                    Span::off(),
                )
                .await
                .unwrap()
        });
        let response = serde_json::to_value(answer).unwrap()["response"].take();
        let patch = response["patch"].as_str().map(|patch| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .decode(patch)
                .unwrap()
        });
        let patch: json_patch::Patch = patch
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
            .unwrap_or_default();
        let mut after = object.clone();
        json_patch::patch(&mut after, &patch).unwrap();
        let list = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Admitted {
            allowed: response["allowed"] == true,
            object: stored(after),
            patch: serde_json::to_value(&patch)
                .unwrap()
                .as_array()
                .cloned()
                .unwrap_or_default(),
            message: response["status"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            warnings: list(&response["warnings"]),
        }
    }

    #[track_caller]
    fn create(&self, object: &Value) -> Value {
        let admitted = self.admit(object, None);
        assert!(admitted.allowed, "{}", admitted.message);
        admitted.object
    }

    #[track_caller]
    fn update(&self, object: &Value, old: &Value) -> Value {
        let admitted = self.admit(object, Some(old));
        assert!(admitted.allowed, "{}", admitted.message);
        admitted.object
    }
}

/// Empty maps and lists are absent, as in the API server's objects.
fn stored(mut value: Value) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (_, value) in map.iter_mut() {
                    prune(value);
                }
                map.retain(|key, value| {
                    let prunable = matches!(
                        key.as_str(),
                        "annotations" | "labels" | "env" | "envFrom" | "metadata"
                    );
                    !(prunable && (value.is_null() || value == &json!({}) || value == &json!([])))
                });
            }
            Value::Array(list) => list.iter_mut().for_each(prune),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    prune(&mut value);
    value
}

fn prefixed(pairs: &[(&str, &str)]) -> Value {
    pairs
        .iter()
        .map(|(key, value)| (format!("{PREFIX}{key}"), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// Annotation of a template that inherits these.
fn inherited(pairs: &[(&str, &str)]) -> Value {
    let keys: BTreeMap<&str, &str> = pairs.iter().copied().collect();
    json!({INHERITED: serde_json::to_string(&keys).unwrap()})
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "input of a test is defined where it is used"
)]
fn deployment(metadata: Value, template: Value, container: Value) -> Value {
    workload("Deployment", &metadata, &template, &container)
}

/// Workload with these annotations on its metadata and its template, and this container.
fn workload(kind: &str, metadata: &Value, template: &Value, container: &Value) -> Value {
    let version = match kind {
        "Job" | "CronJob" => "batch/v1",
        "Rollout" => "argoproj.io/v1alpha1",
        _ => "apps/v1",
    };
    let mut one = json!({"name": "main", "image": "none"});
    for (key, value) in container.as_object().into_iter().flatten() {
        one[key] = value.clone();
    }
    let template = json!({"metadata": {"annotations": template}, "spec": {"containers": [one]}});
    let spec = match kind {
        "CronJob" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
        _ => json!({"template": template}),
    };
    stored(
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "w", "annotations": metadata}, "spec": spec}),
    )
}

fn template(object: &Value) -> &Value {
    let path = if object["kind"] == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    };
    object.pointer(path).unwrap()
}

fn record(object: &Value) -> Value {
    let text = object["metadata"]["annotations"][RECORD]
        .as_str()
        .unwrap_or("null");
    serde_json::from_str(text).unwrap()
}

fn touched(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["labels"]["touched"] = json!("yes");
    object
}

fn annotate(object: &Value, key: &str, value: Option<&str>) -> Value {
    let mut object = object.clone();
    match value {
        Some(value) => object["metadata"]["annotations"][key] = json!(value),
        None => drop(
            object["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove(key),
        ),
    }
    stored(object)
}

// === annotations only, the default ===

#[rstest]
#[case::deployment("Deployment", true)]
#[case::stateful_set("StatefulSet", true)]
#[case::daemon_set("DaemonSet", true)]
#[case::rollout("Rollout", true)]
#[case::job("Job", false)]
#[case::cron_job("CronJob", false)]
fn keys_are_inherited_and_restartable_kinds_are_annotated(
    #[case] kind: &str,
    #[case] restarts: bool,
) {
    let fixture = Fixture::new(false);
    let original = workload(
        kind,
        &prefixed(&[("env-from", "a.b"), ("refs", "c/k")]),
        &json!({"x": "y"}),
        &json!({}),
    );
    let live = fixture.create(&original);
    let mut expected = inherited(&[("env-from", "a.b"), ("refs", "c/k")]);
    expected["x"] = json!("y");
    assert_eq!(template(&live)["metadata"]["annotations"], expected);
    assert_eq!(
        template(&live)["spec"],
        template(&original)["spec"],
        "annotations alone"
    );
    let list = &live["metadata"]["annotations"][LIST];
    assert_eq!(
        list,
        &if restarts {
            json!(r"a\.b,c")
        } else {
            json!(null)
        }
    );
    assert_eq!(record(&live)["copied"], json!(null), "nothing is copied");
    assert!(fixture.admit(&live, None).patch.is_empty(), "reinvoked");
    assert_eq!(
        fixture.admit(&touched(&live), Some(&live)).patch.len(),
        0,
        "untouched"
    );
    if kind != "Job" {
        let mut bare = live.clone();
        for key in ["env-from", "refs"] {
            bare = annotate(&bare, &format!("{PREFIX}{key}"), None);
        }
        let mut original = original.clone();
        original["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
        assert_eq!(
            fixture.update(&bare, &live),
            original,
            "all of it is taken back"
        );
    }
}

#[test]
fn cron_job_template_annotations_are_nearer_than_metadata() {
    let mut object = workload(
        "CronJob",
        &prefixed(&[("env-from", "a"), ("on-missing", "warn")]),
        &json!({}),
        &json!({}),
    );
    object["spec"]["jobTemplate"]["metadata"]["annotations"] = prefixed(&[("env-from", "b")]);
    let live = Fixture::new(false).create(&object);
    assert_eq!(
        template(&live)["metadata"]["annotations"],
        inherited(&[("env-from", "b"), ("on-missing", "warn")])
    );
}

#[test]
fn missed_review_restarts_nothing_until_template_changes() {
    let fixture = Fixture::new(false);
    let missed = deployment(prefixed(&[("env-from", "a")]), json!({}), json!({}));
    let live = fixture.update(&touched(&missed), &missed);
    assert_eq!(template(&live), template(&missed));
    assert_eq!(
        live["metadata"]["annotations"][LIST], "a",
        "the metadata restarts nothing"
    );
    let mut restarted = live.clone();
    restarted["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] =
        json!("now");
    let healed = fixture.update(&restarted, &live);
    assert_eq!(
        template(&healed)["metadata"]["annotations"][INHERITED],
        r#"{"env-from":"a"}"#
    );
}

#[test]
fn dropped_entries_return_unchanged_after_replace() {
    for inject_template in [false, true] {
        let fixture = Fixture::new(inject_template);
        let manifest = deployment(
            prefixed(&[("env-from", "a,b"), ("refs", "c/*")]),
            json!({}),
            json!({"envFrom": [{"secretRef": {"name": "x"}}], "env": [{"name": "P", "value": "$(FLOE_SECRET_C_K)"}]}),
        );
        let live = fixture.create(&manifest);
        assert_ne!(live, manifest);
        assert_eq!(
            fixture.update(&manifest, &live),
            live,
            "template: {inject_template}"
        );
    }
}

#[test]
fn author_list_keeps_entries_and_regains_ours_after_apply() {
    let fixture = Fixture::new(false);
    let mut metadata = prefixed(&[("env-from", "a,b")]);
    metadata[LIST] = json!("x.*, b");
    let live = fixture.create(&deployment(metadata, json!({}), json!({})));
    assert_eq!(live["metadata"]["annotations"][LIST], "x.*, b,a");
    // Client-side and server-side apply send the author's value again.
    let applied = annotate(&live, LIST, Some("x.*, b"));
    assert_eq!(fixture.update(&applied, &live), live);
    let bare = annotate(&live, &format!("{PREFIX}env-from"), None);
    assert_eq!(
        fixture.update(&bare, &live)["metadata"]["annotations"],
        json!({LIST: "x.*, b"})
    );
}

#[rstest]
#[case::opted_out("reloader.stakater.com/auto", "false")]
#[case::another("reloader.stakater.com/auto", "true")]
#[case::infisical(INFISICAL, "true")]
fn author_statement_removes_ours(#[case] key: &str, #[case] value: &str) {
    let fixture = Fixture::new(false);
    let live = fixture.create(&deployment(
        prefixed(&[("env-from", "a")]),
        json!({}),
        json!({}),
    ));
    assert_eq!(live["metadata"]["annotations"][LIST], "a");
    let message = fixture.update(&annotate(&live, key, Some(value)), &live);
    assert_eq!(message["metadata"]["annotations"][LIST], json!(null));
    assert_eq!(template(&message), template(&live), "nothing restarts");
}

/// Managed fields of server-side applies: each manager, the time of its apply, and the annotations that it owns.
fn applied_by(object: &Value, managers: &[(&str, &str, &[&str])]) -> Value {
    let entry = |(manager, time, names): &(&str, &str, &[&str])| {
        let fields: Map<String, Value> = names
            .iter()
            .map(|name| (format!("f:{name}"), json!({})))
            .collect();
        json!({"manager": manager, "operation": "Apply", "time": time, "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": fields}}})
    };
    let mut object = object.clone();
    object["metadata"]["managedFields"] = managers.iter().map(entry).collect();
    object
}

#[test]
fn entries_next_to_server_side_applied_list_stay_ours() {
    let fixture = Fixture::new(false);
    let names: &[&str] = &[LIST, "secrets.floe.dev/env-from"];
    let manifest = deployment(
        json!({LIST: "x", "secrets.floe.dev/env-from": "a"}),
        json!({}),
        json!({}),
    );
    let live = fixture
        .admit(&applied_by(&manifest, &[("gitops", "1", names)]), None)
        .object;
    assert_eq!(live["metadata"]["annotations"][LIST], "x,a");
    let beside = applied_by(&live, &[("gitops", "1", names), ("costs", "2", &[])]);
    assert_eq!(
        fixture.admit(&touched(&beside), Some(&live)).patch,
        Vec::<Value>::new()
    );
    let removed = annotate(&beside, "secrets.floe.dev/env-from", None);
    assert_eq!(
        fixture.update(&removed, &beside)["metadata"]["annotations"],
        json!({LIST: "x"})
    );
    // The author's manager sends an entry of the webhook: from now on it is the author's.
    let sent = applied_by(&removed, &[("gitops", "3", &[LIST])]);
    assert_eq!(
        fixture.update(&sent, &beside)["metadata"]["annotations"],
        json!({LIST: "x,a"})
    );
}

#[test]
fn opting_out_is_inherited_too() {
    let fixture = Fixture::with(Arc::new(secrets(&[])), true, Some(&[("env-from", "a")]));
    let live = fixture.create(&deployment(
        prefixed(&[("inject", "false")]),
        json!({}),
        json!({}),
    ));
    assert_eq!(
        template(&live)["metadata"]["annotations"],
        inherited(&[("inject", "false")])
    );
    assert_eq!(live["metadata"]["annotations"][LIST], json!(null));
    assert_eq!(
        template(&live)["spec"]["containers"][0]["envFrom"],
        json!(null)
    );
}

#[test]
fn defaults_lead_to_restarts_and_are_not_inherited() {
    let fixture = Fixture::with(Arc::new(secrets(&[])), false, Some(&[("env-from", "a")]));
    let bare = deployment(json!({}), json!({}), json!({}));
    let live = fixture.create(&bare);
    assert_eq!(template(&live), template(&bare));
    assert_eq!(live["metadata"]["annotations"][LIST], "a");
    let without = Fixture::with(Arc::new(secrets(&[])), false, Some(&[]));
    assert_eq!(
        without.update(&touched(&live), &live),
        touched(&bare),
        "the default is gone"
    );
}

// === rejections and warnings ===

#[test]
fn too_long_inherited_annotations_are_rejected_with_solution() {
    let fixture = Fixture::new(false);
    let of = |keys: usize, template: usize| {
        let pairs = (0..keys).map(|n| {
            (
                format!("{PREFIX}env.V{n}"),
                json!(format!("a/{}", "k".repeat(200))),
            )
        });
        let annotations = json!({"other": "x".repeat(template)});
        fixture.admit(
            &deployment(pairs.collect::<Map<_, _>>().into(), annotations, json!({})),
            None,
        )
    };
    assert!(of(200, 0).allowed, "{}", of(200, 0).message);
    let long = of(250 + 60, 0);
    assert!(
        !long.allowed && long.message.contains("secrets.floe.dev/inherited"),
        "{}",
        long.message
    );
    assert!(
        long.message
            .contains("Write them on the pod template instead"),
        "{}",
        long.message
    );
    assert!(of(100, 230_000).allowed, "{}", of(100, 230_000).message);
    let heavy = of(100, 250_000);
    assert!(
        !heavy.allowed && heavy.message.contains("at most 262144 are allowed"),
        "{}",
        heavy.message
    );
}

#[test]
fn inherited_annotation_is_rejected_on_metadata() {
    let fixture = Fixture::new(false);
    let refused = fixture.admit(
        &deployment(
            prefixed(&[("inherited", "{}"), ("env-from", "a")]),
            json!({}),
            json!({}),
        ),
        None,
    );
    assert!(
        !refused.allowed && refused.message.contains("remove it from the metadata"),
        "{}",
        refused.message
    );
}

#[test]
fn forged_inherited_annotation_is_rewritten() {
    let fixture = Fixture::new(false);
    for forged in ["{}", "[", r#"{"env-from":"b"}"#, r#"{"injected":"{}"}"#] {
        let live = fixture.create(&deployment(
            prefixed(&[("env-from", "a")]),
            json!({INHERITED: forged}),
            json!({}),
        ));
        assert_eq!(
            template(&live)["metadata"]["annotations"],
            inherited(&[("env-from", "a")]),
            "{forged}"
        );
        let bare = fixture.create(&deployment(
            json!({}),
            json!({INHERITED: forged, "x": "y"}),
            json!({}),
        ));
        assert_eq!(
            template(&bare)["metadata"]["annotations"],
            json!({"x": "y"}),
            "{forged}"
        );
    }
}

#[test]
fn missing_secret_is_warning_unless_author_denies() {
    let fixture = Fixture::new(false);
    let of = |pairs: &[(&str, &str)]| {
        fixture.admit(&deployment(prefixed(pairs), json!({}), json!({})), None)
    };
    let warned = of(&[("env-from", "nowhere")]);
    assert!(warned.allowed);
    assert_eq!(
        warned.warnings,
        ["secret \"nowhere\" not found in namespace \"ns\"; pods are refused until it exists."]
    );
    assert_eq!(
        template(&warned.object)["metadata"]["annotations"],
        inherited(&[("env-from", "nowhere")])
    );
    let waits = of(&[("env-from", "nowhere"), ("on-missing", "warn")]);
    assert!(
        waits.warnings[0].ends_with("the pod waits until it exists"),
        "{:?}",
        waits.warnings
    );
    let refused = of(&[("env-from", "nowhere"), ("on-missing", "deny")]);
    assert!(!refused.allowed);
    assert!(
        refused
            .message
            .starts_with("secret \"nowhere\" not found in namespace \"ns\""),
        "{}",
        refused.message
    );
    // A default is not a statement of the author.
    let operators = Fixture::with(
        Arc::new(secrets(&[])),
        false,
        Some(&[("on-missing", "deny")]),
    );
    assert!(
        operators
            .admit(
                &deployment(prefixed(&[("env-from", "nowhere")]), json!({}), json!({})),
                None
            )
            .allowed
    );
}

#[test]
fn malformed_annotations_are_rejected_only_where_they_are_written() {
    for place in ["metadata", "template"] {
        let bad = prefixed(&[("ref", "a"), ("reload", "never")]);
        let (metadata, inner) = if place == "metadata" {
            (bad, json!({}))
        } else {
            (json!({}), bad)
        };
        let object = deployment(metadata, inner, json!({}));
        let fixture = Fixture::new(true);
        let refused = fixture.admit(&object, None);
        assert!(!refused.allowed, "{place}");
        assert!(
            refused
                .message
                .contains("did you mean secrets.floe.dev/refs?"),
            "{}",
            refused.message
        );
        assert!(
            refused.message.contains("secrets.floe.dev/reload"),
            "{}",
            refused.message
        );
        // Written while the webhook was off: scaling or labelling is not rejected, and nothing changes.
        let later = fixture.admit(&touched(&object), Some(&object));
        assert_eq!(
            (later.allowed, later.patch.len(), later.warnings.len()),
            (true, 0, 0),
            "{place}: {}",
            later.message
        );
        let mut image = object.clone();
        image["spec"]["template"]["spec"]["containers"][0]["image"] = json!("new");
        let later = fixture.admit(&image, Some(&object));
        assert!(later.allowed, "{place}: {}", later.message);
        // Changed, and still malformed.
        assert!(
            !fixture
                .admit(
                    &annotate(&object, &format!("{PREFIX}env-from"), Some("a")),
                    Some(&object)
                )
                .allowed
        );
    }
}

#[rstest]
fn unavailable_backend_rejects_no_workload(#[values(false, true)] inject_template: bool) {
    let fixture = Fixture::with(Arc::new(Down), inject_template, None);
    let object = deployment(
        prefixed(&[("env-from", "a"), ("refs", "b/*"), ("on-missing", "deny")]),
        json!({}),
        json!({}),
    );
    let admitted = fixture.admit(&object, None);
    assert!(admitted.allowed, "{}", admitted.message);
    assert!(
        admitted.warnings[0].contains("unavailable"),
        "{:?}",
        admitted.warnings
    );
    assert_eq!(
        template(&admitted.object)["metadata"]["annotations"][INHERITED],
        r#"{"env-from":"a","on-missing":"deny","refs":"b/*"}"#
    );
    assert_eq!(
        template(&admitted.object)["spec"],
        template(&object)["spec"]
    );
    assert_eq!(admitted.object["metadata"]["annotations"][LIST], "a,b");
    // Entries that were injected before the outage stay.
    let up = Fixture::new(true).create(&deployment(
        prefixed(&[("env-from", "a")]),
        json!({}),
        json!({}),
    ));
    let changed = annotate(&up, &format!("{PREFIX}env-from"), Some("a,b"));
    let kept = fixture.update(&changed, &up);
    assert_eq!(template(&kept)["spec"], template(&up)["spec"]);
}

#[test]
fn unrelated_updates_are_left_alone() {
    let fixture = Fixture::new(false);
    let object = deployment(prefixed(&[("env-from", "a")]), json!({}), json!({}));
    let mut deleted = object.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(fixture.admit(&deleted, Some(&object)).patch.is_empty());
    let mut replica_set = object.clone();
    replica_set["kind"] = json!("ReplicaSet");
    assert!(fixture.admit(&replica_set, None).patch.is_empty());
    let job = workload(
        "Job",
        &prefixed(&[("env-from", "a")]),
        &json!({}),
        &json!({}),
    );
    assert!(fixture.admit(&touched(&job), Some(&job)).patch.is_empty());
}

// === injection into the template ===

fn sources(object: &Value) -> Vec<&str> {
    let list = template(object)["spec"]["containers"][0]["envFrom"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(|source| source["secretRef"]["name"].as_str())
        .collect()
}

fn variables(object: &Value) -> Vec<&str> {
    let list = template(object)["spec"]["containers"][0]["env"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(|entry| entry["name"].as_str())
        .collect()
}

#[test]
fn template_is_injected_if_operator_enables_it() {
    let fixture = Fixture::new(true);
    let container =
        json!({"envFrom": [{"secretRef": {"name": "x"}}], "env": [{"name": "MINE", "value": "1"}]});
    let original = deployment(
        prefixed(&[("env-from", "a,b"), ("env.USER", "c/k")]),
        json!({}),
        container,
    );
    let live = fixture.create(&original);
    assert_eq!(
        (sources(&live), variables(&live)),
        (vec!["a", "b", "x"], vec!["MINE", "USER"])
    );
    assert_eq!(template(&live)["metadata"]["labels"][RECORD], "true");

    let fewer = fixture.update(
        &annotate(&live, &format!("{PREFIX}env-from"), Some("b,c")),
        &live,
    );
    assert_eq!(
        (sources(&fewer), variables(&fewer)),
        (vec!["b", "c", "x"], vec!["MINE", "USER"])
    );

    let elsewhere = fixture.update(
        &annotate(&fewer, &format!("{PREFIX}containers"), Some("other*")),
        &fewer,
    );
    assert_eq!(
        (sources(&elsewhere), variables(&elsewhere)),
        (vec!["x"], vec!["MINE"])
    );

    let mut bare = live.clone();
    for key in ["env-from", "env.USER"] {
        bare = annotate(&bare, &format!("{PREFIX}{key}"), None);
    }
    let mut plain = original.clone();
    plain["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    assert_eq!(fixture.update(&bare, &live), plain);
    // If the operator turns it off, the entries are removed with the next change of the template.
    let off = Fixture::new(false);
    assert_eq!(
        template(&off.update(&touched(&live), &live)),
        template(&live)
    );
    let mut image = live.clone();
    image["spec"]["template"]["spec"]["containers"][0]["image"] = json!("new");
    assert_eq!(sources(&off.update(&image, &live)), ["x"]);
}

#[test]
fn repeated_author_list_yields_same_object() {
    let fixture = Fixture::new(true);
    let original = deployment(
        prefixed(&[("env-from", "a")]),
        json!({}),
        json!({"envFrom": [{"secretRef": {"name": "x"}}]}),
    );
    let live = fixture.create(&original);
    let mut applied = live.clone();
    applied["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{"secretRef": {"name": "x"}}]);
    assert_eq!(fixture.update(&applied, &live), live);
}

#[test]
fn entries_adopted_by_author_stay() {
    let fixture = Fixture::new(true);
    let live = fixture.create(&deployment(
        prefixed(&[("env-from", "a,b"), ("env.USER", "c/k")]),
        json!({}),
        json!({}),
    ));
    // The author writes one of the injected sources, and an injected variable with another key.
    let mut author_object = live.clone();
    let container = &mut author_object["spec"]["template"]["spec"]["containers"][0];
    container["envFrom"] = json!([{"secretRef": {"name": "a"}}]);
    container["env"] =
        json!([{"name": "USER", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}]);
    let bare = annotate(
        &annotate(&author_object, &format!("{PREFIX}env-from"), None),
        &format!("{PREFIX}env.USER"),
        None,
    );
    let left = fixture.update(&bare, &live);
    assert_eq!(
        (sources(&left), variables(&left)),
        (vec!["a"], vec!["USER"])
    );
    // While the annotation is there: a warning, and the author's value.
    let kept = fixture.update(&author_object, &live);
    assert_eq!(
        template(&kept)["spec"]["containers"][0]["env"],
        author_object["spec"]["template"]["spec"]["containers"][0]["env"]
    );
    assert_eq!(sources(&kept), ["a", "b"]);
}

#[test]
fn new_version_or_key_changes_no_untouched_template() {
    let live = Fixture::new(true).create(&deployment(
        prefixed(&[("refs", "a/*")]),
        json!({}),
        json!({}),
    ));
    assert_eq!(variables(&live), ["FLOE_SECRET_A_K", "FLOE_SECRET_A_VALUE"]);
    let grown = Fixture::with(Arc::new(secrets(&["new"])), true, None);
    assert!(grown.admit(&touched(&live), Some(&live)).patch.is_empty());
    // State after another version: other names, and a record that has them.
    let text = live.to_string().replace("FLOE_SECRET_A_K", "OLD_NAME");
    let older: Value = serde_json::from_str(&text).unwrap();
    assert!(grown.admit(&touched(&older), Some(&older)).patch.is_empty());
    let again = annotate(&older, &format!("{PREFIX}refs"), Some("a/k"));
    assert_eq!(
        variables(&grown.update(&again, &older)),
        ["FLOE_SECRET_A_K"],
        "updated: entries of this version, and the old ones are removed"
    );
}

#[test]
fn entries_of_offline_inject_belong_to_author() {
    let fixture = Fixture::new(false);
    let record = json!({"containers": {"main": {"envFrom": ["a"]}}}).to_string();
    let mut annotations = prefixed(&[("env-from", "a")]);
    annotations[RECORD] = json!(record);
    let object = deployment(
        json!({}),
        annotations,
        json!({"envFrom": [{"secretRef": {"name": "a"}}]}),
    );
    let live = fixture.create(&object);
    assert_eq!(template(&live), template(&object));
    let mut more = live.clone();
    more["spec"]["template"]["metadata"]["annotations"][format!("{PREFIX}refs")] = json!("c/k");
    assert_eq!(template(&fixture.update(&more, &live)), template(&more));
}

#[test]
fn infisical_reload_writes_template_and_its_own_annotation() {
    let fixture = Fixture::new(false);
    let original = deployment(
        prefixed(&[("env-from", "a"), ("reload", "infisical")]),
        json!({}),
        json!({}),
    );
    let live = fixture.create(&original);
    assert_eq!(live["metadata"]["annotations"][INFISICAL], "true");
    assert_eq!(live["metadata"]["annotations"][LIST], json!(null));
    assert_eq!(sources(&live), ["a"]);
    let other = fixture.update(
        &annotate(&live, &format!("{PREFIX}reload"), Some("reloader")),
        &live,
    );
    assert_eq!(other["metadata"]["annotations"][INFISICAL], json!(null));
    assert_eq!(other["metadata"]["annotations"][LIST], "a");
    assert_eq!(sources(&other), Vec::<&str>::new());
    // The next run reads the new value: a Job needs no restart.
    let job = fixture.create(&workload(
        "Job",
        &prefixed(&[("env-from", "a"), ("reload", "infisical")]),
        &json!({}),
        &json!({}),
    ));
    assert_eq!(
        (
            sources(&job).len(),
            &job["metadata"]["annotations"][INFISICAL]
        ),
        (0, &json!(null))
    );
}

#[test]
fn older_template_restores_its_record() {
    let fixture = Fixture::new(true);
    let first = fixture.create(&deployment(
        prefixed(&[("env-from", "a")]),
        json!({}),
        json!({}),
    ));
    let second = fixture.update(
        &annotate(&first, &format!("{PREFIX}env-from"), Some("b")),
        &first,
    );
    assert_eq!(sources(&second), ["b"]);
    // kubectl rollout undo: the old template, and the annotations of that time.
    assert_eq!(fixture.update(&first, &second), first);
}

// === properties of every workload ===

fn restart_annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = select(
        &[
            "reloader.stakater.com/auto",
            "secret.reloader.stakater.com/auto",
            "secret.reloader.stakater.com/reload",
            "reloader.stakater.com/search",
            "reloader.stakater.com/ignore",
            "secrets.exclude.reloader.stakater.com/reload",
            "configmap.reloader.stakater.com/reload",
            "secrets.infisical.com/auto-reload",
            "foreign/x",
        ][..],
    );
    let value = select(
        &[
            "true", "false", "a", "a,b", r"a\.b", "a.b, x.*", "", ",", "x|a",
        ][..],
    );
    btree_map(
        key.prop_map(str::to_owned),
        value.prop_map(str::to_owned),
        0..3,
    )
}

fn requested_annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let list =
        vec(select(&["a", "b", "a.b", "nowhere"][..]), 1..3).prop_map(|names| names.join(","));
    let refs =
        vec(select(&["a/k", "b", "c/*", "a.b/k"][..]), 1..3).prop_map(|names| names.join(","));
    let fixed = (
        option::weighted(0.8, list),
        option::weighted(0.5, refs),
        option::weighted(0.5, select(&["auto", "reloader", "infisical", "off"][..])),
        option::weighted(0.3, select(&["main", "*", "side*"][..])),
        option::weighted(0.1, Just("false")),
    );
    fixed.prop_map(|(env_from, refs, reload, containers, inject)| {
        let reload = reload.map(str::to_owned);
        let pairs = [
            ("env-from", env_from),
            ("refs", refs),
            ("reload", reload),
            ("containers", containers.map(str::to_owned)),
            ("inject", inject.map(str::to_owned)),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((format!("{PREFIX}{key}"), value?)))
            .collect()
    })
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let variable = select(&["FLOE_SECRET_A_K", "FLOE_SECRET_B", "MINE"][..]);
    let entry = (
        variable,
        option::of(select(&["x", "$(FLOE_SECRET_A_K)"][..])),
    )
        .prop_map(|(name, value)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}}),
        });
    let source = select(&["a", "z"][..]).prop_map(|name| json!({"secretRef": {"name": name}}));
    (vec(entry, 0..3), vec(source, 0..3)).prop_map(move |(env, env_from)| {
        let mut env = env;
        env.dedup_by(|one, other| one["name"] == other["name"]);
        json!({"name": name, "image": "none", "env": env, "envFrom": env_from, "newField": {"x": 1}})
    })
}

/// Workload as its author writes it; annotations of the webhook are on its metadata alone.
fn made_up() -> impl Strategy<Value = Value> {
    let kind = select(
        &[
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "CronJob",
            "Rollout",
        ][..],
    );
    (
        kind,
        requested_annotations(),
        restart_annotations(),
        restart_annotations(),
        container("main"),
        container("side"),
    )
        .prop_map(|(kind, prefixed, own, inner, main, side)| {
            let own: BTreeMap<String, String> = prefixed.into_iter().chain(own).collect();
            let mut object = workload(kind, &json!(own), &json!(inner), &json!({}));
            let path = if kind == "CronJob" {
                "/spec/jobTemplate/spec/template"
            } else {
                "/spec/template"
            };
            object.pointer_mut(path).unwrap()["spec"]["containers"] = json!([main, side]);
            stored(object)
        })
}

/// Changes by Reloader, with its two strategies, at any position of a merged entry, and with a pause of the Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reloaded {
    FirstVariable,
    LastVariable,
    Annotation,
    Paused,
}

fn reloaded_how() -> impl Strategy<Value = Reloaded> {
    select(
        &[
            Reloaded::FirstVariable,
            Reloaded::LastVariable,
            Reloaded::Annotation,
            Reloaded::Paused,
        ][..],
    )
}

const MARKER: &str = "STAKATER_A_SECRET";

fn reloaded(object: &Value, how: Reloaded) -> Value {
    let mut object = object.clone();
    let path = if object["kind"] == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    };
    let inner = object.pointer_mut(path).unwrap();
    if how == Reloaded::Annotation {
        inner["metadata"]["annotations"]["reloader.stakater.com/last-reloaded-from"] = json!("{}");
        return object;
    }
    let container = &mut inner["spec"]["containers"][0];
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    if env.iter().all(|entry| entry["name"] != MARKER) {
        let place = if how == Reloaded::FirstVariable {
            0
        } else {
            env.len()
        };
        env.insert(place, json!({"name": MARKER, "value": "sha"}));
    }
    container["env"] = json!(env);
    if how == Reloaded::Paused {
        object["metadata"]["annotations"]["deployment.reloader.stakater.com/paused-at"] =
            json!("now");
        object["spec"]["paused"] = json!(true);
    }
    object
}

/// Object without Reloader's variables, and these.
fn split(object: &Value) -> (Value, Vec<Value>) {
    let mut object = object.clone();
    let path = if object["kind"] == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    };
    let containers = object.pointer_mut(path).unwrap()["spec"]["containers"]
        .as_array_mut()
        .unwrap();
    let mut markers = Vec::new();
    for env in containers
        .iter_mut()
        .filter_map(|container| container["env"].as_array_mut())
    {
        markers.extend(env.extract_if(.., |entry| entry["name"] == MARKER));
    }
    (stored(object), markers)
}

/// Annotations that an author may change on a live workload, each with a value or none.
fn change() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let prefixed = (
        select(&["env-from", "refs"][..]),
        option::of(select(&["a", "b", "a.b,b"][..])),
    );
    let prefixed =
        prefixed.prop_map(|(key, value)| (format!("{PREFIX}{key}"), value.map(str::to_owned)));
    let reload = option::of(select(&["auto", "reloader", "infisical", "off"][..]));
    let reload = reload.prop_map(|value| (format!("{PREFIX}reload"), value.map(str::to_owned)));
    let author_object = restart_annotations().prop_map(|all| {
        all.into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect::<Vec<_>>()
    });
    (prefixed, option::of(reload), author_object).prop_map(|(prefixed, reload, author_object)| {
        [prefixed]
            .into_iter()
            .chain(reload)
            .chain(author_object)
            .collect()
    })
}

fn changed(object: &Value, change: &[(String, Option<String>)]) -> Value {
    let mut object = object.clone();
    for (key, value) in change {
        if value.is_some() || object["metadata"]["annotations"].is_object() {
            object = annotate(&object, key, value.as_deref());
        }
    }
    object
}

fn without_ours(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !key.starts_with(PREFIX) || key == RECORD);
    }
    stored(object)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn second_pass_and_touch_change_nothing(object in made_up(), inject_template in any::<bool>()) {
        let fixture = Fixture::new(inject_template);
        let first = fixture.admit(&object, None);
        prop_assume!(first.allowed);
        let live = first.object;
        prop_assert_eq!(fixture.admit(&live, None).patch, Vec::<Value>::new(), "reinvoked");
        prop_assert_eq!(fixture.admit(&touched(&live), Some(&live)).patch, Vec::<Value>::new(), "touched");
        prop_assert_eq!(fixture.update(&object, &live), live, "sent again as its author wrote it");
    }

    #[test]
    fn removal_takes_back_exactly_what_was_written(object in made_up(), inject_template in any::<bool>()) {
        let fixture = Fixture::new(inject_template);
        let first = fixture.admit(&object, None);
        prop_assume!(first.allowed);
        let bare = fixture.update(&without_ours(&first.object), &first.object);
        prop_assert_eq!(bare, without_ours(&object));
    }

    #[test]
    fn reloaders_patches_pass_unchanged(object in made_up(), inject_template in any::<bool>(), how in reloaded_how()) {
        let fixture = Fixture::new(inject_template);
        let first = fixture.admit(&object, None);
        prop_assume!(first.allowed);
        let live = first.object;
        let reloaded = reloaded(&live, how);
        prop_assert_eq!(fixture.update(&reloaded, &live), reloaded);
    }

    /// The order of the author's and Reloader's changes does not matter: the same object, except for the position of
    /// Reloader's variable.
    #[test]
    fn reloaders_patches_commute_with_ours(
        object in made_up(), change in change(), inject_template in any::<bool>(), how in reloaded_how(),
    ) {
        let fixture = Fixture::new(inject_template);
        let first = fixture.admit(&object, None);
        prop_assume!(first.allowed);
        let live = first.object;
        // Reloaded before the webhook first saw it.
        let late = fixture.admit(&reloaded(&object, how), None).object;
        prop_assert_eq!(split(&late), split(&reloaded(&live, how)));

        let reloaded_first = fixture.update(&reloaded(&live, how), &live);
        let then_changed = fixture.admit(&changed(&reloaded_first, &change), Some(&reloaded_first));
        let changed_first = fixture.admit(&changed(&live, &change), Some(&live));
        prop_assert_eq!(then_changed.allowed, changed_first.allowed);
        prop_assume!(changed_first.allowed);
        let then_reloaded = fixture.update(&reloaded(&changed_first.object, how), &changed_first.object);
        prop_assert_eq!(split(&then_changed.object), split(&then_reloaded));
        // Listed twice is the same as listed once.
        prop_assert_eq!(fixture.admit(&touched(&then_reloaded), Some(&then_reloaded)).patch, Vec::<Value>::new());
        prop_assert_eq!(fixture.update(&reloaded(&then_reloaded, how), &then_reloaded), then_reloaded);
    }

    /// Decision as in Reloader: the webhook's list adds the requested Secrets, and removes nothing.
    #[test]
    fn reloader_restarts_as_before_and_for_requested_secrets(object in made_up(), found in any::<bool>()) {
        let first = Fixture::new(false).admit(&object, None);
        prop_assume!(first.allowed);
        let live = first.object;
        let annotations = |object: &Value| -> [Value; 2] {
            [object["metadata"]["annotations"].clone(), template(object)["metadata"]["annotations"].clone()]
        };
        let ([own, inner], [own_after, inner_after]) = (annotations(&object), annotations(&live));
        let prefixed = record(&live)["restart"]["list"].as_array().cloned().unwrap_or_default();
        let secret = if found { json!({MATCH: "true"}) } else { json!({}) };
        for name in ["a", "b", "a.b", "axb", "a-b", "c", "nowhere", "x", "x1"] {
            let before = reload_decision(name, &secret, &own, &inner);
            let added = prefixed.contains(&json!(name.replace('.', r"\.")));
            let expected = if added { ReloadDecision::Named } else { before };
            prop_assert_eq!(reload_decision(name, &secret, &own_after, &inner_after), expected, "{} in {:#}", name, live);
        }
    }

    #[test]
    fn workload_has_at_most_one_reload_mechanism(object in made_up()) {
        let first = Fixture::new(false).admit(&object, None);
        prop_assume!(first.allowed);
        let written = &record(&first.object)["restart"];
        prop_assert!(written["list"].is_null() || written["infisical"].is_null(), "{written}");
        if object["kind"] == "CronJob" {
            prop_assert!(written.is_null(), "{written}");
        }
    }

    #[test]
    fn patch_remove_follows_a_test(object in made_up()) {
        let fixture = Fixture::new(true);
        let first = fixture.admit(&object, None);
        prop_assume!(first.allowed);
        let removing = fixture.admit(&without_ours(&first.object), Some(&first.object)).patch;
        for (at, operation) in removing.iter().enumerate().filter(|(_, operation)| operation["op"] == "remove") {
            let before = &removing[at - 1];
            prop_assert_eq!(&before["op"], "test");
            prop_assert!(before["path"].as_str().unwrap().starts_with(operation["path"].as_str().unwrap()));
        }
    }
}
