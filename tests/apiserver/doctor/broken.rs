//! One fault at a time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::scene::{Scene, run};
use testbed::helm::NAME;
use testbed::objects::send_as;
use testbed::pki::Authority;
use testbed::served::{pod, prefixed};
use testbed::webhook::SERVICE_HOST;

const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-floe-secrets-webhook";

const AGAIN: &str = "helm upgrade floe-secrets-webhook charts/floe-secrets-webhook -n floe-secrets-webhook --reuse-values --force-conflicts";

async fn patch(scene: &Scene, operations: &Value) {
    let client = scene.cp.client();
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
    let scene = Scene::new().await;
    // State right after an installation with the user's own certificate.
    let said = scene
        .becomes(&[
            failure("ca-bundle"),
            ("trust", "not-checked"),
            failure("admission"),
        ])
        .await;
    let seen = said.of("admission")["message"].as_str().expect("text");
    assert!(
        seen.contains("certificate signed by unknown authority"),
        "{seen}"
    );
    let trust = said.fix("ca-bundle");
    scene.follow(&trust).await;
    let healthy = scene.becomes(&[]).await;
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
        scene.doctor().await.output.stdout,
        healthy.output.stdout,
        "two runs say the same"
    );
    let table = run(&scene.cp.kubeconfig, &[]).await;
    println!("{}", table.stdout);
    assert_eq!(
        (table.code, table.stdout.lines().count()),
        (0, all.len() + 1),
        "{table:?}"
    );
    let key = std::fs::read_to_string(scene.webhook.launch.folder.path().join("tls.key"))
        .expect("the key");
    let line = key.lines().nth(1).expect("a line of the key");
    for text in [&table.stdout, &table.stderr, &healthy.output.stdout] {
        assert!(
            !text.contains(line) && !text.contains("PRIVATE KEY"),
            "{text}"
        );
    }

    deleted(&scene).await;
    another_ca(&scene).await;
    entries(&scene).await;
    certificates(&scene).await;
    rights(&scene).await;
    callers(&scene).await;

    // Nothing that lasts was created by the checks.
    let left = scene
        .cp
        .kubectl(&["get", "pods", "-A", "--output=name"], "")
        .await
        .succeeded();
    assert_eq!(left.stdout, "");
}

/// The configuration is deleted, and a pod is created in the meantime.
async fn deleted(scene: &Scene) {
    scene
        .cp
        .request(Method::DELETE, CONFIGURATION, None)
        .await
        .object();
    let said = scene
        .becomes(&[failure("configuration"), failure("admission")])
        .await;
    assert_eq!(said.fix("configuration"), AGAIN);
    scene
        .cp
        .create(&pod(
            "default",
            "bare",
            &prefixed(&json!({"env-from": "db"})),
        ))
        .await
        .object();
    scene.follow(AGAIN).await;
    let said = scene
        .becomes(&[
            failure("ca-bundle"),
            ("trust", "not-checked"),
            failure("admission"),
            ("drift", "warning"),
        ])
        .await;
    let drift = said.of("drift")["message"].as_str().expect("text");
    assert!(drift.contains("Pod/bare in namespace default"), "{drift}");
    scene
        .cp
        .kubectl(&["delete", "pod", "bare", "--now"], "")
        .await
        .succeeded();
    scene.follow(&said.fix("ca-bundle")).await;
    scene.becomes(&[]).await;
}

/// CA of another authority.
async fn another_ca(scene: &Scene) {
    let other = STANDARD.encode(Authority::new("another-ca").pem());
    let all: Vec<Value> = (0..5)
        .map(|entry| json!({"op": "replace", "path": format!("/webhooks/{entry}/clientConfig/caBundle"), "value": other}))
        .collect();
    patch(scene, &all.into()).await;
    let said = scene
        .becomes(&[failure("trust"), failure("admission")])
        .await;
    scene.follow(&said.fix("trust")).await;
    scene.becomes(&[]).await;
}

/// An entry is missing; then its conditions are; and the restored entry has no CA.
async fn entries(scene: &Scene) {
    patch(scene, &json!([{"op": "remove", "path": "/webhooks/1"}])).await;
    let said = scene.becomes(&[failure("entries")]).await;
    let seen = said.of("entries")["message"].as_str().expect("text");
    assert!(
        seen.starts_with("missing: workloads.secrets.floe.dev;"),
        "{seen}"
    );
    scene.follow(&said.fix("entries")).await;
    let said = scene.becomes(&[failure("ca-bundle")]).await;
    scene.follow(&said.fix("ca-bundle")).await;
    scene.becomes(&[]).await;
    patch(
        scene,
        &json!([{"op": "remove", "path": "/webhooks/0/matchConditions"}]),
    )
    .await;
    let said = scene.becomes(&[failure("conditions")]).await;
    assert_eq!(said.fix("conditions"), AGAIN);
    scene.follow(AGAIN).await;
    scene.becomes(&[]).await;
    patch(
        scene,
        &json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
    )
    .await;
    let said = scene.becomes(&[("policies", "warning")]).await;
    assert_eq!(
        said.fix("policies"),
        format!("{AGAIN} --set webhook.failurePolicy=Fail")
    );
    scene.follow(&said.fix("policies")).await;
    scene.becomes(&[]).await;
}

