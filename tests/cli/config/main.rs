//! The configuration file as the built program reads it: precedence, places of problems, reload while serving.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not recognise"
)]

mod reload;

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;
use testbed::command_output::CommandOutput;
use testbed::tools::project_root;

/// Runs the program in a folder with the file `c.yaml`.
fn run(file: &str, args: &[&str], environment: &[(&str, &str)]) -> CommandOutput {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("c.yaml"), file).unwrap();
    run_in(folder.path(), args, environment)
}

fn run_in(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOE_SECRETS_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .current_dir(folder)
        .env("KUBECONFIG", folder.join("none"))
        .envs(environment.iter().copied());
    CommandOutput::run(command, "")
}

/// Value and origin of a setting, as `config show` prints it for `serve`.
fn shown(file: &str, path: &str, more: &[&str], environment: &[(&str, &str)]) -> (Value, String) {
    let mut args = vec![
        "config", "show", "--origin", "-o", "json", "--config", "c.yaml",
    ];
    args.push("serve");
    args.extend(more);
    let output = run(file, &args, environment).expect_success();
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    let settings = all["settings"].as_array().unwrap();
    let row = settings.iter().find(|row| row["setting"] == path).unwrap();
    (
        row["value"].clone(),
        row["origin"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn flag_overrides_environment_and_file_and_default() {
    let file = "serve: {listen: '127.0.0.1:3'}\n";
    let environment = [("FLOE_SECRETS_LISTEN", "127.0.0.1:2")];
    let path = "serve.listen";
    let value =
        |(value, origin): (Value, String)| format!("{} by {origin}", value.as_str().unwrap());
    assert_eq!(
        value(shown(
            file,
            path,
            &["--listen", "127.0.0.1:1"],
            &environment
        )),
        "127.0.0.1:1 by flag --listen"
    );
    assert_eq!(
        value(shown(file, path, &[], &environment)),
        "127.0.0.1:2 by environment FLOE_SECRETS_LISTEN"
    );
    assert_eq!(
        value(shown(file, path, &[], &[])),
        "127.0.0.1:3 by file c.yaml:1:17"
    );
    assert_eq!(value(shown("", path, &[], &[])), "0.0.0.0:8443 by default");
}

#[rstest]
#[case::list(
    "injection.exemptNamespaces",
    "injection: {exemptNamespaces: [a, b]}",
    "a,b"
)]
#[case::sidecars(
    "injection.sidecarContainers",
    "injection: {sidecarContainers: [x]}",
    "x"
)]
#[case::boolean("injection.intoTemplates", "injection: {intoTemplates: true}", "true")]
#[case::false_boolean("serve.trustedCallers", "serve: {trustedCallers: no}", "false")]
#[case::number("serve.workerThreads", "serve: {workerThreads: 8}", "8")]
#[case::ratio("tracing.ratio", "tracing: {ratio: 0.25}", "0.25")]
#[case::whole_ratio("tracing.ratio", "tracing: {ratio: 1}", "1")]
#[case::duration("serve.drainTimeout", "serve: {drainTimeout: 1m30s}", "1m30s")]
#[case::choice(
    "injection.onUnavailable",
    "injection: {onUnavailable: admit}",
    "admit"
)]
#[case::format("log.format", "log: {format: pretty}", "pretty")]
fn file_sets_every_type(#[case] path: &str, #[case] file: &str, #[case] expected: &str) {
    let (value, origin) = shown(file, path, &[], &[]);
    assert_eq!(value.as_str(), Some(expected));
    assert!(origin.starts_with("file c.yaml:1:"), "{origin}");
}

#[test]
fn empty_list_of_the_file_replaces_the_default() {
    let file = "injection: {sidecarContainers: []}";
    let (value, origin) = shown(file, "injection.sidecarContainers", &[], &[]);
    assert_eq!(value, Value::Null);
    assert_eq!(origin, "file c.yaml:1:32");
}

#[test]
fn flag_turns_off_what_the_file_turns_on() {
    let file = "injection: {intoTemplates: true}";
    let (value, origin) = shown(
        file,
        "injection.intoTemplates",
        &["--workloads-inject-template=false"],
        &[],
    );
    assert_eq!(
        (value.as_str(), origin.as_str()),
        (Some("false"), "flag --workloads-inject-template")
    );
}

#[test]
fn flag_for_one_source_of_the_certificate_replaces_those_of_the_file() {
    let file = "tls: {secret: stored}";
    let flags = ["--tls-cert", "c", "--tls-key", "k"];
    let (value, origin) = shown(file, "tls.secret", &flags, &[]);
    assert_eq!((value, origin.as_str()), (Value::Null, "default"));
    let (value, _) = shown(file, "tls.secret", &[], &[]);
    assert_eq!(value.as_str(), Some("stored"));
}

