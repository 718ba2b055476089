//! `admin` with exactly the permissions of the chart: they suffice, and each that is taken away is missed.

use serde_json::json;

use crate::existing;
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME};
use testbed::trail::{ReplicaPod, Trail};
use testbed::webhook::webhook_identity;
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{unique, wait_for};

/// Applies the objects of `admin` that its permissions are about, as a release in a namespace of its own, without the
/// rules about the resource `gone`, or without the verb `gone`, and returns the arguments of an `admin` with this access.
async fn launch(cp: &ControlPlane, gone: &str) -> Launch {
    let release = unique("admin-rights");
    let metadata = json!({"name": release});
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
        .await
        .object();
    for mut object in Helm::V4.objects(&release, &existing()) {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let needed = kind == "ServiceAccount" || kind == "Secret" || kind.contains("Role");
        if needed && object["metadata"]["labels"]["app.kubernetes.io/component"] == "admin" {
            if let Some(rules) = object["rules"].as_array_mut() {
                rules.retain(|rule| rule["resources"] != json!([gone]));
                for verbs in rules
                    .iter_mut()
                    .filter_map(|rule| rule["verbs"].as_array_mut())
                {
                    verbs.retain(|verb| *verb != json!(gone));
                }
            }
            cp.create(&object).await.object();
        }
    }
    let identity = cp
        .identity(&release, &format!("{release}-{NAME}-admin"))
        .await;
    let mut launch = Launch::admin(cp, &identity)
        .set("--own-namespace", &release)
        .set("--checkpoint-key", &format!("{release}-{NAME}-audit-key"));
    // The name of the cluster is read.
    let named = launch
        .args
        .iter()
        .position(|arg| arg == "--audit-cluster-name")
        .expect("the argument is there");
    launch.args.drain(named..named + 2);
    launch
}

/// Value of a metric without labels; 0 if it is not there.
fn metric(process: &WebhookProcess, name: &str) -> f64 {
    let (_, text) = process.get("/metrics").unwrap_or_default();
    let name = format!("floe_secrets_webhook_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Whether `admin` has stored lines of a replica, and has signed a checkpoint.
fn works(admin: &WebhookProcess) -> [bool; 2] {
    [
        "audit_collected_lines_total",
        "audit_checkpoint_time_seconds",
    ]
    .map(|name| metric(admin, name) > 0.0)
}

#[tokio::test]
async fn admin_needs_each_of_its_permissions() {
    let cp = ControlPlane::shared().await;
    let replica = ReplicaPod::create(cp).await;
    // resource or verb | what it logs without the permission | whether lines are stored and signed
    let rows: [(&str, &str, [bool; 2]); 5] = [
        ("none", "", [true, true]),
        ("tokenreviews", "", [false, true]),
        ("secrets", "audit-key", [true, false]),
        // The first key is written into the empty Secret.
        ("patch", "audit-key", [true, false]),
        ("namespaces", "kube-system", [true, true]),
    ];
    for (gone, logged, expected) in rows {
        let trail = Trail::start_with(cp, launch(cp, gone).await).await;
        let serve = Launch::serve(cp, &webhook_identity(cp).await);
        let webhook = trail.sent_by(serve, &replica).await.start().await;
        wait_for(&format!("admin without {gone}"), || async {
            let refused = |text: &str| text.contains("audit_rejected_batches_total{");
            let stored = if expected[0] {
                works(&trail.admin)[0]
            } else {
                refused(&trail.admin.get("/metrics")?.1)
            };
            let signed = !expected[1] || works(&trail.admin)[1];
            (stored && signed && trail.admin.log().contains(logged)).then_some(())
        })
        .await;
        assert_eq!(works(&trail.admin), expected, "without {gone}");
        drop(webhook);
    }
}

/// Owners of pods and objects with defaults, and nothing else of a namespace.
#[tokio::test]
async fn admin_reads_owners_and_no_other_objects() {
    let cp = ControlPlane::shared().await;
    let identity = testbed::trail::admin_identity(cp).await;
    let can = async |verb: &str, resource: &str| {
        let args = ["auth", "can-i", verb, resource, "--all-namespaces", "-q"];
        cp.kubectl_as(&identity.kubeconfig, &args, "").await.code == 0
    };
    for resource in [
        "replicasets.apps",
        "deployments.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "jobs.batch",
        "cronjobs.batch",
        "namespaces",
        "serviceaccounts",
    ] {
        assert!(can("get", resource).await, "{resource}");
        for verb in ["list", "watch", "patch", "delete"] {
            assert!(!can(verb, resource).await, "{verb} {resource}");
        }
    }
    for resource in ["secrets", "configmaps", "pods"] {
        assert!(!can("get", resource).await, "{resource}");
    }
    assert!(can("create", "tokenreviews.authentication.k8s.io").await);
    assert!(!can("create", "subjectaccessreviews.authorization.k8s.io").await);
    assert!(!can("create", "secrets").await);
}
