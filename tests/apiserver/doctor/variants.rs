//! Installations other than the default: each is checked against its own kind.

use http::Method;
use serde_json::{Value, json};

use crate::fixture::doctor;
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, chart};
use testbed::webhook_process::Launch;

#[tokio::test]
async fn permissions_are_checked_for_every_kind_of_installation() {
    let cp = &ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    for name in [NAME, "a", "b"] {
        cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await
            .object();
    }
    let scoped = json!({"scope": "namespaces", "namespaces": ["a", "b"]});
    for helm in Helm::ALL {
        for (release, values) in [
            ("other", json!({"tls": {"mode": "existing"}})),
            (NAME, json!({"tls": {"mode": "self-managed"}})),
            (
                NAME,
                json!({"tls": {"mode": "self-managed"}, "rbac": scoped, "controller": {"retryOwners": false}}),
            ),
            (
                NAME,
                json!({"tls": {"mode": "existing"}, "rbac": scoped, "nameOverride": "secrets"}),
            ),
        ] {
            cp.helm(
                helm,
                &["install", release, &chart(), "--namespace", NAME],
                &values,
            )
            .await
            .expect_success();
            let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
            for check in [
                "configuration",
                "entries",
                "conditions",
                "policies",
                "service",
                "versions",
                "webhook-permissions",
                "controller-permissions",
                "admin-permissions",
            ] {
                assert_eq!(
                    report.of(check)["status"],
                    "ok",
                    "{helm:?} {values}: {:#}",
                    report.json
                );
            }
            let forced = if helm == Helm::V4 {
                " --force-conflicts"
            } else {
                ""
            };
            let again = format!(
                "helm upgrade {release} charts/floe-secrets-webhook -n {NAME} --reuse-values{forced}"
            );
            // A removed permission is reported, and the recommended command restores it.
            if values["rbac"].is_null() {
                let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
                let name = if release == NAME {
                    NAME.to_owned()
                } else {
                    format!("{release}-{NAME}")
                };
                let rules = json!({"rules": [{"apiGroups": [""], "resources": ["secrets", "namespaces"], "verbs": ["get"]}]});
                cp.request(Method::PATCH, &format!("{role}/{name}"), Some(&rules))
                    .await
                    .object();
                let report = testbed::wait_for("the missing permission is reported", || async {
                    let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
                    (report.of("webhook-permissions")["status"] == "failure").then_some(report)
                })
                .await;
                assert_eq!(report.fix("webhook-permissions"), again);
                let args: Vec<&str> = again.split_whitespace().skip(1).collect();
                cp.helm(helm, &args, &Value::Null).await.expect_success();
                testbed::wait_for("the permission is restored", || async {
                    let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
                    (report.of("webhook-permissions")["status"] == "ok").then_some(())
                })
                .await;
            }
            cp.helm(
                helm,
                &["uninstall", release, "--namespace", NAME],
                &Value::Null,
            )
            .await
            .expect_success();
        }
    }
}

#[tokio::test]
async fn certificate_of_external_webhook_is_checked_by_handshake() {
    let cp = &ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    let launch = Launch::without_control_plane(&cp.authority, &cp.kubeconfig);
    let url = format!("https://127.0.0.1:{}", launch.port);
    let values = json!({"tls": {"mode": "existing"}, "webhook": {"url": url}, "replicas": 0, "controller": {"enabled": false}, "admin": {"enabled": false}});
    cp.helm(
        Helm::V4,
        &["install", NAME, &chart(), "--namespace", NAME],
        &values,
    )
    .await
    .expect_success();
    // The webhook does not run yet.
    let report = doctor(&cp.kubeconfig, &[]).await;
    let seen = report.of("certificate")["message"].as_str().expect("text");
    assert!(
        seen.contains("shows no certificate from here")
            && report.of("certificate")["status"] == "not-checked",
        "{seen}"
    );
    let _webhook = launch.start().await;
    // Without a caBundle the API server trusts its machine's CAs, which do not include the test's.
    let report = testbed::wait_for("the webhook is called in vain", || async {
        let report = doctor(&cp.kubeconfig, &[]).await;
        report.of("admission")["message"]
            .as_str()?
            .contains("unknown authority")
            .then_some(report)
    })
    .await;
    let ca = cp.folder.path().join("ca.crt").display().to_string();
    cp.shell(&report.fix("admission").replace("ca.crt", &ca))
        .await
        .expect_success();
    let report = testbed::wait_for("the webhook is called", || async {
        let report = doctor(&cp.kubeconfig, &[]).await;
        (report.of("admission")["status"] == "ok").then_some(report)
    })
    .await;
    for check in ["certificate", "trust", "ca-bundle", "service", "deployment"] {
        assert_eq!(report.of(check)["status"], "ok", "{:#}", report.json);
    }
    assert!(
        report.of("certificate")["message"]
            .as_str()
            .expect("text")
            .starts_with("for 127.0.0.1, valid for ")
    );
    let failed_checks = report.failed_checks();
    // Nothing of it is in the cluster.
    let expected = [
        "disruption-budget",
        "audit-trail",
        "admin",
        "audit-shipping",
        "callers",
        "versions",
        "webhook-permissions",
        "reloader",
    ];
    assert!(
        failed_checks
            .iter()
            .all(|(check, status)| expected.contains(&check.as_str()) && status != "failure"),
        "{failed_checks:?}"
    );
}

/// No kubelet and no controller runs here: the test writes the status that they would write.
#[tokio::test]
async fn trail_is_checked_from_the_webhook_to_the_claim() {
    let cp = &ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    let values =
        json!({"tls": {"mode": "existing"}, "admin": {"persistence": {"storageClass": "fast"}}});
    cp.helm(
        Helm::V4,
        &["install", NAME, &chart(), "--namespace", NAME],
        &values,
    )
    .await
    .expect_success();
    let rows = async || {
        let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
        let row = |check: &str| {
            let row = report.of(check);
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            (text("status"), text("message"))
        };
        (row("audit-trail"), row("admin"), row("audit-shipping"))
    };
    let (trail, admin, shipping) = rows().await;
    assert!(
        trail.0 == "failure"
            && trail
                .1
                .contains("floe-secrets-webhook-admin-tls is not found"),
        "{trail:?}"
    );
    assert!(
        admin.0 == "failure" && admin.1.contains("waits for a volume of StorageClass fast"),
        "{admin:?}"
    );
    assert_eq!(shipping.0, "not-checked", "{shipping:?}");

    let host = format!("{NAME}-admin.{NAME}.svc");
    let pair = cp.authority.server(&[host.as_str()]);
    let metadata = json!({"name": format!("{NAME}-admin-tls"), "namespace": NAME});
    let data = json!({"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": cp.authority.pem()});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
    cp.create(&secret).await.object();
    let set_status = async |object: &str, status: Value| {
        let status = json!({ "status": status }).to_string();
        let patch = [
            "-n",
            NAME,
            "patch",
            object,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        cp.kubectl(&patch, "").await.expect_success();
    };
    set_status(
        "persistentvolumeclaim/floe-secrets-webhook-audit",
        json!({"phase": "Bound"}),
    )
    .await;
    let (trail, admin, _) = rows().await;
    assert_eq!(trail.0, "ok", "{trail:?}");
    assert!(
        admin.0 == "warning" && admin.1.contains("no replica of 1"),
        "{admin:?}"
    );
    set_status(
        "deployment/floe-secrets-webhook-admin",
        json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}),
    )
    .await;
    let (_, admin, _) = rows().await;
    assert_eq!(admin.0, "ok", "{admin:?}");
}
