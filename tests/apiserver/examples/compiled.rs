//! Annotations that `compile` wrote, on a Job, a namespace and a `ServiceAccount`: the variables of the created pod are
//! those of the profile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::objects::yaml;
use testbed::process::Folder;
use testbed::tools::project_root;

use crate::{Fixture, env_vars, names, secrets_of};

const PREFIX: &str = "secrets.floe.dev/";

/// Snowflake by the Secret of a connection.
const CONNECTION: &str = "
  compute:
    type: snowflake
    connection_secret_ref: snowflake-credentials
    config: {warehouse: COMPUTE_WH, database: RAW}
";

/// References in a map and in lists, to several Secrets and with several keys.
const REFERENCES: &str = "
  compute:
    type: duckdb
    config:
      path: ':memory:'
      secrets:
        - {type: http, bearer_token: {secretRef: {name: partner-api, key: token}}}
        - {type: s3, key_id: {secretRef: {name: lake.eu, key: key.id}}, secret: {secretRef: {name: lake.eu, key: secret-key}}}
      settings: {http_proxy_password: {secretRef: {name: proxy}}}
";

/// Numbers and booleans from a Secret.
const TYPES: &str = "
  compute:
    type: postgres
    connection_secret_ref: warehouse
    config:
      schema: public
      keepalives_idle: {secretRef: {name: settings, key: idle}}
      autocommit: {secretRef: {name: settings, key: autocommit}}
";

fn compile(manifest: &Path, args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.arg("compile").arg(manifest).args(args);
    command.current_dir(manifest.parent().expect("a folder"));
    CommandOutput::run(command, "")
}

/// Output of `compile` in a folder.
struct Compiled {
    folder: Folder,
    /// Variables that the profile asks for.
    variables: BTreeSet<String>,
    /// Keys that each Secret has to have.
    secrets: BTreeMap<String, BTreeSet<String>>,
}

impl Compiled {
    fn new(plugins: &str, args: &[&str]) -> Self {
        let folder = Folder::new();
        let manifest = format!(
            "apiVersion: floe.dev/v1\nkind: Manifest\nmetadata: {{name: trial, version: 1.0.0, owner: a@example.com}}\nplugins:{plugins}"
        );
        let manifest = folder.write("manifest.yaml", manifest);
        let out = folder.path().display().to_string();
        compile(&manifest, &[&["--out", &out], args].concat()).expect_success();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
        let variables = env_vars(&read("profiles.yml"));
        let annotations = yaml(&read("annotations.yaml")).remove(0);
        let secrets = secrets_for(&annotations, &variables);
        Self {
            folder,
            variables,
            secrets,
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// Secrets and keys that annotations refer to. Those of `env-from` have the profile's variables as keys.
fn secrets_for(
    annotations: &Value,
    variables: &BTreeSet<String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut secrets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in annotations.as_object().expect("a map") {
        let value = value.as_str().expect("text");
        let items = value
            .split([',', ' ', '\n'])
            .filter(|item| !item.is_empty());
        if name.strip_prefix(PREFIX) == Some("env-from") {
            for item in items {
                secrets
                    .entry(item.to_owned())
                    .or_default()
                    .extend(variables.iter().cloned());
            }
            continue;
        }
        for item in items {
            let (secret, key) = item.split_once('/').unwrap_or((item, "value"));
            secrets
                .entry(secret.to_owned())
                .or_default()
                .insert(key.to_owned());
        }
    }
    secrets
}

impl Fixture {
    async fn with_secrets(stem: &str, compiled: &Compiled) -> Self {
        let fixture = Self::new(stem).await;
        for (name, keys) in &compiled.secrets {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            fixture.secret(name, &keys).await;
        }
        fixture
    }

    /// Variables from secrets in a container.
    fn variables_of(pod: &Value, compiled: &Compiled) -> BTreeSet<String> {
        let (bulk, entries) = secrets_of(pod, "main");
        let mut variables = names(&entries);
        for source in bulk {
            let name = source.strip_prefix("secret/").expect("a Secret");
            variables.extend(compiled.secrets[name].iter().cloned());
        }
        variables
    }
}

fn job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "trial"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}],
        }}},
    })
}

async fn assert_round_trip(plugins: &str, args: &[&str]) {
    let compiled = Compiled::new(plugins, args);
    assert!(!compiled.variables.is_empty());

    let fixture = Fixture::with_secrets("on-job", &compiled).await;
    let patch = compiled.file("patch.yaml");
    let job = job().to_string();
    let patched = [
        "patch",
        "--local",
        "-f",
        "-",
        "--patch-file",
        &patch,
        "-o",
        "json",
    ];
    let patched = fixture.kubectl_with(&patched, &job).await.stdout;
    fixture.kubectl_with(&["create", "-f", "-"], &patched).await;
    let pod = fixture.pod("job-name=trial").await;
    assert_eq!(
        Fixture::variables_of(&pod, &compiled),
        compiled.variables,
        "{args:?}"
    );

    let fixture = Fixture::with_secrets("on-namespace", &compiled).await;
    let namespace = fixture.ns.name.clone();
    let patch = compiled.file("namespace.yaml");
    fixture
        .kubectl(&["patch", "namespace", &namespace, "--patch-file", &patch])
        .await;
    fixture.kubectl_with(&["create", "-f", "-"], &job).await;
    let pod = fixture.pod("job-name=trial").await;
    assert_eq!(
        Fixture::variables_of(&pod, &compiled),
        compiled.variables,
        "{args:?}"
    );

    let fixture = Fixture::with_secrets("on-account", &compiled).await;
    let namespace = fixture.ns.name.clone();
    let label = "secrets.floe.dev/inject=enabled";
    fixture
        .kubectl(&["label", "namespace", &namespace, label])
        .await;
    let patch = compiled.file("serviceaccount.yaml");
    fixture
        .kubectl(&["patch", "serviceaccount", "default", "--patch-file", &patch])
        .await;
    fixture.kubectl_with(&["create", "-f", "-"], &job).await;
    let pod = fixture.pod("job-name=trial").await;
    assert_eq!(
        Fixture::variables_of(&pod, &compiled),
        compiled.variables,
        "{args:?}"
    );
}

#[tokio::test]
async fn connection_reaches_pods_from_each_place() {
    assert_round_trip(CONNECTION, &[]).await;
}

#[tokio::test]
async fn masked_connection_reaches_pods_from_each_place() {
    assert_round_trip(CONNECTION, &["--mask"]).await;
}

#[tokio::test]
async fn connection_with_keys_by_field_reaches_pods_from_each_place() {
    assert_round_trip(CONNECTION, &["--connection-keys", "field"]).await;
}

#[tokio::test]
async fn whole_connection_reaches_pods_from_each_place() {
    assert_round_trip(CONNECTION, &["--env-from"]).await;
}

#[tokio::test]
async fn references_reach_pods_from_each_place() {
    assert_round_trip(REFERENCES, &[]).await;
}

#[tokio::test]
async fn masked_references_reach_pods_from_each_place() {
    assert_round_trip(REFERENCES, &["--mask"]).await;
}

#[tokio::test]
async fn numbers_and_booleans_reach_pods_from_each_place() {
    assert_round_trip(TYPES, &[]).await;
}

#[test]
fn compiled_files_of_examples_are_current() {
    for folder in ["dbt-job", "dbt-cronjob"] {
        let folder = project_root().join("examples").join(folder);
        let manifest = folder.join("manifest.yaml");
        let out = folder.join("compiled").display().to_string();
        let checked = compile(&manifest, &["--out", &out, "--check"]);
        assert_eq!(checked.code, 0, "{}", checked.text());
    }
}
