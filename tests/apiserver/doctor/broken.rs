//! One fault at a time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::fixture::{Fixture, run};
use testbed::helm::NAME;
use testbed::manifests::{pod, prefixed};
use testbed::objects::send_as;
use testbed::pki::Authority;
use testbed::webhook::SERVICE_HOST;

const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-floe-secrets-webhook";

const UPGRADE_COMMAND: &str = "helm upgrade floe-secrets-webhook charts/floe-secrets-webhook -n floe-secrets-webhook --reuse-values --force-conflicts";

async fn patch(fixture: &Fixture, operations: &Value) {
    let client = fixture.cp.client();
    send_as(
        &client,
        Method::PATCH,
        CONFIGURATION,
        Some(operations),
        "application/json-patch+json",
    )
    .await
    .object();
}

/// Statuses of the failed checks.
fn failure(check: &str) -> (&str, &str) {
    (check, "failure")
}

#[tokio::test]
async fn each_fault_is_found_and_fixed_by_its_command() {
    let fixture = Fixture::new().await;
    // State right after an installation with the user's own certificate.
    let report = fixture
        .wait_for_failed_checks(&[
            failure("ca-bundle"),
            ("trust", "not-checked"),
            failure("admission"),
        ])
        .await;
    let seen = report.of("admission")["message"].as_str().expect("text");
    assert!(
        seen.contains("certificate signed by unknown authority"),
        "{seen}"
    );
    let trust = report.fix("ca-bundle");
    fixture.run_fix(&trust).await;
    let healthy = fixture.wait_for_failed_checks(&[]).await;
    assert_eq!(healthy.json["healthy"], true);
    let ids: Vec<&str> = healthy.json["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter_map(|check| check["check"].as_str())
        .collect();
    let all = [
        "api-server",
        "caller-permissions",
        "configuration",
        "entries",
        "conditions",
        "policies",
        "ca-bundle",
        "certificate",
        "trust",
        "service",
        "callers",
        "versions",
        "deployment",
        "disruption-budget",
        "controller",
        "audit-trail",
        "admin",
        "webhook-permissions",
        "controller-permissions",
        "admission",
        "reloader",
        "infisical-operator",
        "drift",
        "ineffective-annotations",
    ];
    assert_eq!(ids, all);
    assert_eq!(
        fixture.doctor().await.output.stdout,
        healthy.output.stdout,
        "two runs have the same output"
    );
    let table = run(&fixture.cp.kubeconfig, &[]).await;
    println!("{}", table.stdout);
    assert_eq!(
        (table.code, table.stdout.lines().count()),
        (0, all.len() + 1),
        "{table:?}"
    );
    let key = std::fs::read_to_string(fixture.webhook.launch.folder.path().join("tls.key"))
        .expect("the key");
    let line = key.lines().nth(1).expect("a line of the key");
    for text in [&table.stdout, &table.stderr, &healthy.output.stdout] {
        assert!(
            !text.contains(line) && !text.contains("PRIVATE KEY"),
            "{text}"
        );
    }

    deleted(&fixture).await;
    another_ca(&fixture).await;
    entries(&fixture).await;
    certificates(&fixture).await;
    rights(&fixture).await;
    callers(&fixture).await;

    // Nothing that lasts was created by the checks.
    let left = fixture
        .cp
        .kubectl(&["get", "pods", "-A", "--output=name"], "")
        .await
        .expect_success();
    assert_eq!(left.stdout, "");
}

/// The configuration is deleted, and a pod is created in the meantime.
async fn deleted(fixture: &Fixture) {
    fixture
        .cp
        .request(Method::DELETE, CONFIGURATION, None)
        .await
        .object();
    let report = fixture
        .wait_for_failed_checks(&[failure("configuration"), failure("admission")])
        .await;
    assert_eq!(report.fix("configuration"), UPGRADE_COMMAND);
    fixture
        .cp
        .create(&pod(
            "default",
            "bare",
            &prefixed(&json!({"env-from": "db"})),
        ))
        .await
        .object();
    fixture.run_fix(UPGRADE_COMMAND).await;
    let report = fixture
        .wait_for_failed_checks(&[
            failure("ca-bundle"),
            ("trust", "not-checked"),
            failure("admission"),
            ("drift", "warning"),
        ])
        .await;
    let drift = report.of("drift")["message"].as_str().expect("text");
    assert!(drift.contains("Pod/bare in namespace default"), "{drift}");
    fixture
        .cp
        .kubectl(&["delete", "pod", "bare", "--now"], "")
        .await
        .expect_success();
    fixture.run_fix(&report.fix("ca-bundle")).await;
    fixture.wait_for_failed_checks(&[]).await;
}

/// CA of another authority.
async fn another_ca(fixture: &Fixture) {
    let other = STANDARD.encode(Authority::new("another-ca").pem());
    let all: Vec<Value> = (0..5)
        .map(|entry| json!({"op": "replace", "path": format!("/webhooks/{entry}/clientConfig/caBundle"), "value": other}))
        .collect();
    patch(fixture, &all.into()).await;
    let report = fixture
        .wait_for_failed_checks(&[failure("trust"), failure("admission")])
        .await;
    fixture.run_fix(&report.fix("trust")).await;
    fixture.wait_for_failed_checks(&[]).await;
}

/// An entry is missing; then its conditions are; and the restored entry has no CA.
async fn entries(fixture: &Fixture) {
    patch(fixture, &json!([{"op": "remove", "path": "/webhooks/1"}])).await;
    let report = fixture.wait_for_failed_checks(&[failure("entries")]).await;
    let seen = report.of("entries")["message"].as_str().expect("text");
    assert!(
        seen.starts_with("missing: workloads.secrets.floe.dev;"),
        "{seen}"
    );
    fixture.run_fix(&report.fix("entries")).await;
    let report = fixture
        .wait_for_failed_checks(&[failure("ca-bundle")])
        .await;
    fixture.run_fix(&report.fix("ca-bundle")).await;
    fixture.wait_for_failed_checks(&[]).await;
    patch(
        fixture,
        &json!([{"op": "remove", "path": "/webhooks/0/matchConditions"}]),
    )
    .await;
    let report = fixture
        .wait_for_failed_checks(&[failure("conditions")])
        .await;
    assert_eq!(report.fix("conditions"), UPGRADE_COMMAND);
    fixture.run_fix(UPGRADE_COMMAND).await;
    fixture.wait_for_failed_checks(&[]).await;
    patch(
        fixture,
        &json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
    )
    .await;
    let report = fixture
        .wait_for_failed_checks(&[("policies", "warning")])
        .await;
    assert_eq!(
        report.fix("policies"),
        format!("{UPGRADE_COMMAND} --set webhook.failurePolicy=Fail")
    );
    fixture.run_fix(&report.fix("policies")).await;
    fixture.wait_for_failed_checks(&[]).await;
}

/// The next certificate in the Secret has expired; the previous one is served until a restart.
async fn certificates(fixture: &Fixture) {
    let mut params = CertificateParams::new(vec![SERVICE_HOST.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2025, 2, 1);
    let expired = fixture.cp.authority.issue(params);
    let secret = format!("/api/v1/namespaces/{NAME}/secrets/floe-secrets-webhook-tls");
    let data = json!({"stringData": {"tls.crt": expired.cert, "tls.key": expired.key}});
    fixture
        .cp
        .request(Method::PATCH, &secret, Some(&data))
        .await
        .object();
    let report = fixture.doctor().await.expect(&[failure("certificate")]);
    let seen = report.of("certificate")["message"].as_str().expect("text");
    assert_eq!(
        seen,
        format!(
            "the certificate expired at 2025-02-01T00:00:00Z; the next has to be for {SERVICE_HOST}"
        )
    );
    let folder = fixture.webhook.launch.folder.path().display();
    let mend = report.fix("certificate");
    fixture.run_fix(&format!("cd {folder}; {mend}")).await;
    fixture.doctor().await.expect(&[]);
    // And a certificate for another name.
    let elsewhere = fixture.cp.authority.server(&["elsewhere.svc"]);
    let data = json!({"stringData": {"tls.crt": elsewhere.cert, "tls.key": elsewhere.key}});
    fixture
        .cp
        .request(Method::PATCH, &secret, Some(&data))
        .await
        .object();
    let report = fixture.doctor().await.expect(&[failure("certificate")]);
    fixture
        .run_fix(&format!("cd {folder}; {}", report.fix("certificate")))
        .await;
    fixture.doctor().await.expect(&[]);
}

/// Permissions of the webhook are removed.
async fn rights(fixture: &Fixture) {
    fixture
        .cp
        .kubectl(&["delete", "clusterrolebinding", NAME], "")
        .await
        .expect_success();
    let report = fixture
        .wait_for_failed_checks(&[failure("webhook-permissions"), failure("admission")])
        .await;
    let seen = report.of("webhook-permissions")["message"]
        .as_str()
        .expect("text");
    assert_eq!(
        seen,
        "ServiceAccount floe-secrets-webhook may not get namespaces, get secrets, get serviceaccounts"
    );
    fixture.run_fix(&report.fix("webhook-permissions")).await;
    fixture.wait_for_failed_checks(&[]).await;
    fixture
        .cp
        .kubectl(
            &["delete", "clusterrolebinding", "floe-secrets-controller"],
            "",
        )
        .await
        .expect_success();
    let report = fixture
        .wait_for_failed_checks(&[("controller-permissions", "warning")])
        .await;
    fixture.run_fix(&report.fix("controller-permissions")).await;
    fixture.wait_for_failed_checks(&[]).await;
}

/// The port is opened: by another policy, by a deleted one, by the webhook's argument.
async fn callers(fixture: &Fixture) {
    let open = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": NAME},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}});
    fixture.cp.create(&open).await.object();
    let report = fixture
        .wait_for_failed_checks(&[("callers", "warning")])
        .await;
    let seen = report.of("callers")["message"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(
        seen.contains("any pod can send reviews") && seen.contains("the names of all keys"),
        "{seen}"
    );
    fixture
        .cp
        .kubectl(&["-n", NAME, "delete", "networkpolicy", "open"], "")
        .await
        .expect_success();
    fixture.wait_for_failed_checks(&[]).await;

    fixture
        .cp
        .kubectl(&["-n", NAME, "delete", "networkpolicy", NAME], "")
        .await
        .expect_success();
    fixture
        .wait_for_failed_checks(&[("callers", "warning")])
        .await;
    fixture.run_fix(UPGRADE_COMMAND).await;
    fixture.wait_for_failed_checks(&[]).await;

    // Without any of the three settings, for the recommended command.
    let set = |values: &str| format!("{UPGRADE_COMMAND} {values}");
    fixture
        .run_fix(&set("--set-json networkPolicy.podCIDRs=[]"))
        .await;
    let report = fixture
        .wait_for_failed_checks(&[("callers", "warning")])
        .await;
    let seen = report.of("callers")["message"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(
        seen.contains("tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from"),
        "{seen}"
    );
    let mend = report.fix("callers");
    assert!(
        mend.ends_with(&set("--set 'networkPolicy.podCIDRs={CIDR,CIDR}'")),
        "{mend}"
    );
    let (nodes, upgrade) = mend.split_once("; ").expect("two commands");
    fixture.run_fix(nodes).await;
    fixture
        .run_fix(
            &upgrade
                .replace('\'', "")
                .replace("CIDR,CIDR", "10.244.0.0/16"),
        )
        .await;
    fixture.wait_for_failed_checks(&[]).await;
}
