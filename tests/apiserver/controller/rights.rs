//! Permissions of the controller are those that it uses, and no others.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{metric_is, refusal};
use testbed::audit::AuditLog;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, pod, prefixed, template};
use testbed::objects::yaml;
use testbed::wait_for;
use testbed::webhook::{controller_identity, manifest};
use testbed::webhook_process::Launch;

/// `verb resource.group` of every rule of a role.
fn rules(role: &Value) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().expect("text").to_owned())
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let of = if group.is_empty() {
                    resource
                } else {
                    format!("{resource}.{group}")
                };
                rights.extend(
                    texts(&rule["verbs"])
                        .into_iter()
                        .map(|verb| format!("{verb} {of}")),
                );
            }
        }
    }
    rights
}

/// Everything that the controller does, once: then no permission is unused, and none was missing. Nothing else works
/// here, so that nothing is done before it.
#[tokio::test]
async fn controller_uses_every_permission_and_misses_none() {
    let audit = AuditLog::new();
    let cp = ControlPlane::start(audit.options(false)).await;
    cp.install_rollouts().await;
    // Created without the webhook: workloads whose own annotations reach no pod, and a pod in a namespace with
    // defaults.
    let drifted = cp.namespace("drifted").await;
    let labels = json!({
        "labels": {"secrets.floe.dev/inject": "enabled"}, "annotations": {"secrets.floe.dev/env-from": "db"},
    });
    let governed = cp.namespace_with("governed", &labels).await;
    cp.create(&pod(&governed.name, "plain", &json!({})))
        .await
        .object();
    let asks = prefixed(&json!({"env-from": "late"}));
    for (version, kind) in WORKLOADS {
        let mut lost = workload(version, kind, &drifted.name, &json!({}));
        lost["metadata"]["annotations"] = asks.clone();
        cp.create(&lost).await.object();
    }
    let identity = controller_identity(&cp).await;
    let controller = Launch::controller(&cp, &identity)
        .with(&["--drift-interval", "1s"])
        .start()
        .await;
    metric_is(&controller, "uninjected{kind=\"workload\"}", 6).await;
    metric_is(&controller, "uninjected{kind=\"pod\"}", 1).await;

    let ns = cp.namespace("retried").await;
    for (version, kind) in OWNERS {
        let owner = cp
            .create(&workload(version, kind, &ns.name, &asks))
            .await
            .object();
        cp.create(&refusal(&owner)).await.object();
    }
    metric_is(&controller, "retry_pending_owners", 4).await;
    cp.secret(&ns.name, "late", &["k"], "x").await;
    metric_is(
        &controller,
        "retries_triggered_total{result=\"triggered\"}",
        4,
    )
    .await;

    let shipped = yaml(&manifest("controller-rbac.yaml"));
    let roles = shipped
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("ClusterRole" | "Role")));
    let granted: BTreeSet<String> = roles.flat_map(rules).collect();
    let used = wait_for("all of it is in the audit log", || async {
        let requests = audit.requests_by(&identity.username);
        let used: BTreeSet<String> = requests
            .iter()
            .map(|request| format!("{} {}", request.verb, request.resource))
            .collect();
        let refused: Vec<_> = requests
            .iter()
            .filter(|request| matches!(request.code, 401 | 403))
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
        (used.len() >= granted.len()).then_some(used)
    })
    .await;
    let status = controller.stop().await;
    assert!(status.success(), "{status}");
    let (unused, missing): (Vec<_>, Vec<_>) = (
        granted.difference(&used).collect(),
        used.difference(&granted).collect(),
    );
    assert!(
        unused.is_empty() && missing.is_empty(),
        "never used: {unused:?}; used and not granted: {missing:?}"
    );
}

const WORKLOADS: [(&str, &str); 6] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("argoproj.io/v1alpha1", "Rollout"),
];

/// Kinds whose controllers create pods.
const OWNERS: [(&str, &str); 4] = [
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
];

fn workload(version: &str, kind: &str, namespace: &str, annotations: &Value) -> Value {
    let mut template = template("late", annotations, &json!([container()]));
    if version == "batch/v1" {
        template["spec"]["restartPolicy"] = "Never".into();
    }
    let selector = json!({"matchLabels": {"app": "late"}});
    let spec = match kind {
        "Job" => json!({"template": template}),
        "CronJob" => {
            json!({"schedule": "0 0 30 2 *", "jobTemplate": {"spec": {"template": template}}})
        }
        "StatefulSet" => json!({"serviceName": "late", "selector": selector, "template": template}),
        _ => json!({"selector": selector, "template": template}),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "late", "namespace": namespace}, "spec": spec})
}
