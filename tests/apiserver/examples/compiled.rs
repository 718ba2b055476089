//! Annotations that `compile` wrote, on a Job, a namespace and a `ServiceAccount`: the variables of the created pod are
//! those of the profile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::process::Folder;
use testbed::tools::project_root;

use crate::{Fixture, env_vars, names, secrets_of};

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

pub(crate) fn compile(manifest: &Path, args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.arg("compile").arg(manifest).args(args);
    command.current_dir(manifest.parent().expect("a folder"));
    CommandOutput::run(command, "")
}

/// Entries that `compile` has to write for plugins and arguments.
struct Expected {
    plugins: &'static str,
    args: &'static [&'static str],
    /// Keys of the Secret that is injected whole, and that Secret.
    whole: Option<(&'static str, &'static [&'static str])>,
    /// Each variable with its secret and key, as in `NAME<secret/key`, sorted.
    entries: &'static [&'static str],
}

impl Expected {
    /// Variables that the profile has to ask for.
    fn variables(&self) -> BTreeSet<String> {
        let entries: Vec<String> = self.entries.iter().map(ToString::to_string).collect();
        let whole = self.whole.iter().flat_map(|(_, keys)| keys.iter());
        let mut variables = names(&entries);
        variables.extend(whole.map(ToString::to_string));
        variables
    }

    /// Namespace with exactly the Secrets and keys that are asked for.
    async fn fixture(&self, stem: &str) -> Fixture {
        let mut secrets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in self.entries {
            let (_, reference) = entry.split_once('<').expect("NAME<secret/key");
            let (secret, key) = reference.split_once('/').expect("secret/key");
            secrets.entry(secret).or_default().push(key);
        }
        if let Some((secret, keys)) = self.whole {
            secrets.entry(secret).or_default().extend(keys);
        }
        let fixture = Fixture::new(stem).await;
        for (secret, keys) in secrets {
            fixture.secret(secret, &keys).await;
        }
        fixture
    }

    /// Compares what the pod's container got, each entry once.
    fn assert_injected(&self, pod: &Value) {
        let whole = self.whole.iter();
        let sources: Vec<String> = whole
            .map(|(secret, _)| format!("secret/{secret}"))
            .collect();
        let entries: Vec<String> = self.entries.iter().map(ToString::to_string).collect();
        assert_eq!(
            secrets_of(pod, "main"),
            (sources, entries),
            "{:?}",
            self.args
        );
    }
}

/// Output of `compile` in a folder.
struct Compiled(Folder);

impl Compiled {
    fn new(expected: &Expected) -> Self {
        let folder = Folder::new();
        let manifest = format!(
            "apiVersion: floe.dev/v1\nkind: Manifest\nmetadata: {{name: trial, version: 1.0.0, owner: a@example.com}}\nplugins:{}",
            expected.plugins
        );
        let manifest = folder.write("manifest.yaml", manifest);
        let out = folder.path().display().to_string();
        compile(&manifest, &[&["--out", &out], expected.args].concat()).expect_success();
        let profile = std::fs::read_to_string(folder.path().join("profiles.yml"));
        assert_eq!(env_vars(&profile.expect("a profile")), expected.variables());
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
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

async fn assert_round_trip(expected: &Expected) {
    let compiled = Compiled::new(expected);

    let fixture = expected.fixture("on-job").await;
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
    expected.assert_injected(&pod);

    let fixture = expected.fixture("on-namespace").await;
    let namespace = fixture.ns.name.clone();
    let patch = compiled.file("namespace.yaml");
    fixture
        .kubectl(&["patch", "namespace", &namespace, "--patch-file", &patch])
        .await;
    fixture.kubectl_with(&["create", "-f", "-"], &job).await;
    let pod = fixture.pod("job-name=trial").await;
    expected.assert_injected(&pod);

    let fixture = expected.fixture("on-account").await;
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
    expected.assert_injected(&pod);
}

#[tokio::test]
async fn connection_reaches_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: CONNECTION,
        args: &[],
        whole: None,
        entries: &[
            "SNOWFLAKE_ACCOUNT<snowflake-credentials/SNOWFLAKE_ACCOUNT",
            "SNOWFLAKE_PASSWORD<snowflake-credentials/SNOWFLAKE_PASSWORD",
            "SNOWFLAKE_SCHEMA<snowflake-credentials/SNOWFLAKE_SCHEMA",
            "SNOWFLAKE_USER<snowflake-credentials/SNOWFLAKE_USER",
        ],
    })
    .await;
}

