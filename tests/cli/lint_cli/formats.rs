//! Output formats, and the programs that read them.

use std::process::Command;

use regex::Regex;
use serde_json::Value;
use testbed::command_output::CommandOutput;

use crate::{folder, lint, provided, repository};

const ALL: [&str; 3] = ["-R", "-f", "manifests"];

fn printed(format: &str) -> String {
    let repository = folder(&repository());
    let output = lint(repository.path(), &[&ALL[..], &["-o", format]].concat(), "");
    assert_eq!(output.code, 1, "{}", output.text());
    output.stdout
}

#[test]
fn text_has_place_message_rule_and_masked_line() {
    let text = printed("text");
    for expected in [
        "manifests/etl/deployment.yaml:9:5: error: Deployment \"etl\" in namespace \"jobs\": annotation secrets.floe.dev/envfrom of the pod's workload: unknown annotation",
        "manifests/etl/job, nightly.yaml:10:9: error: Job \"load\" in namespace \"jobs\": secret \"warehouse-prod-credentials\" in namespace \"jobs\" has no key \"password\"",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(
        text.contains("     9 |     secrets.floe.dev/envfrom: …\n"),
        "{text}"
    );
    assert!(
        text.contains(" [annotation]\n") && text.contains(" [secret-missing]\n"),
        "{text}"
    );
}

#[test]
fn sarif_is_valid_by_the_schema_of_oasis() {
    let sarif = printed("sarif");
    let file = folder(&[("lint.sarif", sarif.as_bytes())]);
    let mut check = Command::new(provided("python.sh", &["path", "check-jsonschema"]));
    check
        .args(["--schemafile", &provided("sarif.sh", &[])])
        .arg(file.path().join("lint.sarif"));
    CommandOutput::run(check, "").expect_success();

    let log: Value = serde_json::from_str(&sarif).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let uris: Vec<&str> = results
        .iter()
        .map(|result| {
            let location = &result["locations"][0]["physicalLocation"];
            location["artifactLocation"]["uri"].as_str().unwrap()
        })
        .collect();
    assert!(
        uris.contains(&"manifests/etl/job%2C%20nightly.yaml"),
        "{uris:?}"
    );
    assert!(
        uris.iter().all(|uri| uri.starts_with("manifests/")),
        "{uris:?}"
    );
}

#[test]
fn sarif_without_findings_is_valid_too() {
    let repository = folder(&repository());
    let output = lint(
        repository.path(),
        &["-f", "settings.yaml", "-o", "sarif"],
        "",
    );
    assert_eq!(output.code, 0, "{}", output.text());
    let file = folder(&[("lint.sarif", output.stdout.as_bytes())]);
    let mut check = Command::new(provided("python.sh", &["path", "check-jsonschema"]));
    check
        .args(["--schemafile", &provided("sarif.sh", &[])])
        .arg(file.path().join("lint.sarif"));
    CommandOutput::run(check, "").expect_success();
}

#[test]
fn fingerprints_survive_moved_lines_and_other_spellings_of_the_path() {
    let fingerprints = |files: &[(&str, String)], path: &str| {
        let repository = folder(files);
        let output = lint(repository.path(), &["-R", "-f", path, "-o", "json"], "");
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        assert!(!findings.is_empty());
        let all = findings
            .iter()
            .map(|finding| finding["fingerprint"].to_string());
        all.collect::<std::collections::BTreeSet<_>>()
    };
    let before = repository();
    let after: Vec<(&str, String)> = before
        .iter()
        .map(|(name, text)| (*name, format!("# a comment\n\n{text}")))
        .collect();
    assert_eq!(
        fingerprints(&before, "manifests"),
        fingerprints(&after, "./manifests/")
    );
}

#[test]
fn github_commands_follow_their_grammar() {
    let grammar = Regex::new(
        r"^::(error|warning) file=[^,:\r\n]+,line=[1-9][0-9]*,col=[1-9][0-9]*,title=[a-z-]+::[^\r\n]+$",
    )
    .unwrap();
    let commands = printed("github");
    assert!(commands.lines().count() >= 3, "{commands}");
    for line in commands.lines() {
        assert!(grammar.is_match(line), "{line}");
    }
    assert!(
        commands.contains("file=manifests/etl/job%2C nightly.yaml,"),
        "{commands}"
    );
}

#[test]
fn json_has_the_documented_fields() {
    let report: Value = serde_json::from_str(&printed("json")).unwrap();
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&report), ["version", "findings", "summary"]);
    let finding = &report["findings"][0];
    assert_eq!(
        names(finding),
        [
            "rule",
            "severity",
            "file",
            "line",
            "column",
            "field",
            "message",
            "excerpt",
            "help",
            "fingerprint"
        ]
    );
    let help = finding["help"].as_str().unwrap();
    assert!(help.starts_with("docs/LINT.md#"), "{help}");
    let errors = report["summary"]["errors"].as_u64().unwrap();
    assert!(errors >= 2, "{report}");
}
