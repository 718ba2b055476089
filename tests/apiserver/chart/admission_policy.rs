//! Changes that the admission policies allow to the controller's account, on the real API server: one annotation and
//! the `caBundle`, although its roles here allow everything.

use std::time::Duration;

use serde_json::{Value, json};

use testbed::command_output::CommandOutput;
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, find_object};
use testbed::manifests::{deployment, job, prefixed};
use testbed::objects;
use testbed::wait_within;

const ACCOUNT: &str = "system:serviceaccount:floe-secrets-webhook:floe-secrets-controller";

/// Time limit until the API server enforces a new policy.
const POLICY_TIMEOUT: Duration = Duration::from_mins(1);

/// Control plane with the chart's policies, and the controller's account with every permission.
async fn fixture() -> ControlPlane {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    for name in [NAME, "jobs"] {
        cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await
            .object();
    }
    let rendered = Helm::V4.objects(
        NAME,
        &json!({"tls": {"mode": "self-managed"}, "webhook": {"exemptNamespaces": ["quiet"]}}),
    );
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "quiet"}}))
        .await
        .object();
    for object in &rendered {
        let kind = object["kind"].as_str().expect("a kind");
        if kind.starts_with("ValidatingAdmission") || kind == "MutatingWebhookConfiguration" {
            cp.create(object).await.object();
        }
    }
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let (_, name) = ACCOUNT.rsplit_once(':').expect("a name");
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": NAME});
    let bound = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "everything"}, "roleRef": role, "subjects": [subject]});
    cp.create(&bound).await.object();
    cp
}

/// Sends a merge patch as the controller's account.
async fn patch(cp: &ControlPlane, namespace: &str, object: &str, change: &Value) -> CommandOutput {
    let change = change.to_string();
    let args = [
        "--as",
        ACCOUNT,
        "-n",
        namespace,
        "patch",
        object,
        "--type=merge",
        "--patch",
        &change,
    ];
    cp.kubectl(&args, "").await
}

#[track_caller]
fn rejects(output: &CommandOutput, expected_message: &str) {
    let is_named = output
        .stderr
        .contains("ValidatingAdmissionPolicy 'floe-secrets-controller-");
    assert!(
        output.code != 0 && is_named && output.stderr.contains(expected_message),
        "no {expected_message:?} in {output:?}"
    );
}

/// Workload of each kind that the account may patch, by its name for kubectl.
fn workloads() -> Vec<(&'static str, Value)> {
    let containers = json!([{"name": "main", "image": "none"}]);
    let set = |kind: &str, more: &Value| {
        let mut object = deployment("asks", &prefixed(&json!({"env-from": "db"})), &containers);
        object["kind"] = kind.into();
        testbed::manifests::with(&mut object["spec"], more);
        object
    };
    vec![
        (
            "replicaset/asks",
            set("ReplicaSet", &json!({"replicas": 0})),
        ),
        (
            "statefulset/asks",
            set("StatefulSet", &json!({"serviceName": "asks"})),
        ),
        ("daemonset/asks", set("DaemonSet", &json!({}))),
        ("deployment/asks", set("Deployment", &json!({}))),
        (
            "job/asks",
            job("asks", &prefixed(&json!({"env-from": "db"})), &containers),
        ),
    ]
}

fn trigger(value: &Value) -> Value {
    json!({"metadata": {"annotations": {"retry.floe.dev/requested-for": value}}})
}

