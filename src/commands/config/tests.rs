//! Settings, schema and documentation, compared with the arguments of all commands.
#![cfg(feature = "cluster")]

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use regex::Regex;
use rstest::rstest;

use super::*;
use crate::commands::Cli;
use crate::config::{ConfigFile, SECTIONS, check_values};

/// Flags with a variable that are no settings of the file.
const NO_SETTINGS: [&str; 1] = ["config"];

#[test]
fn every_argument_with_a_variable_is_a_setting() {
    let command = Cli::command();
    for subcommand in command.get_subcommands() {
        for argument in subcommand
            .get_arguments()
            .filter(|arg| arg.get_env().is_some())
        {
            let id = argument.get_id().as_str();
            let is_setting = SECTIONS
                .iter()
                .flat_map(|section| section.settings)
                .any(|setting| {
                    setting
                        .argument_of(subcommand)
                        .is_some_and(|arg| arg.get_id() == id)
                });
            assert!(
                is_setting || NO_SETTINGS.contains(&id),
                "--{id} of {} has a variable but no row in src/config/sections.rs",
                subcommand.get_name()
            );
        }
    }
}

#[test]
fn every_setting_has_an_argument_with_a_variable() {
    let command = Cli::command();
    for section in SECTIONS {
        for setting in section.settings {
            let arguments: Vec<_> = command
                .get_subcommands()
                .filter_map(|subcommand| setting.argument_of(subcommand))
                .collect();
            let path = section.path(setting);
            assert!(!arguments.is_empty(), "{path} is a setting of no command");
            assert!(
                arguments.iter().all(|arg| arg.get_env().is_some()),
                "{path}"
            );
        }
    }
}

/// Table of docs/CONFIGURATION.md.
fn table() -> String {
    let command = Cli::command();
    let mut table =
        "| Setting | Flag | Environment | Commands | Changes apply |\n|---|---|---|---|---|\n"
            .to_owned();
    for section in SECTIONS {
        for setting in section.settings {
            let with: Vec<_> = command
                .get_subcommands()
                .filter_map(|sub| Some((sub.get_name(), setting.argument_of(sub)?)))
                .collect();
            let commands: Vec<_> = with.iter().map(|(name, _)| *name).collect();
            let argument = with[0].1;
            let live = match setting.live_in {
                [] => "at start".to_owned(),
                servers => format!("live in {}", servers.join(", ")),
            };
            writeln!(
                table,
                "| `{}` | `--{}` | `{}` | {} | {live} |",
                section.path(setting),
                argument.get_long().unwrap(),
                argument.get_env().unwrap().to_string_lossy(),
                commands.join(", "),
            )
            .unwrap();
        }
    }
    table
}

#[test]
fn documentation_has_every_setting() {
    let page = include_str!("../../../docs/CONFIGURATION.md");
    let table = table();
    assert!(
        page.contains(&table),
        "docs/CONFIGURATION.md needs this table:\n{table}"
    );
}

/// Whether a value satisfies the keywords that the schema uses.
fn satisfies(schema: &Value, value: &Value) -> bool {
    let number = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let count = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let is_type = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        other => panic!("unknown type {other}"),
    };
    if !types.iter().any(is_type) {
        return false;
    }
    match value {
        Value::Object(map) => map.iter().all(|(key, value)| {
            let property = schema["properties"].get(key);
            property.is_some_and(|schema| satisfies(schema, value))
        }),
        Value::Array(items) => {
            count("maxItems").is_none_or(|max| items.len() as u64 <= max)
                && items.iter().all(|item| satisfies(&schema["items"], item))
        }
        Value::String(text) => {
            let pattern = schema.get("pattern").and_then(Value::as_str);
            let length = text.chars().count() as u64;
            let choices = schema.get("enum").and_then(Value::as_array);
            pattern.is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(text))
                && count("minLength").is_none_or(|min| length >= min)
                && count("maxLength").is_none_or(|max| length <= max)
                && choices.is_none_or(|choices| choices.contains(value))
        }
        Value::Number(value) => {
            let value = value.as_f64().unwrap();
            number("minimum").is_none_or(|min| value >= min)
                && number("maximum").is_none_or(|max| value <= max)
        }
        _ => true,
    }
}

