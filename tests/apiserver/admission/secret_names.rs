//! Naming convention for secrets: an operator's webhook that warns, and one that refuses, as kubectl prints them.

use serde_json::{Value, json};
use testbed::manifests::{container, deployment, pod, prefixed};
use testbed::shared_fixture::shared_fixture;
use testbed::unique;
use testbed::webhook::{Registration, limited_to_namespaces};
use testbed::webhook_process::Launch;

/// Output of kubectl for a refusal by one annotation.
fn refusal(sentence: &str) -> String {
    format!("The request is invalid: metadata.annotations[secrets.floe.dev/env-from]: {sentence}\n")
}

#[tokio::test]
async fn name_convention_warns_or_denies() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("conventional").await);
    for name in ["db-creds", "db-prod-credentials"] {
        cp.secret(&ns.name, name, &["k"], "x").await;
    }
    let asks = |secret: &str| prefixed(&json!({"env-from": secret}));
    let pod_with = |secret: &str| pod(&ns.name, &unique("named"), &asks(secret));
    let workload = |secret: &str| -> Value {
        deployment(&unique("named"), &asks(secret), &json!([container()]))
    };
    let problem = "the name of secret \"db-creds\" does not follow the naming convention \"{service}-{environment}-credentials\"";
    let sentence = format!(
        "{problem} (asked for by annotation secrets.floe.dev/env-from). Create the secret under such a name and correct the annotation."
    );
    for mode in ["warn", "deny"] {
        let identity = testbed::webhook::webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity)
            .with(&["--secret-name-pattern", "floe", "--secret-name-mode", mode])
            .start()
            .await;
        // Sorted after the other webhook, which admits these objects.
        let registration = Registration::shared(
            cp,
            &limited_to_namespaces(webhook.service_configuration(), &[&ns.name]),
        )
        .await;
        for object in [pod_with("db-creds"), workload("db-creds")] {
            let applied = cp.kubectl_apply(&ns.name, &object).await;
            let (code, stderr) = match mode {
                "warn" => (0, format!("Warning: {problem}\n")),
                _ => (1, refusal(&sentence)),
            };
            assert_eq!((applied.code, applied.stderr), (code, stderr), "{mode}");
        }
        for object in [
            pod_with("db-prod-credentials"),
            workload("db-prod-credentials"),
        ] {
            let applied = cp.kubectl_apply(&ns.name, &object).await;
            assert_eq!((applied.code, &*applied.stderr), (0, ""), "{mode}");
        }
        drop(registration);
    }
}