#[test]
fn settings_of_the_file_count_as_given() {
    // With a certificate from the file, the next problem is the cluster's.
    let output = run(
        "tls: {secret: stored}\nkubernetes: {kubeconfig: missing-kubeconfig}\n",
        &["serve", "--config", "c.yaml"],
        &[],
    );
    assert_eq!(output.code, 1, "{}", output.text());
    assert!(
        output.text().contains("missing-kubeconfig"),
        "{}",
        output.text()
    );
}

#[test]
fn environment_names_the_file() {
    let output = run(
        "log: {filters: x}\n",
        &["inject", "-f", "x"],
        &[("FLOE_SECRETS_CONFIG", "c.yaml")],
    );
    assert_eq!(output.code, 2);
    assert_eq!(
        output.stderr,
        "error: c.yaml:1:7: log.filters: unknown setting; did you mean \"filter\"?\n"
    );
}

#[test]
fn values_are_checked_by_the_parsers_of_flags_and_never_quoted() {
    let file = "\
serve:
  listen: hunter2:x
  drainTimeout: hunter2
  workerThreads: 65
injection:
  onUnavailable: hunter2
  sidecarContainers: [a, 'hunter2 b']
  namespaceSelector: hunter2 of (a)
controller:
  leaseDuration: 1s
  driftInterval: 5ms
tracing:
  endpoint: http://user:hunter2@collector
  ratio: 2
log: {format: hunter2}
";
    let output = run(file, &["config", "check", "c.yaml"], &[]);
    assert_eq!(output.code, 2);
    assert!(!output.text().contains("hunter2"), "{}", output.text());
    let places: Vec<&str> = output
        .stderr
        .lines()
        .map(|line| line.strip_prefix("error: ").unwrap())
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    let expected = [
        "serve.listen",
        "serve.drainTimeout",
        "serve.workerThreads",
        "injection.onUnavailable",
        "injection.sidecarContainers",
        "injection.namespaceSelector",
        "controller.leaseDuration",
        "controller.driftInterval",
        "tracing.endpoint",
        "tracing.ratio",
        "log.format",
    ];
    assert_eq!(places, expected, "{}", output.stderr);
    for line in output.stderr.lines() {
        assert!(!line.contains("--"), "a field is named, not a flag: {line}");
    }
}

#[rstest]
#[case::help(&["serve", "--help"], 0)]
#[case::serve(&["serve"], 2)]
#[case::controller(&["controller"], 2)]
#[case::show(&["config", "show", "--origin", "serve"], 2)]
#[case::show_all(&["config", "show", "--origin"], 2)]
fn password_in_the_collectors_variable_is_never_printed(#[case] args: &[&str], #[case] code: i32) {
    let variable = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hunter2@c");
    let output = run("", args, &[variable]);
    assert_eq!(output.code, code, "{}", output.text());
    assert!(output.text().contains("--otlp-endpoint"));
    assert!(!output.text().contains("hunter2"), "{}", output.text());
}

#[test]
fn password_in_the_collectors_flag_is_never_printed() {
    let output = run("", &["serve", "--otlp-endpoint=http://u:hunter2@c"], &[]);
    assert_eq!(output.code, 2, "{}", output.text());
    let expected = "invalid value '…' for '--otlp-endpoint <URL>'";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    assert!(!output.text().contains("hunter2"), "{}", output.text());
}

