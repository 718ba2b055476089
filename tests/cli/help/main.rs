//! Every command's help, errors and exit codes, as snapshots; and the program on streams that are closed, full, narrow,
//! or not a terminal. `SNAPSHOTS=overwrite` writes the snapshots anew.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

mod examples;
mod streams;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use floe_secrets_webhook::commands::Cli;
use rstest::rstest;
use snapbox::Data;
use testbed::command_output::CommandOutput;
use testbed::tools::project_root;

/// The built program, without settings of the environment that runs the tests.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOE_SECRETS_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .current_dir(project_root().join("tests/cli/help/files"))
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> CommandOutput {
    CommandOutput::run(program(args), "")
}

/// Compares a text with a snapshot.
#[expect(
    clippy::disallowed_methods,
    reason = "the variable of the snapshot library"
)]
fn matches_snapshot(name: &str, text: &str) {
    let path = project_root().join("tests/cli/help/snapshots").join(name);
    // snapbox does not create files that it compares with.
    if !path.exists() && std::env::var_os("SNAPSHOTS").is_some_and(|action| action == "overwrite") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
    }
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .eq(Data::text(text), Data::read_from(&path, None).raw());
}

/// Names of every visible command, with those of its parents.
fn command_paths() -> Vec<Vec<String>> {
    fn collect(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let mut path = path.to_vec();
            path.push(subcommand.get_name().to_owned());
            collect(subcommand, &path, found);
            found.push(path);
        }
    }
    let mut found = vec![Vec::new()];
    collect(&Cli::command(), &[], &mut found);
    found
}

#[test]
fn help_of_every_command_is_as_its_snapshot() {
    for path in command_paths() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let output = run(&args).expect_success();
        assert_eq!(output.stderr, "", "{args:?}");
        let name = path.join("-");
        let name = if name.is_empty() { "program" } else { &name };
        matches_snapshot(&format!("{name}.help.txt"), &output.stdout);
    }
}

#[test]
fn every_snapshot_of_help_has_a_command() {
    let known: Vec<String> = command_paths().iter().map(|path| path.join("-")).collect();
    let folder = project_root().join("tests/cli/help/snapshots");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(command) = name.strip_suffix(".help.txt") {
            let is_known = command == "program" || known.iter().any(|known| known == command);
            assert!(is_known, "{name} is of no command: remove it");
        }
    }
}

