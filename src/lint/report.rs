//! Findings, notes and failures of one run.

use std::collections::BTreeSet;

use crate::finding::{FileFinding, FindingCounts, FindingSeverity, Place, Rule};
use crate::inject::unreadable::UnreadableInput;
use crate::yaml::Position;

/// Limit of findings that are kept. A run with more has one cause for most of them.
pub(super) const MAX_FINDINGS: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Report {
    errors: BTreeSet<FileFinding>,
    warnings: BTreeSet<FileFinding>,
    /// Number of all findings, whether they are kept or not.
    pub(super) counts: FindingCounts,
    notes: BTreeSet<String>,
    /// Documents that are not Kubernetes objects.
    pub(super) skipped_documents: usize,
    /// Failures that are not about a place in a file.
    pub(super) failures: Vec<String>,
    has_unreadable: bool,
    /// Whether there is a pod or pod template.
    pub(super) has_pods: bool,
    /// Whether an object requests a secret.
    pub(super) has_requests: bool,
}

impl Report {
    pub(super) fn push(&mut self, finding: FileFinding) {
        self.push_from(finding.severity, || finding);
    }

    /// Adds a finding, which is made only if it is kept: errors take the place of warnings at the limit. Equal findings
    /// are kept and counted once, because one document may be planned for several pods; beyond the limit, each counts.
    pub(super) fn push_from(
        &mut self,
        severity: FindingSeverity,
        finding: impl FnOnce() -> FileFinding,
    ) {
        let is_full = self.kept() >= MAX_FINDINGS;
        let is_new = match severity {
            FindingSeverity::Error if self.errors.len() >= MAX_FINDINGS => true,
            FindingSeverity::Warning if is_full => true,
            FindingSeverity::Error => self.errors.insert(finding()),
            FindingSeverity::Warning => self.warnings.insert(finding()),
        };
        if self.kept() > MAX_FINDINGS {
            self.warnings.pop_last();
        }
        if is_new {
            self.counts.add(severity);
        }
    }

    fn kept(&self) -> usize {
        self.errors.len() + self.warnings.len()
    }

    /// Findings that are kept, in the order of their places.
    pub(super) fn take_findings(&mut self) -> Vec<FileFinding> {
        let mut findings: Vec<FileFinding> = std::mem::take(&mut self.errors)
            .into_iter()
            .chain(std::mem::take(&mut self.warnings))
            .collect();
        findings.sort();
        findings
    }

    /// Adds a finding about an input that cannot be read.
    pub(super) fn unreadable(&mut self, error: UnreadableInput) {
        self.has_unreadable = true;
        let position = error.line.map(|(line, column)| Position {
            line,
            column: column.unwrap_or(1),
        });
        self.push(FileFinding {
            rule: Rule::Unreadable,
            severity: FindingSeverity::Error,
            place: Place {
                file: error.input.into(),
                position,
                field: String::new(),
            },
            message: error.problem,
            excerpt: None,
        });
    }

    pub(super) fn failure(&mut self, sentence: String) {
        if !self.failures.contains(&sentence) {
            self.failures.push(sentence);
        }
    }

    pub(super) fn note(&mut self, sentence: String) {
        self.notes.insert(sentence);
    }

    /// Whether something could not be read.
    pub(super) fn is_incomplete(&self) -> bool {
        self.has_unreadable || !self.failures.is_empty()
    }

    /// Notes, with those about documents and findings that were left out.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.notes.iter().cloned().collect();
        if self.skipped_documents > 0 {
            notes.push(format!(
                "documents that are not Kubernetes objects and were not checked: {}",
                self.skipped_documents
            ));
        }
        let FindingCounts { errors, warnings } = self.counts;
        let omitted = (errors + warnings).saturating_sub(MAX_FINDINGS);
        if omitted > 0 {
            notes.push(format!(
                "{MAX_FINDINGS} findings are listed, errors before warnings; {omitted} more were left out"
            ));
        }
        notes
    }
}
