//! `compile --cluster` against the Secrets of a real API server.

use std::path::Path;

use serde_json::json;
use testbed::process::Folder;

use crate::Fixture;
use crate::compiled::compile;

const MANIFEST: &str = "
apiVersion: floe.dev/v1
kind: Manifest
metadata: {name: trial, version: 1.0.0, owner: a@example.com}
plugins:
  compute:
    type: duckdb
    config:
      path: ':memory:'
      secrets:
        - {type: s3, key_id: {secretRef: {name: lake.eu, key: key.id}}, secret: {secretRef: {name: lake.eu, key: secret-key}}}
      settings: {http_proxy_password: {secretRef: {name: proxy}}}
  catalog:
    type: polaris
    connection_secret_ref: polaris
";

#[tokio::test]
async fn secrets_of_the_cluster_are_checked_by_name_and_key() {
    let fixture = Fixture::new("compile-cluster").await;
    let folder = Folder::new();
    let manifest = folder.write("manifest.yaml", MANIFEST);
    let run = |kubeconfig: &Path| {
        let kubeconfig = kubeconfig.display().to_string();
        let cluster = ["--cluster", "--kubeconfig", &kubeconfig];
        compile(
            &manifest,
            &[&cluster[..], &["--namespace", &fixture.ns.name]].concat(),
        )
    };
    fixture.secret("lake.eu", &["key.id"]).await;
    let admin = &fixture.cp.kubeconfig;
    let output = run(admin);
    assert_eq!(output.code, 1, "{}", output.stderr);
    let place = format!("in namespace \"{}\" of the cluster", fixture.ns.name);
    for problem in [
        format!("secret \"lake.eu\" has no key \"secret-key\" {place}"),
        format!("secret \"proxy\" is not {place}"),
        format!("secret \"polaris\" is not {place}"),
    ] {
        assert!(output.stderr.contains(&problem), "{}", output.stderr);
    }
    assert_eq!(output.stdout, "");

    fixture.kubectl(&["delete", "secret", "lake.eu"]).await;
    fixture.secret("lake.eu", &["key.id", "secret-key"]).await;
    fixture.secret("proxy", &["value"]).await;
    fixture.secret("polaris", &["any"]).await;
    let output = run(admin).expect_success();
    assert!(output.stdout.contains("env_var("), "{}", output.stdout);

    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let user = fixture
        .cp
        .service_account(&fixture.ns.name, "other", &rules)
        .await;
    let output = run(&user.kubeconfig);
    assert_eq!(output.code, 2, "{}", output.stderr);
    let problem = format!(
        "secret \"lake.eu\" in namespace \"{}\" cannot be read",
        fixture.ns.name
    );
    assert!(output.stderr.contains(&problem), "{}", output.stderr);
    assert_eq!(output.stdout, "");
}
