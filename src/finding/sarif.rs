//! Findings as SARIF 2.1.0: the subset that code scanners read.

use std::io::{self, Write};

use serde::Serialize;

use super::{FileFinding, FindingSeverity, Rule, artifact, fingerprint, help};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

#[derive(Serialize)]
struct SarifLog<'f> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'f>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'f> {
    tool: Tool,
    column_kind: &'static str,
    results: Vec<SarifResult<'f>>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    semantic_version: &'static str,
    rules: Vec<ReportingDescriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportingDescriptor {
    id: &'static str,
    short_description: Message<'static>,
    help: Message<'static>,
    properties: RuleProperties,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RuleProperties {
    tags: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    security_severity: Option<&'static str>,
}

#[derive(Serialize)]
struct Message<'f> {
    text: std::borrow::Cow<'f, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult<'f> {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Message<'f>,
    locations: [Location<'f>; 1],
    partial_fingerprints: PartialFingerprints,
}

/// Fingerprint under a name with its version: a change of its rule needs another one.
#[derive(Serialize)]
struct PartialFingerprints {
    #[serde(rename = "floeSecrets/v1")]
    fingerprint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location<'f> {
    physical_location: PhysicalLocation,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logical_locations: Vec<LogicalLocation<'f>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation<'f> {
    fully_qualified_name: &'f str,
}

pub(super) fn write(findings: &[FileFinding], out: &mut dyn Write) -> io::Result<()> {
    let results = findings
        .iter()
        .zip(fingerprint::all(findings))
        .map(|(finding, fingerprint)| result(finding, fingerprint))
        .collect();
    let log = SarifLog {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: Tool { driver: driver() },
            column_kind: "unicodeCodePoints",
            results,
        }],
    };
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}

fn driver() -> Driver {
    Driver {
        name: "floe-secrets-webhook",
        semantic_version: env!("CARGO_PKG_VERSION"),
        rules: Rule::ALL.iter().map(|rule| descriptor(*rule)).collect(),
    }
}

fn descriptor(rule: Rule) -> ReportingDescriptor {
    let is_secret = matches!(rule, Rule::LiteralSecret | Rule::SecretPrinted);
    ReportingDescriptor {
        id: rule.id(),
        short_description: Message {
            text: rule.summary().into(),
        },
        help: Message {
            text: format!("{} Described in {}.", rule.summary(), help::page(rule)).into(),
        },
        properties: RuleProperties {
            tags: if is_secret { &["security"] } else { &[] },
            // Scanners sort by this number; 8.0 is their "high".
            security_severity: is_secret.then_some("8.0"),
        },
    }
}

fn result(finding: &FileFinding, fingerprint: String) -> SarifResult<'_> {
    let place = &finding.place;
    let field = (!place.field.is_empty()).then_some(LogicalLocation {
        fully_qualified_name: &place.field,
    });
    SarifResult {
        rule_id: finding.rule.id(),
        rule_index: Rule::ALL
            .iter()
            .position(|rule| *rule == finding.rule)
            .unwrap_or_default(),
        level: match finding.severity {
            FindingSeverity::Error => "error",
            FindingSeverity::Warning => "warning",
        },
        message: Message {
            text: finding.message.as_str().into(),
        },
        locations: [Location {
            physical_location: PhysicalLocation {
                artifact_location: ArtifactLocation {
                    uri: artifact::uri(&place.file),
                },
                region: place.position.map(|at| Region {
                    start_line: at.line,
                    start_column: at.column,
                }),
            },
            logical_locations: field.into_iter().collect(),
        }],
        partial_fingerprints: PartialFingerprints { fingerprint },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::test_support::finding;

    #[test]
    fn log_has_rules_locations_and_fingerprints() {
        let mut out = Vec::new();
        write(&[finding("a b.yaml", 3)], &mut out).unwrap();
        let log: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let run = &log["runs"][0];
        let result = &run["results"][0];
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(
            run["tool"]["driver"]["rules"][index]["id"],
            result["ruleId"]
        );
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["artifactLocation"]["uri"], "a%20b.yaml");
        assert_eq!(location["region"]["startLine"], 3);
        assert!(result["partialFingerprints"]["floeSecrets/v1"].is_string());
    }
}
