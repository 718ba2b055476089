//! Examples and exit codes of the help, and the table of docs/CLI.md.

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use floe_secrets_webhook::commands::Cli;
use testbed::tools::project_root;

use super::command_paths;

/// Help after the options of a command.
fn after_help(path: &[String]) -> String {
    let mut command = Cli::command();
    for name in path {
        command = command.find_subcommand(name).unwrap().clone();
    }
    let help = command.get_after_help().map(ToString::to_string);
    help.unwrap_or_else(|| panic!("{path:?} has no examples: add after_help"))
}

#[test]
fn every_command_has_examples_that_parse() {
    for path in command_paths() {
        let help = after_help(&path);
        let lines: Vec<&str> = help
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("floe-secrets-webhook "))
            .collect();
        assert!(help.starts_with("Examples:"), "{path:?}: {help}");
        assert!(!lines.is_empty(), "{path:?} has no example");
        for line in lines {
            let command = line.split(['|', '>']).next().unwrap();
            let words: Vec<String> = command
                .split_whitespace()
                .map(|word| word.trim_matches(['\'', '"']).to_owned())
                .collect();
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                let is_help = error.kind() == clap::error::ErrorKind::DisplayHelp;
                assert!(is_help, "{line}: {error}");
            }
        }
    }
}

/// Exit codes of a line such as `Exit codes: 0 done; 1 refused.`
fn exit_codes(help: &str) -> Option<BTreeMap<String, String>> {
    let line = help
        .lines()
        .find_map(|line| line.strip_prefix("Exit codes: "))?;
    let codes = line.trim_end_matches('.').split("; ");
    let code = |text: &str| {
        let (code, meaning) = text.split_once(' ').unwrap();
        (code.to_owned(), meaning.to_owned())
    };
    Some(codes.map(code).collect())
}

#[test]
fn table_of_exit_codes_has_what_the_help_has() {
    let page = std::fs::read_to_string(project_root().join("docs/CLI.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [command, meanings @ ..] = &cells[..]
            && meanings.len() == 4
        {
            let codes = (0..)
                .zip(meanings)
                .filter(|(_, meaning)| !meaning.is_empty())
                .map(|(code, meaning): (u8, &&str)| (code.to_string(), (*meaning).to_owned()));
            rows.insert(command.trim_matches('`').to_owned(), codes.collect());
        }
    }
    for path in command_paths().iter().filter(|path| path.len() == 1) {
        let codes = exit_codes(&after_help(path));
        let codes = codes.unwrap_or_else(|| panic!("{path:?}: its help has no line of exit codes"));
        assert_eq!(
            rows.remove(&path[0]),
            Some(codes),
            "docs/CLI.md, row of {path:?}"
        );
    }
    assert!(rows.is_empty(), "rows of no command: {rows:?}");
}
