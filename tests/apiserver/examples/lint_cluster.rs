//! `lint --cluster` against the Secrets, and the defaults of a Namespace, of a real API server.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::process::Folder;

use crate::Fixture;

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: extract
  annotations:
    secrets.floe.dev/env-from: lake
    secrets.floe.dev/refs: warehouse/password
spec:
  containers: [{name: main, image: example.com/extract:1}]
---
apiVersion: v1
kind: Pod
metadata: {name: report}
spec:
  containers: [{name: main, image: example.com/report:1}]
";

fn lint(folder: &Path, manifest: &Path, kubeconfig: &Path, namespace: &str) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command
        .current_dir(folder)
        .args(["lint", "-o", "text", "--cluster", "-n", namespace]);
    command.arg("--kubeconfig").arg(kubeconfig);
    command.arg("-f").arg(manifest);
    CommandOutput::run(command, "")
}

#[tokio::test]
async fn manifests_are_checked_with_what_the_cluster_has() {
    let fixture = Fixture::new("lint-cluster").await;
    let folder = Folder::new();
    let manifest = folder.write("pods.yaml", MANIFEST);
    let namespace = &fixture.ns.name;
    let run = |kubeconfig: &Path| lint(folder.path(), &manifest, kubeconfig, namespace);
    let admin = &fixture.cp.kubeconfig;
    fixture.secret("warehouse", &["user"]).await;

    let output = run(admin);
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    for problem in ["\"lake\"", "\"warehouse\"", "password"] {
        assert!(output.stdout.contains(problem), "{}", output.stdout);
    }
    assert!(!output.stdout.contains("report"), "{}", output.stdout);

    fixture.secret("lake", &["key"]).await;
    fixture.kubectl(&["delete", "secret", "warehouse"]).await;
    fixture.secret("warehouse", &["password"]).await;
    let output = run(admin).expect_success();
    assert!(
        !output.stderr.contains("were not looked for"),
        "{}",
        output.stderr
    );

    // Defaults of the namespace apply to pods without annotations of their own, and name a Secret that is not there.
    let defaults: Value = json!({"metadata": {
        "labels": {"secrets.floe.dev/inject": "enabled"},
        "annotations": {"secrets.floe.dev/env-from": "team"},
    }});
    let patch = defaults.to_string();
    fixture
        .kubectl(&["patch", "namespace", namespace, "-p", &patch])
        .await;
    let output = run(admin);
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("\"team\""), "{}", output.stdout);
}

#[tokio::test]
async fn cluster_that_may_not_be_read_is_an_error() {
    let fixture = Fixture::new("lint-cluster").await;
    let folder = Folder::new();
    let manifest = folder.write("pods.yaml", MANIFEST);
    let namespace = &fixture.ns.name;
    fixture.secret("lake", &["key"]).await;
    fixture.secret("warehouse", &["password"]).await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let user = fixture.cp.service_account(namespace, "other", &rules).await;
    let output = lint(folder.path(), &manifest, &user.kubeconfig, namespace);
    assert_eq!(output.code, 2, "{}{}", output.stdout, output.stderr);
    let printed = format!("{}{}", output.stdout, output.stderr);
    let problem = "does not allow reading secret \"lake\"";
    assert!(printed.contains(problem), "{printed}");
}
