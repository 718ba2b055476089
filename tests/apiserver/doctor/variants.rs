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
    let values = json!({"tls": {"mode": "existing"}, "webhook": {"url": url}, "replicas": 0, "controller": {"enabled": false}});
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