#[rstest]
#[case("", true)]
#[case("serve:", true)]
#[case(
    "serve: {listen: '0.0.0.0:8443', workerThreads: 64, trustedCallers: true}",
    true
)]
#[case("tracing: {endpoint: 'http://c:4318', ratio: 0.5, ca: /ca.pem}", true)]
#[case(
    "tls: {secret: s, names: [a.b.svc, c], validity: 2160h, caGrace: 1m30s}",
    true
)]
#[case("log: {format: pretty, filter: 'info,hyper=debug'}", true)]
#[case("serve: {listen: '[::]:8443', opsListen: '127.0.0.1:65535'}", true)]
#[case("serve: {drainTimeout: 30s1.5m}", true)]
#[case("serve: {drainTimeout: 5µs}", true)]
#[case("serve: {drainTimeout: 5μs}", true)]
#[case("injection: {sidecarContainers: [], onUnavailable: admit}", true)]
#[case("- serve", false)]
#[case("server: {}", false)]
#[case("serve: []", false)]
#[case("serve: {listen: 8443}", false)]
#[case("serve: {listen: nowhere}", false)]
#[case("serve: {listen: 'localhost:8443'}", false)]
#[case("serve: {listen: '256.0.0.1:8443'}", false)]
#[case("serve: {listen: '127.0.0.1:65536'}", false)]
#[case("serve: {workerThreads: 0}", false)]
#[case("serve: {workerThreads: '4'}", false)]
#[case("serve: {workerThreads: 65}", false)]
#[case("serve: {trustedCallers: 1}", false)]
#[case("serve: {drainTimeout: 20}", false)]
#[case("serve: {drainTimeout: soon}", false)]
#[case("serve: {drainTimeout: 1m 30s}", false)]
#[case("serve: {drainTimeout: -5s}", false)]
#[case("serve: {drainTimeout: .5s}", false)]
#[case("serve: {drainTimeout: PT5M}", false)]
#[case("tracing: {ratio: 1.5}", false)]
#[case("tls: {cert: ''}", false)]
#[case("tls: {cert: ~}", false)]
#[case("log: {format: xml}", false)]
#[case("injection: {onUnavailable: maybe}", false)]
#[case("injection: {namespaces: a}", false)]
#[case("injection: {namespaces: ['a,b']}", false)]
#[case("injection: {namespaces: [1]}", false)]
fn schema_and_parser_agree(#[case] text: &str, #[case] is_valid: bool) {
    schema_and_parser_agree_about(text, is_valid);
}

fn schema_and_parser_agree_about(text: &str, is_valid: bool) {
    let command = Cli::command();
    let check = |file: &ConfigFile| check_values(&command, file);
    let parsed = ConfigFile::parse(&"c".into(), text.as_bytes(), &check).is_ok();
    assert_eq!(parsed, is_valid, "parser");
    let value: Value = serde_saphyr::from_str::<Option<Value>>(text)
        .unwrap()
        .unwrap_or(Value::Null);
    assert_eq!(satisfies(&schema(&command), &value), is_valid, "schema");
}

#[rstest]
#[case('x', 4096, true)]
#[case('é', 4096, true)]
#[case('é', 4097, false)]
fn schema_and_parser_count_characters(
    #[case] character: char,
    #[case] count: usize,
    #[case] is_valid: bool,
) {
    let text: String = std::iter::repeat_n(character, count).collect();
    schema_and_parser_agree_about(&format!("kubernetes: {{context: {text}}}"), is_valid);
}

/// Values of which a parser quotes a part, or the flag.
#[rstest]
#[case("injection: {sidecarContainers: ['a@hunter2 b']}")]
#[case("injection: {sidecarContainers: ['hunter2 b']}")]
#[case(&format!("injection: {{secretNamePattern: hunter2{}}}", "x".repeat(300)))]
#[case(&format!("injection: {{namespaceSelector: '{}{}hunter2'}}", "a,".repeat(2020), "é".repeat(40)))]
#[case("injection: {onUnavailable: hunter2}")]
#[case("serve: {workerThreads: 65}")]
#[case("serve: {listen: 'hunter2:65'}")]
#[case("log: {filter: 'info,=,hunter2'}")]
#[case("tracing: {endpoint: 'http://u:hunter2@c'}")]
#[case("controller: {leaseDuration: 65h}")]
fn message_has_the_form_of_the_setting_and_no_part_of_the_value(#[case] text: &str) {
    let command = Cli::command();
    let check = |file: &ConfigFile| check_values(&command, file);
    let errors = ConfigFile::parse(&"c".into(), text.as_bytes(), &check).unwrap_err();
    let message = errors[0].to_string();
    assert!(
        message.contains(": the value is not valid: expected "),
        "{message}"
    );
    for hidden in ["hunter2", "65", "--"] {
        assert!(!message.contains(hidden), "{message}");
    }
}

#[test]
fn documentation_has_the_maximum_of_durations() {
    let page = include_str!("../../../docs/CONFIGURATION.md");
    let hours = crate::cli::values::MAX_DURATION.as_secs() / 3600;
    assert!(page.contains(&format!("| duration | {hours}h (10 years) |")));
}

#[test]
fn missing_file_is_reported_by_its_name() {
    let errors = read_file(&Cli::command(), Path::new("/nonexistent/c.yaml")).unwrap_err();
    assert!(
        errors[0]
            .to_string()
            .starts_with("/nonexistent/c.yaml: the file cannot be read")
    );
}