/// Errors, with the exit code that docs/CLI.md lists.
#[rstest]
#[case::no_command("no-command", 2, &[])]
#[case::unknown_command("unknown-command", 2, &["injct"])]
#[case::unknown_flag("unknown-flag", 2, &["inject", "--file", "a.yaml"])]
#[case::no_input("inject-no-input", 2, &["inject"])]
#[case::missing_file("inject-missing-file", 2, &["inject", "-f", "missing.yaml"])]
#[case::folder_without_manifests("inject-empty-folder", 2, &["inject", "-f", "empty"])]
#[case::broken_yaml("inject-broken", 2, &["inject", "-f", "broken.yaml"])]
#[case::refused("inject-refused", 1, &["inject", "-f", "refused.yaml"])]
#[case::wrong_format("scan-format", 2, &["scan", "-o", "xml"])]
#[case::no_cluster("scan-no-cluster", 2, &["scan"])]
#[case::no_cluster_for_doctor("doctor-no-cluster", 2, &["doctor"])]
#[case::no_certificate("serve-no-certificate", 2, &["serve"])]
#[case::key_alone("serve-key-alone", 2, &["serve", "--tls-key", "tls.key"])]
#[case::two_certificates("serve-two-certificates", 2, &["serve", "--tls-cert", "a", "--tls-key", "b", "--tls-secret", "c"])]
#[case::short_interval("controller-interval", 2, &["controller", "--drift-interval", "5ms"])]
#[case::no_names("controller-names", 2, &["controller", "--tls-secret", "tls"])]
#[case::no_admin_names("controller-admin-names", 2, &["controller", "--admin-tls-secret", "tls"])]
#[case::one_secret_for_two("controller-one-secret", 2, &["controller", "--tls-secret", "tls", "--tls-names", "a", "--admin-tls-secret", "tls", "--admin-dns-names", "b"])]
#[case::missing_config("config-missing", 2, &["inject", "-f", "refused.yaml", "--config", "missing.yaml"])]
#[case::bad_config("config-bad", 2, &["config", "check", "bad-config.yaml"])]
#[case::bad_config_of_a_command("config-bad-serve", 2, &["serve", "--config", "bad-config.yaml"])]
#[case::compile_missing_manifest("compile-missing", 2, &["compile", "missing.yaml"])]
#[case::compile_not_a_manifest("compile-not-a-manifest", 1, &["compile", "job.yaml"])]
#[case::check_without_folder("compile-check-alone", 2, &["compile", "job.yaml", "--check"])]
#[case::lint_without_input("lint-no-input", 2, &["lint"])]
#[case::lint_missing_file("lint-missing-file", 2, &["lint", "missing.yaml"])]
#[case::lint_findings("lint-findings", 1, &["lint", "refused.yaml"])]
#[case::explain_without_object("explain-no-object", 2, &["explain"])]
#[case::explain_other_kind("explain-kind", 2, &["explain", "node/a"])]
#[case::explain_no_cluster("explain-no-cluster", 2, &["explain", "pod/a"])]
#[case::rotation_without_secret("rotation-no-secret", 2, &["rotation"])]
#[case::rotation_long_wait("rotation-wait", 2, &["rotation", "secret/db", "--wait", "2562047788015215h"])]
#[case::rotation_no_cluster("rotation-no-cluster", 2, &["rotation", "secret/db"])]
#[case::unknown_shell("completions-shell", 2, &["completions", "cmd"])]
#[case::man_into_a_file("man-file", 2, &["man", "--out", "broken.yaml/man"])]
fn errors_are_as_their_snapshots(#[case] name: &str, #[case] code: i32, #[case] args: &[&str]) {
    let output = run(args);
    assert_eq!(output.code, code, "{}", output.text());
    assert!(!output.text().contains("hunter2"), "{}", output.text());
    let text = format!(
        "$ floe-secrets-webhook {}\nexit code {code}\n--- standard output\n{}--- standard error\n{}",
        args.join(" "),
        output.stdout,
        output.stderr
    );
    matches_snapshot(&format!("{name}.error.txt"), &text);
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    run(&["man", "--out", out.to_str().unwrap()]).expect_success();
    for path in command_paths() {
        let mut name = vec!["floe-secrets-webhook".to_owned()];
        name.extend(path.clone());
        let page = std::fs::read_to_string(out.join(format!("{}.1", name.join("-")))).unwrap();
        assert!(page.starts_with(".ie"), "{name:?} is not a page: {page}");
        assert!(page.contains(".SH SYNOPSIS"), "{name:?}");
    }
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
#[case("powershell")]
#[case("elvish")]
fn completion_script_has_every_command(#[case] shell: &str) {
    let script = run(&["completions", shell]).expect_success().stdout;
    for path in command_paths().iter().filter(|path| path.len() == 1) {
        // Words of the script; a part of a longer word, such as "inject" in "injection", is no command.
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let mut words = script.split(|c| !is_part(c));
        assert!(words.any(|word| word == path[0]), "{shell}: {path:?}");
    }
    assert!(!script.contains("__complete"), "{shell}: hidden command");
}

#[test]
fn bash_accepts_the_completion_script() {
    let script = run(&["completions", "bash"]).expect_success().stdout;
    let mut bash = Command::new("bash");
    bash.args(["-n", "-s"]);
    CommandOutput::run(bash, &script).expect_success();
}

/// Folder of a new name, for programs that are called by another name.
fn link_as(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join(name);
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_floe-secrets-webhook")), &link)
        .unwrap();
    (folder, link)
}

#[test]
fn usage_and_examples_have_the_plugins_name() {
    let (_folder, link) = link_as("kubectl-floe_secrets");
    for path in command_paths() {
        let mut command = Command::new(&link);
        command.args(&path).arg("--help");
        let help = CommandOutput::run(command, "").expect_success().stdout;
        assert!(
            help.contains("Usage: kubectl floe-secrets"),
            "{path:?}: {help}"
        );
        assert!(
            !help.contains("  floe-secrets-webhook "),
            "{path:?}: {help}"
        );
    }
    let mut command = Command::new(&link);
    command.arg("--version");
    let version = CommandOutput::run(command, "").expect_success().stdout;
    assert!(version.starts_with("kubectl floe-secrets "), "{version}");
}