#[tokio::test]
async fn masked_connection_reaches_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: CONNECTION,
        args: &["--mask"],
        whole: None,
        entries: &[
            "DBT_ENV_SECRET_SNOWFLAKE_PASSWORD<snowflake-credentials/SNOWFLAKE_PASSWORD",
            "SNOWFLAKE_ACCOUNT<snowflake-credentials/SNOWFLAKE_ACCOUNT",
            "SNOWFLAKE_SCHEMA<snowflake-credentials/SNOWFLAKE_SCHEMA",
            "SNOWFLAKE_USER<snowflake-credentials/SNOWFLAKE_USER",
        ],
    })
    .await;
}

#[tokio::test]
async fn connection_with_keys_by_field_reaches_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: CONNECTION,
        args: &["--connection-keys", "field"],
        whole: None,
        entries: &[
            "SNOWFLAKE_ACCOUNT<snowflake-credentials/account",
            "SNOWFLAKE_PASSWORD<snowflake-credentials/password",
            "SNOWFLAKE_SCHEMA<snowflake-credentials/schema",
            "SNOWFLAKE_USER<snowflake-credentials/user",
        ],
    })
    .await;
}

#[tokio::test]
async fn whole_connection_reaches_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: CONNECTION,
        args: &["--env-from"],
        whole: Some((
            "snowflake-credentials",
            &[
                "SNOWFLAKE_ACCOUNT",
                "SNOWFLAKE_PASSWORD",
                "SNOWFLAKE_SCHEMA",
                "SNOWFLAKE_USER",
            ],
        )),
        entries: &[],
    })
    .await;
}

#[tokio::test]
async fn references_reach_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: REFERENCES,
        args: &[],
        whole: None,
        entries: &[
            "FLOE_SECRET_LAKE_EU_KEY_ID<lake.eu/key.id",
            "FLOE_SECRET_LAKE_EU_SECRET_KEY<lake.eu/secret-key",
            "FLOE_SECRET_PARTNER_API_TOKEN<partner-api/token",
            "FLOE_SECRET_PROXY<proxy/value",
        ],
    })
    .await;
}

#[tokio::test]
async fn masked_references_reach_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: REFERENCES,
        args: &["--mask"],
        whole: None,
        entries: &[
            "DBT_ENV_SECRET_LAKE_EU_KEY_ID<lake.eu/key.id",
            "DBT_ENV_SECRET_LAKE_EU_SECRET_KEY<lake.eu/secret-key",
            "DBT_ENV_SECRET_PARTNER_API_TOKEN<partner-api/token",
            "DBT_ENV_SECRET_PROXY<proxy/value",
        ],
    })
    .await;
}

#[tokio::test]
async fn numbers_and_booleans_reach_pods_from_each_place() {
    assert_round_trip(&Expected {
        plugins: TYPES,
        args: &[],
        whole: None,
        entries: &[
            "FLOE_SECRET_SETTINGS_AUTOCOMMIT<settings/autocommit",
            "FLOE_SECRET_SETTINGS_IDLE<settings/idle",
            "POSTGRES_DBNAME<warehouse/POSTGRES_DBNAME",
            "POSTGRES_HOST<warehouse/POSTGRES_HOST",
            "POSTGRES_PASSWORD<warehouse/POSTGRES_PASSWORD",
            "POSTGRES_PORT<warehouse/POSTGRES_PORT",
            "POSTGRES_USER<warehouse/POSTGRES_USER",
        ],
    })
    .await;
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
