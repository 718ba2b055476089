//! The main job on a real API server, by our own binary under the shipped rights: kubectl applies, pods come out
//! injected, and what is refused is refused with the sentence that a person reads.

#![expect(clippy::indexing_slicing, reason = "a serde_json::Value is indexed; in a test, a panic is an answer too")]

mod common;

use common::control_plane::ControlPlane;
use common::namespace::TestNamespace;
use common::wait_for;
use common::webhook::{Registration, webhook_identity};
use common::webhook_process::{Launch, WebhookProcess};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// One webhook for all tests of this file: registered by its Service, as it is shipped.
async fn webhook() -> &'static (&'static ControlPlane, WebhookProcess, Registration) {
    static SHARED: OnceCell<(&'static ControlPlane, WebhookProcess, Registration)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let cp = ControlPlane::shared().await;
            let identity = webhook_identity(cp).await;
            let webhook = Launch::serve(cp, &identity).with(&["--log", "debug"]).start().await;
            let registration = Registration::shared(cp, &webhook.by_service()).await;
            (cp, webhook, registration)
        })
        .await
}

/// `kubectl -n NAMESPACE create secret generic NAME --from-literal…`.
async fn secret(cp: &ControlPlane, namespace: &TestNamespace, name: &str, data: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> = data.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": namespace.named(name), "stringData": data});
    cp.create(&secret).await.object();
}

/// A Job, with annotations on its pod template.
fn job(name: &str, annotations: &Value) -> String {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"annotations": annotations},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]},
        }},
    })
    .to_string()
}

/// The pods that carry a label.
async fn pods(cp: &ControlPlane, namespace: &TestNamespace, selector: &str) -> Vec<Value> {
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector={selector}", namespace.name);
    let list = cp.request(http::Method::GET, &path, None).await.object();
    list["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_annotated_job_gets_its_secrets() {
    let (cp, webhook, _) = webhook().await;
    let ns = cp.namespace("first").await;
    secret(cp, &ns, "snowflake-credentials", &[("SNOWFLAKE_PASSWORD", "x"), ("password", "x")]).await;
    let annotations = json!({
        "secrets.floe.dev/env-from": "snowflake-credentials",
        "secrets.floe.dev/refs": "snowflake-credentials/password",
        "secrets.floe.dev/env.DBT_PASSWORD": "snowflake-credentials/password",
    });
    cp.kubectl(&["-n", &ns.name, "apply", "-f", "-"], &job("load", &annotations)).await.succeeded();
    let pod = wait_for("the Job's pod", || async { pods(cp, &ns, "job-name=load").await.pop() }).await;
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["envFrom"], json!([{"secretRef": {"name": "snowflake-credentials"}}]));
    let from = json!({"secretKeyRef": {"name": "snowflake-credentials", "key": "password"}});
    assert_eq!(
        container["env"],
        json!([
            {"name": "FLOE_SECRET_SNOWFLAKE_CREDENTIALS_PASSWORD", "valueFrom": from},
            {"name": "DBT_PASSWORD", "valueFrom": from},
        ])
    );
    assert_eq!(pod["metadata"]["labels"]["secrets.floe.dev/injected"], "true");
    let log = webhook.log();
    assert!(log.contains(r#""decision":"injected""#), "{log}");
}

#[tokio::test]
async fn a_missing_secret_is_a_sentence_in_kubectl() {
    let (cp, ..) = webhook().await;
    let ns = cp.namespace("missing").await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "bare", "annotations": {"secrets.floe.dev/env-from": "snowflake-credentials"}},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    });
    let refused = cp.kubectl(&["-n", &ns.name, "apply", "-f", "-"], &pod.to_string()).await;
    assert_eq!(refused.code, 1);
    let sentence = format!(
        "secret \"snowflake-credentials\" not found in namespace \"{}\" (backend kubernetes; asked for by annotation \
         secrets.floe.dev/env-from). Create it or correct the annotation.",
        ns.name
    );
    let whole = format!("The request is invalid: metadata.annotations[secrets.floe.dev/env-from]: {sentence}\n");
    assert_eq!(refused.stderr, whole);
}
