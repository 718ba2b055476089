//! Objects that the webhook's operator excluded are neither drift nor pending, and permissions in some namespaces are
//! enough.

use serde_json::{Value, json};

use crate::{events, metric_is, refusal};
use testbed::audit::AuditLog;
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{container, job, pod, prefixed};
use testbed::webhook::{NAMESPACE, controller_identity, manifest};
use testbed::webhook_process::Launch;

fn asking() -> Value {
    prefixed(&json!({"env-from": "late"}))
}

fn refused_job(namespace: &str, name: &str, labels: &Value) -> Value {
    let mut job = job(name, &asking(), &json!([container()]));
    job["metadata"]["namespace"] = namespace.into();
    job["spec"]["template"]["metadata"]["labels"] = labels.clone();
    job
}

#[tokio::test]
async fn objects_excluded_by_labels_are_neither_drift_nor_pending() {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let served = cp
        .namespace_with("served", &json!({"labels": {"team": "a"}}))
        .await;
    let legacy = cp
        .namespace_with("legacy", &json!({"labels": {"team": "a", "legacy": "yes"}}))
        .await;
    for ns in [&served, &legacy] {
        for (name, tier) in [("web", "web"), ("batch", "batch")] {
            let mut pod = pod(&ns.name, name, &asking());
            pod["metadata"]["labels"] = json!({"tier": tier});
            cp.create(&pod).await.object();
            let owner = cp
                .create(&refused_job(&ns.name, name, &json!({"tier": tier})))
                .await
                .object();
            cp.create(&refusal(&owner)).await.object();
        }
    }
    let selectors = [
        "--namespace-selector=team in (a,b),!legacy",
        "--object-selector=tier!=batch",
    ];
    let controller = Launch::controller(&cp, &controller_identity(&cp).await);
    let controller = controller
        .with(&["--drift-interval", "1s"])
        .with(&selectors)
        .start()
        .await;
    metric_is(&controller, "uninjected{kind=\"pod\"}", 1).await;
    metric_is(&controller, "retry_pending_owners", 1).await;
    cp.event(&served.name, "Pod", "web", "SecretsNotInjected")
        .await;
    cp.event(&served.name, "Job", "web", "AwaitingSecrets")
        .await;
    for reason in ["SecretsNotInjected", "AwaitingSecrets"] {
        let messages = [
            events(&cp, &served.name, reason).await,
            events(&cp, &legacy.name, reason).await,
        ]
        .concat();
        assert_eq!(messages.len(), 1, "{messages:?}");
    }
}

/// Permissions that the controller needs in each of its namespaces.
fn rules() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods", "serviceaccounts"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"],
            "verbs": ["get", "list", "patch"]},
        {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get", "list"]},
    ])
}

#[tokio::test]
async fn permissions_in_named_namespaces_suffice() {
    let audit = AuditLog::new();
    let cp = ControlPlane::start(audit.options(false)).await;
    let (one, two, other) = (
        cp.namespace("one").await,
        cp.namespace("two").await,
        cp.namespace("other").await,
    );
    for ns in [&one, &two, &other] {
        cp.create(&pod(&ns.name, "bare", &asking())).await.object();
        let owner = cp
            .create(&refused_job(&ns.name, "load", &json!({})))
            .await
            .object();
        cp.create(&refusal(&owner)).await.object();
    }
    cp.apply(&manifest("namespace.yaml")).await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "floe-secrets-controller", "namespace": NAMESPACE}});
    cp.create(&lease).await.object();
    let leases = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"]}]);
    let identity = cp.service_account(NAMESPACE, "scoped", &leases).await;
    let (rbac, group) = ("rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io");
    let subject = json!({"kind": "ServiceAccount", "name": "scoped", "namespace": NAMESPACE});
    // Of the cluster: the labels and annotations of the two namespaces, by name.
    let names = json!([one.name, two.name]);
    let get = json!([{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": names, "verbs": ["get"]}]);
    let binding = |kind: &str, metadata: Value, role: &str| {
        let role = json!({"apiGroup": group, "kind": role, "name": "scoped"});
        json!({"apiVersion": rbac, "kind": kind, "metadata": metadata, "roleRef": role, "subjects": [subject]})
    };
    let cluster = json!({"name": "scoped"});
    cp.create(
        &json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": cluster, "rules": get}),
    )
    .await
    .object();
    cp.create(&binding(
        "ClusterRoleBinding",
        cluster.clone(),
        "ClusterRole",
    ))
    .await
    .object();
    for ns in [&one, &two] {
        let role = json!({"apiVersion": rbac, "kind": "Role", "metadata": ns.named("scoped"), "rules": rules()});
        cp.create(&role).await.object();
        cp.create(&binding("RoleBinding", ns.named("scoped"), "Role"))
            .await
            .object();
    }

    let namespaces = format!("--namespaces={},{}", one.name, two.name);
    let controller = Launch::controller(&cp, &identity)
        .with(&["--drift-interval", "1s", &namespaces])
        .start()
        .await;
    metric_is(&controller, "uninjected{kind=\"pod\"}", 2).await;
    metric_is(&controller, "retry_pending_owners", 2).await;
    for ns in [&one, &two, &other] {
        cp.secret(&ns.name, "late", &["k"], "x").await;
    }
    metric_is(
        &controller,
        "retries_triggered_total{result=\"triggered\"}",
        2,
    )
    .await;
    cp.event(&two.name, "Job", "load", "SecretsArrived").await;
    assert!(events(&cp, &other.name, "SecretsArrived").await.is_empty());
    let requests = audit.requests_by(&identity.username);
    // Rollouts are not installed, and without the permission to read them that is not an error.
    let refused: Vec<_> = requests
        .iter()
        .filter(|request| matches!(request.code, 401 | 403))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}
