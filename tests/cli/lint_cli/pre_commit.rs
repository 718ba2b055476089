//! The hook of this repository, run by pre-commit itself.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testbed::command_output::CommandOutput;
use testbed::tools::project_root;

use crate::{CANARY, folder, provided, repository};

fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
        .args(args)
        .current_dir(folder);
    CommandOutput::run(command, "").expect_success();
}

fn committed<T: AsRef<[u8]>>(files: &[(&str, T)]) -> TempDir {
    let repository = folder(files);
    git(repository.path(), &["init", "-q"]);
    git(repository.path(), &["add", "-A"]);
    git(repository.path(), &["commit", "-q", "-m", "all"]);
    repository
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a setting of the test run")]
fn hook_fails_for_findings_and_passes_without() {
    let hooks = std::fs::read(project_root().join(".pre-commit-hooks.yaml")).unwrap();
    let hooks = committed(&[(".pre-commit-hooks.yaml", hooks)]);
    git(hooks.path(), &["tag", "v1"]);
    let config = format!(
        "repos:\n- repo: {}\n  rev: v1\n  hooks:\n  - id: floe-secrets-lint\n",
        hooks.path().display()
    );
    let mut files = repository();
    files.push((".pre-commit-config.yaml", config));
    let repository = committed(&files);
    let program = Path::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    let path = std::env::join_paths(
        std::iter::once(program.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let cache = TempDir::new().unwrap();
    let pre_commit = provided("python.sh", &["path", "pre-commit"]);
    let run = || {
        let mut command = Command::new(&pre_commit);
        command
            .args(["run", "--all-files", "--color", "never"])
            .current_dir(repository.path())
            .env("PATH", &path)
            .env("PRE_COMMIT_HOME", cache.path());
        CommandOutput::run(command, "")
    };
    let failed = run();
    assert_eq!(failed.code, 1, "{}", failed.text());
    // The Secret of one file is known when the Job of another is checked.
    for expected in [
        "floe secrets",
        "Failed",
        "manifests/etl/deployment.yaml:9:5: error: ",
        "has no key \"password\"",
    ] {
        assert!(failed.stdout.contains(expected), "{}", failed.text());
    }
    assert!(!failed.text().contains(CANARY), "{}", failed.text());

    for name in [
        "manifests/etl/deployment.yaml",
        "manifests/etl/job, nightly.yaml",
    ] {
        git(repository.path(), &["rm", "-q", name]);
    }
    let passed = run().expect_success();
    assert!(passed.stdout.contains("Passed"), "{}", passed.text());
}