/// The next certificate in the Secret has expired; the previous one is served until a restart.
async fn certificates(scene: &Scene) {
    let mut params = CertificateParams::new(vec![SERVICE_HOST.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2025, 2, 1);
    let expired = scene.cp.authority.issue(params);
    let secret = format!("/api/v1/namespaces/{NAME}/secrets/floe-secrets-webhook-tls");
    let data = json!({"stringData": {"tls.crt": expired.cert, "tls.key": expired.key}});
    scene
        .cp
        .request(Method::PATCH, &secret, Some(&data))
        .await
        .object();
    let said = scene.doctor().await.expect(&[failure("certificate")]);
    let seen = said.of("certificate")["message"].as_str().expect("text");
    assert_eq!(
        seen,
        format!(
            "the certificate expired at 2025-02-01T00:00:00Z; the next has to be for {SERVICE_HOST}"
        )
    );
    let folder = scene.webhook.launch.folder.path().display();
    let mend = said.fix("certificate");
    scene.follow(&format!("cd {folder}; {mend}")).await;
    scene.doctor().await.expect(&[]);
    // And a certificate for another name.
    let elsewhere = scene.cp.authority.server(&["elsewhere.svc"]);
    let data = json!({"stringData": {"tls.crt": elsewhere.cert, "tls.key": elsewhere.key}});
    scene
        .cp
        .request(Method::PATCH, &secret, Some(&data))
        .await
        .object();
    let said = scene.doctor().await.expect(&[failure("certificate")]);
    scene
        .follow(&format!("cd {folder}; {}", said.fix("certificate")))
        .await;
    scene.doctor().await.expect(&[]);
}

/// Permissions of the webhook are removed.
async fn rights(scene: &Scene) {
    scene
        .cp
        .kubectl(&["delete", "clusterrolebinding", NAME], "")
        .await
        .succeeded();
    let said = scene
        .becomes(&[failure("webhook-permissions"), failure("admission")])
        .await;
    let seen = said.of("webhook-permissions")["message"]
        .as_str()
        .expect("text");
    assert_eq!(
        seen,
        "ServiceAccount floe-secrets-webhook may not get namespaces, get secrets, get serviceaccounts"
    );
    scene.follow(&said.fix("webhook-permissions")).await;
    scene.becomes(&[]).await;
    scene
        .cp
        .kubectl(
            &["delete", "clusterrolebinding", "floe-secrets-controller"],
            "",
        )
        .await
        .succeeded();
    let said = scene
        .becomes(&[("controller-permissions", "warning")])
        .await;
    scene.follow(&said.fix("controller-permissions")).await;
    scene.becomes(&[]).await;
}

/// The port is opened: by another policy, by a deleted one, by the webhook's argument.
async fn callers(scene: &Scene) {
    let open = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": NAME},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}});
    scene.cp.create(&open).await.object();
    let said = scene.becomes(&[("callers", "warning")]).await;
    let seen = said.of("callers")["message"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(
        seen.contains("any pod can send reviews") && seen.contains("the names of all keys"),
        "{seen}"
    );
    scene
        .cp
        .kubectl(&["-n", NAME, "delete", "networkpolicy", "open"], "")
        .await
        .succeeded();
    scene.becomes(&[]).await;

    scene
        .cp
        .kubectl(&["-n", NAME, "delete", "networkpolicy", NAME], "")
        .await
        .succeeded();
    scene.becomes(&[("callers", "warning")]).await;
    scene.follow(AGAIN).await;
    scene.becomes(&[]).await;

    // Without any of the three settings, for the recommended command.
    let set = |values: &str| format!("{AGAIN} {values}");
    scene
        .follow(&set("--set-json networkPolicy.podCIDRs=[]"))
        .await;
    let said = scene.becomes(&[("callers", "warning")]).await;
    let seen = said.of("callers")["message"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(
        seen.contains("tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from"),
        "{seen}"
    );
    let mend = said.fix("callers");
    assert!(
        mend.ends_with(&set("--set 'networkPolicy.podCIDRs={CIDR,CIDR}'")),
        "{mend}"
    );
    let (nodes, upgrade) = mend.split_once("; ").expect("two commands");
    scene.follow(nodes).await;
    scene
        .follow(
            &upgrade
                .replace('\'', "")
                .replace("CIDR,CIDR", "10.244.0.0/16"),
        )
        .await;
    scene.becomes(&[]).await;
}
