//! Findings, notes and failures of one run.

use std::collections::BTreeSet;

use crate::finding::{FileFinding, FindingSeverity, Place, Rule};
use crate::inject::unreadable::UnreadableInput;
use crate::yaml::Position;

/// Limit of findings that are kept. A run with more has one cause for most of them.
pub(super) const MAX_FINDINGS: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) findings: Vec<FileFinding>,
    /// Findings beyond [`MAX_FINDINGS`].
    omitted: usize,
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
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.omitted += 1;
        }
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

    /// Orders findings by place, each once: one document may be planned for several pods.
    pub(super) fn sort(&mut self) {
        let key = |finding: &FileFinding| (finding.place.clone(), finding.severity, finding.rule);
        self.findings
            .sort_by(|a, b| (key(a), &a.message).cmp(&(key(b), &b.message)));
        self.findings.dedup();
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
        if self.omitted > 0 {
            notes.push(format!(
                "only the first {MAX_FINDINGS} findings are listed; {} more were left out",
                self.omitted
            ));
        }
        notes
    }
}