#[rstest]
#[case(&["srve"], &[], "unrecognized subcommand 'srve'")]
#[case(&["serve"], &[("FLOE_SECRETS_LISTEN", "bad")], "invalid value 'bad' for '--listen")]
#[case(&["serve", "--listen", "bad", "--drain-timeout", "5s"], &[], "invalid value 'bad' for '--listen")]
#[case(&["serve", "--lisen=x"], &[], "unexpected argument '--lisen'")]
#[case(&["inject", "--listen=127.0.0.1:1"], &[], "unexpected argument '--listen'")]
fn show_rejects_wrong_arguments(
    #[case] command: &[&str],
    #[case] environment: &[(&str, &str)],
    #[case] expected: &str,
) {
    let args = [&["config", "show", "--config", "c.yaml"], command].concat();
    for file in ["", "serve: {drainTimeout: 1s}"] {
        let output = run(file, &args, environment);
        assert_eq!(output.code, 2, "{}", output.text());
        assert_eq!(output.stdout, "");
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}

#[test]
fn show_prints_help_of_the_command() {
    let output = run("", &["config", "show", "serve", "--help"], &[]).expect_success();
    assert!(
        output.stdout.contains("--drain-timeout"),
        "{}",
        output.stdout
    );
}

#[test]
fn show_does_not_need_required_arguments() {
    let file = "injection: {sidecarContainers: [x]}";
    let args = ["config", "show", "--config", "c.yaml", "inject"];
    let output = run(file, &args, &[]).expect_success();
    assert!(
        output.stdout.contains("injection.sidecarContainers"),
        "{}",
        output.stdout
    );
}

#[rstest]
#[case(
    "tls: {cert: a, key: b, secret: c}",
    "c.yaml:1:32: tls.secret: it cannot be used with tls.cert and tls.key"
)]
#[case(
    "log: {filter: 'info,=,hunter2'}",
    "c.yaml:1:15: log.filter: the value is not valid"
)]
fn file_that_serve_cannot_start_with_is_refused(#[case] file: &str, #[case] expected: &str) {
    for args in [
        &["config", "check", "c.yaml"][..],
        &["serve", "--config", "c.yaml"],
    ] {
        let output = run(file, args, &[]);
        assert_eq!(output.code, 2, "{}", output.text());
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
}

#[test]
fn duration_that_would_overflow_is_refused() {
    let long = "2562047788015215h";
    for args in [
        &["rotation", "secret/db", "--wait", long][..],
        &["serve", "--drain-timeout", long],
        &["controller", "--tls-validity", long],
    ] {
        let output = run("", args, &[]);
        assert_eq!(output.code, 2, "{}", output.text());
        let expected = "is too long; the most is 87600h (10 years)";
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}

#[test]
fn server_refuses_a_pipe_and_other_commands_read_it() {
    let folder = TempDir::new().unwrap();
    let made = Command::new("mkfifo")
        .arg(folder.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let output = run_in(folder.path(), &["serve", "--config", "pipe"], &[]);
    assert_eq!(output.code, 2, "{}", output.text());
    let expected = "error: pipe: this is not a regular file";
    assert!(output.stderr.starts_with(expected), "{}", output.stderr);

    let with_pipe = |arguments: &str| {
        let mut shell = Command::new("bash");
        let script = format!("\"$0\" config {arguments} <(echo 'log: {{filter: trace}}')");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_floe-secrets-webhook")]);
        CommandOutput::run(shell, "").expect_success().stdout
    };
    let checked = with_pipe("check");
    assert!(checked.contains("1 setting, valid"), "{checked}");
    let shown = with_pipe("show --config");
    let row = shown.lines().find(|row| row.starts_with("log.filter"));
    let row = row.unwrap();
    assert!(
        row.contains("serve,controller") && row.ends_with("trace"),
        "{shown}"
    );
}

#[test]
fn keys_of_the_file_have_no_control_characters_on_the_terminal() {
    let output = run(
        "\"\\e[31mred\\nline\": 1\n",
        &["config", "check", "c.yaml"],
        &[],
    );
    assert_eq!(output.code, 2);
    assert!(!output.stderr.contains('\u{1b}'), "{:?}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}

#[test]
fn settings_of_all_commands_are_shown_once() {
    let output = run("", &["config", "show", "--origin"], &[]).expect_success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("SETTING"), "{}", output.stdout);
    let of =
        |path: &str| -> Vec<&&str> { lines.iter().filter(|line| line.starts_with(path)).collect() };
    assert_eq!(of("serve.listen ").len(), 1);
    let polls = of("tls.poll ");
    assert_eq!(
        polls.len(),
        2,
        "the defaults of serve and controller differ: {polls:?}"
    );
    let yaml = run("", &["config", "show", "-o", "yaml"], &[]).expect_success();
    assert!(yaml.stdout.starts_with("settings:"), "{}", yaml.stdout);
}

#[test]
fn checked_schema_is_that_of_the_program() {
    let path = project_root().join("schemas/config.json");
    let current = run("", &["config", "schema"], &[]).expect_success().stdout;
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .eq(current, snapbox::Data::read_from(&path, None).raw());
}

#[test]
fn example_of_the_documentation_is_valid() {
    let page = std::fs::read_to_string(project_root().join("docs/CONFIGURATION.md")).unwrap();
    let mut examples = page.split("```yaml\n").skip(1).peekable();
    assert!(examples.peek().is_some());
    for example in examples {
        let text = example.split("```").next().unwrap();
        run(text, &["config", "check", "c.yaml"], &[]).expect_success();
    }
}
