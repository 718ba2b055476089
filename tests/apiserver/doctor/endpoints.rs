//! API server without an endpoint to call: the Service of the chart, and no pods.

use http::Method;
use serde_json::json;

use crate::fixture::{doctor, reloader};
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, chart};
use testbed::wait_for;

#[tokio::test]
async fn service_without_endpoints_is_found() {
    // Makes the API server resolve endpoints itself, because nothing here routes a Service's address.
    let routing = vec!["--enable-aggregator-routing=true".to_owned()];
    let cp = &ControlPlane::start(Options {
        controller_manager: false,
        apiserver_flags: routing,
    })
    .await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    let values = json!({"tls": {"mode": "existing"}, "controller": {"enabled": false}});
    cp.helm(
        Helm::V4,
        &["install", NAME, &chart(), "--namespace", NAME],
        &values,
    )
    .await
    .expect_success();
    reloader(cp).await;
    let report = wait_for("the API server knows the configuration", || async {
        let report = doctor(&cp.kubeconfig, &[]).await;
        let seen = report.of("admission")["message"].as_str()?.to_owned();
        seen.contains("no endpoints available for service")
            .then_some(report)
    })
    .await;
    let failure = |check: &'static str| (check, "failure");
    let failures = [
        "ca-bundle",
        "certificate",
        "endpoints",
        "deployment",
        "admission",
    ]
    .map(failure);
    let mut all = failures.to_vec();
    // The port of a default installation is open.
    all.insert(3, ("callers", "warning"));
    let trail = [
        ("audit-trail", "failure"),
        ("admin", "failure"),
        ("audit-shipping", "not-checked"),
    ];
    all.splice(5..5, trail);
    let report = report.expect(&all);
    assert_eq!(
        report.of("endpoints")["message"],
        "Service floe-secrets-webhook has no endpoints: no pod with its labels runs"
    );
    assert!(
        report
            .fix("endpoints")
            .starts_with("kubectl -n floe-secrets-webhook describe pods -l app.kubernetes.io/")
    );
    let seen = report.of("certificate")["message"].as_str().expect("text");
    assert_eq!(
        seen,
        "Secret floe-secrets-webhook-tls not found in namespace floe-secrets-webhook"
    );

    // Replicas that exist and are not ready are reported differently.
    let path = format!("/apis/apps/v1/namespaces/{NAME}/deployments/{NAME}/status");
    let status = json!({"status": {"replicas": 2, "readyReplicas": 1, "availableReplicas": 1}});
    cp.request(Method::PATCH, &path, Some(&status))
        .await
        .object();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "two", "namespace": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "ports": [{"name": "admission", "port": 8443}],
        "endpoints": [
            {"addresses": ["10.1.0.1"], "conditions": {"ready": false}},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": true}},
        ],
    });
    cp.create(&slice).await.object();
    let report = doctor(&cp.kubeconfig, &["--probe=false"]).await;
    assert_eq!(
        report.of("endpoints")["message"],
        "1 of 2 endpoints are ready"
    );
    assert_eq!(report.of("deployment")["status"], "warning");
}
