//! Changes of the file while `serve` and `controller` run.

use serde_json::{Value, json};
use testbed::admission_client::{kubeconfig_for, pod};
use testbed::pki::Authority;
use testbed::process::Folder;
use testbed::wait_for;
use testbed::webhook_process::{Launch, WebhookProcess};

/// First log line with a message that is not among the `seen` first ones.
async fn logged(webhook: &WebhookProcess, message: &str, seen: usize) -> Value {
    let what = format!("{message:?} is logged");
    wait_for(&what, || async {
        webhook
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["message"] == message)
            .nth(seen)
    })
    .await
}

/// Whether a pod in the namespace `jobs` is left alone, as in an exempt namespace. No backend responds to others.
async fn is_exempt(webhook: &WebhookProcess) -> bool {
    let pod = pod(&json!({"secrets.floe.dev/env-from": "warehouse"}));
    let response = webhook.admit(&pod, "5s").await;
    response.response()["allowed"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_file_is_applied_where_safe_and_bad_one_keeps_the_old() {
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, "https://127.0.0.1:1");
    let file = folder.write("c.yaml", "injection: {exemptNamespaces: [jobs]}\n");
    let launch = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig);
    let path = file.display().to_string();
    let webhook = launch.with(&["--config", &path]).start().await;
    assert!(is_exempt(&webhook).await, "the file applies at the start");

    std::fs::write(&file, "injection: {exemptNamespaces: [other]}\n").unwrap();
    let line = logged(&webhook, "configuration reloaded", 0).await;
    assert_eq!(line["settings"], "injection.exemptNamespaces");
    assert!(!is_exempt(&webhook).await, "the new list applies");

    std::fs::write(&file, "injection: {exemptNamespaces: jobs}\nlogs:\n").unwrap();
    let kept = "configuration not reloaded, keeping the old one";
    let line = logged(&webhook, kept, 0).await;
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("c.yaml:1:31: injection.exemptNamespaces")
            && error.contains("c.yaml:2:1: logs"),
        "{error}"
    );
    assert!(!is_exempt(&webhook).await, "the old list is kept");

    let text =
        "injection: {exemptNamespaces: [jobs]}\nserve: {workerThreads: 1}\nlog: {filter: debug}\n";
    std::fs::write(&file, text).unwrap();
    let line = logged(&webhook, "changed settings need a restart", 0).await;
    assert_eq!(line["settings"], "serve.workerThreads");
    assert!(
        is_exempt(&webhook).await,
        "live settings of the same file apply"
    );
    // Skipped reviews are logged at debug.
    let line = logged(&webhook, "admission", 2).await;
    assert_eq!(line["level"], "DEBUG", "{line}");
}
