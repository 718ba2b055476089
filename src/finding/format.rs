//! Output formats of findings.

use std::io::{self, Write};

use super::{FileFinding, FindingCounts, FindingSeverity, github, json, sarif, text};

/// Format of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FindingFormat {
    /// A line for each finding, and the masked source line.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// SARIF 2.1.0, for code scanners.
    Sarif,
    /// Workflow commands of GitHub Actions.
    Github,
}

/// Writes findings. `counts` may be higher than their number: not all are kept.
///
/// # Errors
/// `out` cannot be written.
pub(crate) fn write(
    findings: &[FileFinding],
    counts: FindingCounts,
    format: FindingFormat,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        FindingFormat::Text => text::write(findings, out),
        FindingFormat::Json => json::write(findings, counts, out),
        FindingFormat::Sarif => sarif::write(findings, out),
        FindingFormat::Github => github::write(findings, out),
    }
}

impl FindingSeverity {
    /// Word of the severity, in every format.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
