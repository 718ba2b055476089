//! The program as a plugin of a real kubectl.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rstest::rstest;
use tempfile::TempDir;
use testbed::command_output::CommandOutput;
use testbed::tools::{program_paths, project_root};

/// kubectl, and a folder on its PATH with the plugin as its archive has it.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let link = |target: &Path, name: &str| {
            std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        };
        link(
            Path::new(env!("CARGO_BIN_EXE_floe-secrets-webhook")),
            "kubectl-floe_secrets",
        );
        link(
            &project_root().join("hack/krew/kubectl_complete-floe_secrets"),
            "kubectl_complete-floe_secrets",
        );
        Self { folder }
    }

    fn kubectl(&self, args: &[&str]) -> CommandOutput {
        static KUBECTL: OnceLock<PathBuf> = OnceLock::new();
        let kubectl = KUBECTL.get_or_init(|| {
            let [kubectl] = program_paths(["kubectl"]);
            kubectl
        });
        let mut command = Command::new(kubectl);
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        command
            .args(args)
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.folder.path().join("none"))
            .current_dir(self.folder.path());
        CommandOutput::run(command, "")
    }
}

#[test]
fn kubectl_lists_the_plugin_without_a_warning() {
    let fixture = Fixture::new();
    let output = fixture.kubectl(&["plugin", "list"]).expect_success();
    assert!(
        output.stdout.contains("/kubectl-floe_secrets\n"),
        "{}",
        output.text()
    );
    assert!(!output.text().contains("warning"), "{}", output.text());
}

#[test]
fn kubectl_runs_the_plugin_under_its_own_name() {
    let fixture = Fixture::new();
    let help = fixture
        .kubectl(&["floe-secrets", "scan", "--help"])
        .expect_success();
    assert!(
        help.stdout.contains("Usage: kubectl floe-secrets scan"),
        "{}",
        help.stdout
    );
    assert!(
        help.stdout.contains("\n  kubectl floe-secrets scan -A\n"),
        "{}",
        help.stdout
    );
    let error = fixture.kubectl(&["floe-secrets", "inject"]);
    assert_eq!(error.code, 2, "{}", error.text());
    assert!(
        error.stderr.contains("Usage: kubectl floe-secrets inject"),
        "{}",
        error.stderr
    );
}

#[rstest]
#[case::command(&["sc"], &["scan"], 4)]
#[case::flag(&["scan", "--all"], &["--all-namespaces"], 4)]
#[case::value(&["scan", "-o", ""], &["table", "json", "yaml"], 4)]
#[case::nested(&["config", "sh"], &["show"], 4)]
#[case::nothing(&["scan", "-n", "x", "nothing-like-this"], &[], 0)]
fn kubectl_completes_the_plugins_arguments(
    #[case] words: &[&str],
    #[case] expected: &[&str],
    #[case] directive: u8,
) {
    let fixture = Fixture::new();
    let args = [&["__complete", "floe-secrets"], words].concat();
    let output = fixture.kubectl(&args).expect_success();
    let candidates: Vec<&str> = output
        .stdout
        .lines()
        .filter(|line| !line.starts_with(':'))
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert_eq!(candidates, expected, "{}", output.text());
    let last = output.stdout.lines().last().unwrap();
    assert_eq!(last, format!(":{directive}"), "{}", output.text());
}

#[test]
fn files_are_completed() {
    let fixture = Fixture::new();
    std::fs::write(fixture.folder.path().join("job.yaml"), "").unwrap();
    let args = ["__complete", "floe-secrets", "config", "check", "jo"];
    let output = fixture.kubectl(&args).expect_success();
    assert!(output.stdout.starts_with("job.yaml"), "{}", output.stdout);
}

#[test]
fn archive_has_the_licence_and_is_the_same_for_the_same_files() {
    let folder = TempDir::new().unwrap();
    let archive = |name: &str| {
        let out = folder.path().join(name);
        let mut script = Command::new(project_root().join("hack/archive.sh"));
        script
            .args([env!("CARGO_BIN_EXE_floe-secrets-webhook"), "linux", "amd64"])
            .arg(&out);
        let printed = CommandOutput::run(script, "").expect_success().stdout;
        PathBuf::from(printed.trim())
    };
    let [one, two] = [archive("one"), archive("two")];
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    let mut tar = Command::new("tar");
    tar.arg("-tzf").arg(&one);
    assert_eq!(
        CommandOutput::run(tar, "").expect_success().stdout,
        "LICENSE\nkubectl-floe_secrets\nkubectl_complete-floe_secrets\n"
    );

    let mut script = Command::new(project_root().join("hack/krew/manifest.sh"));
    script.arg("https://downloads.example.com/v/").arg(&one);
    let manifest = CommandOutput::run(script, "").expect_success().stdout;
    let manifest: serde_json::Value = serde_saphyr::from_str(&manifest).unwrap();
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["spec"]["version"], version);
    let platform = &manifest["spec"]["platforms"][0];
    let uri = format!("https://downloads.example.com/v/floe-secrets_{version}_linux_amd64.tar.gz");
    assert_eq!(platform["uri"], uri.as_str());
    let mut sum = Command::new("sha256sum");
    sum.arg(&one);
    let sum = CommandOutput::run(sum, "").expect_success().stdout;
    assert!(
        sum.starts_with(platform["sha256"].as_str().unwrap()),
        "{sum}"
    );
}
