//! Numbers of findings.

use super::{FileFinding, FindingSeverity};

/// Number of findings of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct FindingCounts {
    pub errors: usize,
    pub warnings: usize,
}

impl FindingCounts {
    pub(crate) fn of(findings: &[FileFinding]) -> Self {
        let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
        Self {
            errors: count(FindingSeverity::Error),
            warnings: count(FindingSeverity::Warning),
        }
    }
}