/// Waits until the API server enforces a new policy.
async fn known(cp: &ControlPlane, object: &str) {
    wait_within(POLICY_TIMEOUT, "the policy is in effect", || async {
        let refused = patch(
            cp,
            "jobs",
            object,
            &json!({"metadata": {"labels": {"probe": "a"}}}),
        )
        .await;
        let back = cp
            .kubectl(&["-n", "jobs", "label", object, "probe-"], "")
            .await;
        assert_eq!(back.code, 0, "{back:?}");
        (refused.code != 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn controller_can_change_only_one_annotation_and_the_ca() {
    let cp = &fixture().await;
    for (name, mut object) in workloads() {
        for namespace in ["jobs", "kube-system", "kube-node-lease", NAME, "quiet"] {
            object["metadata"]["namespace"] = namespace.into();
            cp.create(&object).await.object();
        }
        known(cp, name).await;
        annotations(cp, name).await;
        everything_else(cp, name).await;
        for namespace in ["kube-system", "kube-node-lease", NAME, "quiet"] {
            rejects(
                &patch(cp, namespace, name, &trigger(&"uid".into())).await,
                "in a namespace that the webhook leaves alone",
            );
        }
        // Other accounts are not affected.
        let label = ["-n", "kube-system", "label", name, "by=somebody"];
        cp.kubectl(&label, "").await.expect_success();
    }
    let fresh = deployment(
        "fresh",
        &json!({}),
        &json!([{"name": "main", "image": "none"}]),
    )
    .to_string();
    rejects(
        &cp.kubectl(
            &["--as", ACCOUNT, "-n", "jobs", "create", "-f", "-"],
            &fresh,
        )
        .await,
        "creates no workloads",
    );
    configuration(cp).await;
}

/// The one annotation can be added, changed and removed, with others on the object and without; no other annotation
/// can.
async fn annotations(cp: &ControlPlane, name: &str) {
    for value in [json!("a"), json!("b"), json!(null)] {
        patch(cp, "jobs", name, &trigger(&value))
            .await
            .expect_success();
    }
    let other = "changes no annotation but retry.floe.dev/requested-for";
    let change = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    rejects(
        &patch(cp, "jobs", name, &change("example.com/a", "b".into())).await,
        other,
    );
    let annotate = [
        "-n",
        "jobs",
        "annotate",
        "--overwrite",
        name,
        "example.com/a=b",
    ];
    cp.kubectl(&annotate, "").await.expect_success();
    for change in [
        change("example.com/a", "c".into()),
        change("example.com/a", json!(null)),
    ] {
        rejects(&patch(cp, "jobs", name, &change).await, other);
    }
    patch(cp, "jobs", name, &trigger(&"c".into()))
        .await
        .expect_success();
    // A controller of an older version still writes the former name of the annotation: it is rejected, changes nothing,
    // and leftover annotations hinder nobody.
    let former = "nudge.floe.dev/secret";
    rejects(
        &patch(cp, "jobs", name, &change(former, "uid".into())).await,
        other,
    );
    cp.kubectl(
        &["-n", "jobs", "annotate", name, &format!("{former}=uid")],
        "",
    )
    .await
    .expect_success();
    patch(cp, "jobs", name, &trigger(&"beside".into()))
        .await
        .expect_success();
    rejects(
        &patch(cp, "jobs", name, &change(former, "again".into())).await,
        other,
    );
    cp.kubectl(&["-n", "jobs", "annotate", name, &format!("{former}-")], "")
        .await
        .expect_success();
    let all = json!({"metadata": {"annotations": null}});
    rejects(&patch(cp, "jobs", name, &all).await, other);
    cp.kubectl(
        &[
            "-n",
            "jobs",
            "annotate",
            name,
            "example.com/a-",
            "retry.floe.dev/requested-for-",
        ],
        "",
    )
    .await
    .expect_success();
    // Now there are no annotations at all.
    patch(cp, "jobs", name, &trigger(&"d".into()))
        .await
        .expect_success();
    patch(cp, "jobs", name, &all).await.expect_success();
    patch(cp, "jobs", name, &trigger(&"e".into()))
        .await
        .expect_success();
}

async fn everything_else(cp: &ControlPlane, name: &str) {
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}]);
    for (change, expected_message) in [
        (
            json!({"metadata": {"labels": {"a": "b"}}}),
            "changes no labels, owners or finalizers",
        ),
        (
            json!({"metadata": {"finalizers": ["example.com/a"]}}),
            "changes no labels, owners or finalizers",
        ),
        (
            json!({"metadata": {"ownerReferences": owner}}),
            "changes no labels, owners or finalizers",
        ),
    ] {
        rejects(&patch(cp, "jobs", name, &change).await, expected_message);
    }
    // Fields of each kind's spec that users may change.
    let image = json!({"spec": {"template": {"spec": {"hostPID": true}}}});
    let spec = match name.split_once('/').expect("a kind").0 {
        "job" => json!({"spec": {"suspend": true}}),
        _ => image,
    };
    rejects(&patch(cp, "jobs", name, &spec).await, "changes no spec");
    let both = json!({"metadata": trigger(&"f".into())["metadata"], "spec": spec["spec"]});
    rejects(&patch(cp, "jobs", name, &both).await, "changes no spec");
}

/// Webhook configuration: the CA of every entry, and no other field.
async fn configuration(cp: &ControlPlane) {
    let name = "mutatingwebhookconfiguration/zz-floe-secrets-webhook";
    let rendered = Helm::V4.objects(NAME, &json!({"tls": {"mode": "self-managed"}}));
    let live = objects::path(find_object(
        &rendered,
        "MutatingWebhookConfiguration",
        "zz-floe-secrets-webhook",
    ));
    let entries = cp.request(http::Method::GET, &live, None).await.object()["webhooks"].take();
    let by_json = async |operations: Value| {
        let operations = operations.to_string();
        cp.kubectl(
            &[
                "--as",
                ACCOUNT,
                "patch",
                name,
                "--type=json",
                "--patch",
                &operations,
            ],
            "",
        )
        .await
    };
    // Same request as the controller's: server-side, every entry at once.
    let trusted: Vec<Value> = entries
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| json!({"name": entry["name"], "clientConfig": {"caBundle": "Y2E="}}))
        .collect();
    let apply = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "zz-floe-secrets-webhook"}, "webhooks": trusted});
    let args = [
        "--as",
        ACCOUNT,
        "apply",
        "--server-side",
        "--field-manager=ca",
        "-f",
        "-",
    ];
    // The API server accepts only a valid certificate.
    let pem = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        cp.authority.pem(),
    );
    cp.kubectl(&args, &apply.to_string().replace("Y2E=", &pem))
        .await
        .expect_success();
    let after = cp.request(http::Method::GET, &live, None).await.object()["webhooks"].take();
    assert!(
        after
            .as_array()
            .expect("entries")
            .iter()
            .all(|entry| entry["clientConfig"]["caBundle"] == *pem)
    );

    let nothing_else = "changes nothing of the webhook configuration but clientConfig.caBundle";
    for (path, value) in [
        ("name", json!("other.secrets.floe.dev")),
        ("rules/0/operations", json!(["CREATE", "UPDATE"])),
        ("rules/0/resources", json!(["pods", "secrets"])),
        ("failurePolicy", json!("Ignore")),
        ("matchPolicy", json!("Exact")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({"matchLabels": {"a": "b"}})),
        ("sideEffects", json!("None")),
        ("timeoutSeconds", json!(9)),
        ("admissionReviewVersions", json!(["v1", "v1beta1"])),
        ("reinvocationPolicy", json!("Never")),
        ("matchConditions", json!([])),
        ("clientConfig/service/name", json!("another")),
        ("clientConfig/service/path", json!("/admit/workloads")),
    ] {
        let operation =
            json!([{"op": "replace", "path": format!("/webhooks/0/{path}"), "value": value}]);
        rejects(&by_json(operation).await, nothing_else);
    }
    let elsewhere = json!([{"op": "replace", "path": "/webhooks/0/clientConfig",
        "value": {"url": "https://127.0.0.1:1", "caBundle": pem}}]);
    rejects(&by_json(elsewhere).await, nothing_else);
    rejects(
        &by_json(json!([{"op": "remove", "path": "/webhooks/4"}])).await,
        nothing_else,
    );
    let label = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
    rejects(
        &by_json(label).await,
        "changes no metadata of the webhook configuration",
    );
    // Configuration of another webhook.
    let mut foreign = find_object(
        &rendered,
        "MutatingWebhookConfiguration",
        "zz-floe-secrets-webhook",
    )
    .clone();
    foreign["metadata"]["name"] = "theirs".into();
    cp.create(&foreign).await.object();
    let ca = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": pem}])
        .to_string();
    let args = [
        "--as",
        ACCOUNT,
        "patch",
        "mutatingwebhookconfiguration/theirs",
        "--type=json",
        "--patch",
        &ca,
    ];
    rejects(
        &cp.kubectl(&args, "").await,
        "no webhook configuration but zz-floe-secrets-webhook",
    );
}

