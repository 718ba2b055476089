//! Report of a verification, as text for people and as JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::audit::verify::{TrailFinding, TrailReport, Verdict};
use crate::cli::color::{Stream, Tone, paint};

/// Input by its name, and the lines of the inputs before it: findings have numbers of all lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct InputName {
    pub name: String,
    #[serde(rename = "lines_before")]
    pub before: u64,
}

#[derive(Serialize)]
struct JsonTrailReport<'r> {
    verdict: &'static str,
    inputs: &'r [InputName],
    #[serde(flatten)]
    report: &'r TrailReport,
}

pub(super) fn write_json(
    report: &TrailReport,
    inputs: &[InputName],
    out: &mut dyn Write,
) -> io::Result<()> {
    let verdict = match report.verdict() {
        Verdict::Intact => "intact",
        Verdict::Damaged => "damaged",
        Verdict::NoRecords => "no-records",
    };
    let report = JsonTrailReport {
        verdict,
        inputs,
        report,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

pub(super) fn write_text(
    report: &TrailReport,
    inputs: &[InputName],
    out: &mut dyn Write,
) -> io::Result<()> {
    for finding in &report.findings {
        let (tone, level) = if finding.kind.is_damage() {
            (Tone::Bad, "damage: ")
        } else {
            (Tone::Neutral, "note: ")
        };
        let level = paint(Stream::Stdout, tone, level);
        match input_of(finding, inputs) {
            Some((name, finding)) => writeln!(out, "{level}{name}: {finding}")?,
            None => writeln!(out, "{level}{finding}")?,
        }
    }
    if report.more_findings > 0 {
        let level = paint(Stream::Stdout, Tone::Bad, "damage: ");
        writeln!(out, "{level}{} more findings", report.more_findings)?;
    }
    for chain in &report.chains {
        writeln!(
            out,
            "chain {}: {} lines, the last has number {}; intact up to {}, confirmed by checkpoints up to {}",
            chain.chain, chain.lines, chain.last, chain.intact_to, chain.confirmed_to
        )?;
    }
    if let Some(key) = &report.trusted_on_first_use {
        let level = paint(Stream::Stdout, Tone::Doubtful, "warning: ");
        writeln!(
            out,
            "{level}key {key} was trusted on first use; compare it with a copy from outside of the cluster, and pin it \
             with --key"
        )?;
    }
    let (tone, verdict) = match report.verdict() {
        Verdict::Intact => (Tone::Good, "intact"),
        Verdict::Damaged => (Tone::Bad, "damaged"),
        Verdict::NoRecords => return Ok(()),
    };
    let verdict = paint(Stream::Stdout, tone, verdict);
    writeln!(
        out,
        "{verdict}: {} records in {} chains",
        report.records,
        report.chains.len()
    )
}

/// Input of a finding about a line that cannot be read, and the finding with the line's number in that input.
fn input_of<'i>(
    finding: &TrailFinding,
    inputs: &'i [InputName],
) -> Option<(&'i str, TrailFinding)> {
    if finding.chain.is_some() {
        return None;
    }
    let input = inputs.iter().rfind(|input| input.before < finding.from)?;
    let mut finding = finding.clone();
    finding.from -= input.before;
    finding.to = finding.to.saturating_sub(input.before);
    Some((&input.name, finding))
}
