//! Changes of the file while `serve` and `controller` run.

use std::io::Write as _;

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

/// Number of log lines with a message.
fn count(webhook: &WebhookProcess, message: &str) -> usize {
    let log = webhook.log();
    let lines = log.lines();
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == message)
        .count()
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

    for (text, expected) in [
        ("tls: {cert: a, key: b, secret: c}\n", "tls.secret"),
        ("log: {filter: 'info,=,hunter2'}\n", "log.filter"),
    ] {
        let seen = count(&webhook, kept);
        std::fs::write(&file, text).unwrap();
        let line = logged(&webhook, kept, seen).await;
        let error = line["error"].as_str().unwrap();
        assert!(
            error.contains(expected) && !error.contains("hunter2"),
            "{error}"
        );
    }

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_namespace_is_that_of_the_start() {
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, "https://127.0.0.1:1");
    let file = folder.write("c.yaml", "installation: {ownNamespace: first}\n");
    let mut launch = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig);
    let flag = launch.args.iter().position(|arg| arg == "--own-namespace");
    let flag = flag.unwrap();
    launch.args.drain(flag..flag + 2);
    let path = file.display().to_string();
    let webhook = launch.with(&["--config", &path]).start().await;
    assert!(!is_exempt(&webhook).await);

    std::fs::write(&file, "installation: {ownNamespace: jobs}\n").unwrap();
    let line = logged(&webhook, "changed settings need a restart", 0).await;
    assert_eq!(line["settings"], "installation.ownNamespace");
    assert!(
        !is_exempt(&webhook).await,
        "it applies after a restart only"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controller_applies_the_log_filter_and_keeps_it_if_the_file_is_bad() {
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, "https://127.0.0.1:1");
    let file = folder.write("c.yaml", "log: {filter: info}\n");
    let mut launch = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig);
    let ops = format!("127.0.0.1:{}", launch.ops_port);
    launch.args = ["controller", "--own-namespace", "floe", "--ops-listen"]
        .map(str::to_owned)
        .into();
    let path = file.display().to_string();
    let kubeconfig = kubeconfig.display().to_string();
    let more = [&ops, "--kubeconfig", &kubeconfig, "--config", &path];
    let controller = launch.with(&more).start().await;

    std::fs::write(&file, "log: {filter: 'info,=,hunter2'}\n").unwrap();
    let kept = "configuration not reloaded, keeping the old one";
    let line = logged(&controller, kept, 0).await;
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("log.filter") && !error.contains("hunter2"),
        "{error}"
    );

    std::fs::write(&file, "tls: {secret: stored}\nlog: {filter: debug}\n").unwrap();
    let line = logged(&controller, kept, 1).await;
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("--tls-names"), "{error}");

    std::fs::write(&file, "log: {filter: debug}\n").unwrap();
    let line = logged(&controller, "configuration reloaded", 0).await;
    assert_eq!(line["settings"], "log.filter");
    let mut client = std::net::TcpStream::connect(&ops).unwrap();
    client.write_all(b"not HTTP\r\n\r\n").unwrap();
    let line = logged(&controller, "connection failed", 0).await;
    assert_eq!(line["level"], "DEBUG", "{line}");
}