/// Compares the policy with the API: a field that the policy does not name could be changed.
#[tokio::test]
async fn policy_names_every_field_of_an_entry() {
    let cp = ControlPlane::shared().await;
    let path = "/openapi/v3/apis/admissionregistration.k8s.io/v1";
    let schemas =
        cp.request(http::Method::GET, path, None).await.object()["components"]["schemas"].take();
    let fields = |kind: &str| -> Vec<String> {
        let schema = &schemas[format!("io.k8s.api.admissionregistration.v1.{kind}")];
        schema["properties"]
            .as_object()
            .expect("properties")
            .keys()
            .cloned()
            .collect()
    };
    let rendered = Helm::V4.objects(NAME, &json!({}));
    let policy = find_object(
        &rendered,
        "ValidatingAdmissionPolicy",
        "floe-secrets-controller-configuration",
    )
    .to_string();
    for field in fields("MutatingWebhook") {
        let compared = policy.contains(&format!("is.?{field} == was.?{field}"))
            || policy.contains(&format!("is.{field} == was.{field}"));
        assert!(
            compared || field == "clientConfig",
            "{field} is not compared"
        );
    }
    for field in fields("WebhookClientConfig") {
        let compared = policy.contains(&format!(
            "is.clientConfig.?{field} == was.clientConfig.?{field}"
        ));
        assert!(compared != (field == "caBundle"), "{field}");
    }
}

/// Without the controller, and when it is turned off, there is no policy.
#[test]
fn policy_is_rendered_only_with_controller() {
    let count = |values: &Value| {
        let objects = Helm::V4.objects(NAME, values);
        objects
            .iter()
            .filter(|object| {
                object["kind"]
                    .as_str()
                    .is_some_and(|kind| kind.starts_with("Validating"))
            })
            .count()
    };
    assert_eq!(count(&json!({})), 4);
    assert_eq!(count(&json!({"controller": {"enabled": false}})), 0);
    assert_eq!(
        count(&json!({"controller": {"admissionPolicy": {"enabled": false}}})),
        0
    );
    let objects = Helm::V4.objects(
        NAME,
        &json!({"controller": {"serviceAccount": {"name": "theirs"}}}),
    );
    let policy = find_object(
        &objects,
        "ValidatingAdmissionPolicy",
        "floe-secrets-controller-workloads",
    );
    let condition = &policy["spec"]["matchConditions"][0]["expression"];
    assert_eq!(
        condition,
        "request.userInfo.username == 'system:serviceaccount:floe-secrets-webhook:theirs'"
    );
}
