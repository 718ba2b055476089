//! Findings as one JSON document. Its fields are described in docs/LINT.md; fields are added, never renamed.

use std::io::{self, Write};

use serde::Serialize;

use super::counts::FindingCounts;
use super::{FileFinding, fingerprint, help};

/// Version of the document's shape.
const VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonReport<'f> {
    version: u32,
    findings: Vec<JsonFinding<'f>>,
    summary: FindingCounts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonFinding<'f> {
    rule: &'static str,
    severity: &'static str,
    file: &'f str,
    line: Option<usize>,
    column: Option<usize>,
    field: &'f str,
    message: &'f str,
    excerpt: Option<&'f str>,
    help: String,
    fingerprint: String,
}

pub(super) fn write(
    findings: &[FileFinding],
    counts: FindingCounts,
    out: &mut dyn Write,
) -> io::Result<()> {
    let fingerprints = fingerprint::all(findings);
    let report = JsonReport {
        version: VERSION,
        summary: counts,
        findings: findings
            .iter()
            .zip(fingerprints)
            .map(|(finding, fingerprint)| JsonFinding {
                rule: finding.rule.id(),
                severity: finding.severity.as_str(),
                file: &finding.place.file,
                line: finding.place.position.map(|at| at.line),
                column: finding.place.position.map(|at| at.column),
                field: &finding.place.field,
                message: &finding.message,
                excerpt: finding.excerpt.as_deref(),
                help: help::page(finding.rule),
                fingerprint,
            })
            .collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}
