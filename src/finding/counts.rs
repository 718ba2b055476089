//! Numbers of findings.

use super::FindingSeverity;

/// Number of findings of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct FindingCounts {
    pub errors: usize,
    pub warnings: usize,
}

impl FindingCounts {
    pub(crate) fn add(&mut self, severity: FindingSeverity) {
        match severity {
            FindingSeverity::Error => self.errors += 1,
            FindingSeverity::Warning => self.warnings += 1,
        }
    }
}
