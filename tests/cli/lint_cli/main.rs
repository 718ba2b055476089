//! `lint` as people and tools call it: the built program in a repository, and readers of its output that others wrote.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

mod formats;
mod inputs;
mod pre_commit;
mod profiles;

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testbed::command_output::CommandOutput;
use testbed::tools::project_root;

/// Text that is in every place of the repository at which a value may be, and in no output.
const CANARY: &str = "canary7Kq2Zx9fWb41";

/// Files of a repository in the layout that teams use.
fn repository() -> Vec<(&'static str, String)> {
    let deployment = format!(
        "# {CANARY}\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: etl\n  namespace: jobs\n  annotations:\n    note: {CANARY}\n    \
         secrets.floe.dev/envfrom: warehouse-prod-credentials # {CANARY}\nspec:\n  template:\n    metadata:\n      annotations:\n        \
         secrets.floe.dev/containers: mian\n        secrets.floe.dev/refs: warehouse-prod-credentials/user\n    spec:\n      containers:\n      \
         - name: main\n        image: etl\n        env:\n        - name: DATABASE_PASSWORD\n          value: {CANARY}\n        - name: LOG_LEVEL\n          value: info\n"
    );
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: load\n  namespace: jobs\nspec:\n  template:\n    metadata:\n      annotations:\n        \
         secrets.floe.dev/refs: warehouse-prod-credentials/password, warehouse-prod-credentials/user\n    spec:\n      containers:\n      - name: main\n        image: load\n";
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: warehouse-prod-credentials\n  namespace: jobs\nstringData:\n  user: {CANARY}\n"
    );
    vec![
        ("manifests/etl/deployment.yaml", deployment),
        ("manifests/etl/job, nightly.yaml", job.to_owned()),
        ("manifests/secrets.yaml", secret),
        ("settings.yaml", format!("a: {CANARY}\n")),
    ]
}

/// A folder with these files.
fn folder<T: AsRef<[u8]>>(files: &[(&str, T)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// Runs `lint` in a folder.
fn lint(folder: &Path, args: &[&str], stdin: &str) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command
        .arg("lint")
        .args(args)
        .current_dir(folder)
        .env("KUBECONFIG", folder.join("no-kubeconfig"));
    for variable in [
        "FLOE_SECRETS_SIDECAR_CONTAINERS",
        "FLOE_SECRETS_SECRET_NAME_PATTERN",
    ] {
        command.env_remove(variable);
    }
    let output = CommandOutput::run(command, stdin);
    assert!(!output.text().contains(CANARY), "{}", output.text());
    output
}

/// Path of a program or file that a script of `hack/tools` provides.
fn provided(script: &str, args: &[&str]) -> String {
    let mut command = Command::new(project_root().join("hack/tools").join(script));
    command.args(args);
    let output = CommandOutput::run(command, "").expect_success();
    output.stdout.trim().to_owned()
}
