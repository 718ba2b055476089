//! Rules of errors and warnings of admission.

use crate::admission::error::{AdmissionError, AdmissionErrorKind, sentences};
use crate::finding::{FindingSeverity, Rule};
use injection::{AnnotationRef, PlanError, Warning};

/// A problem of a pod, before it has a place.
#[derive(Debug)]
pub(super) struct PodProblem {
    pub(super) rule: Rule,
    pub(super) severity: FindingSeverity,
    /// Annotation that it is about.
    pub(super) site: Option<AnnotationRef>,
    pub(super) sentence: String,
}

/// Problems in an error of admission.
#[derive(Debug, Default)]
pub(super) struct PodProblems {
    pub(super) problems: Vec<PodProblem>,
    /// Sentences about what could not be checked.
    pub(super) unchecked: Vec<String>,
    /// Sentences about a cluster that could not be read.
    pub(super) failures: Vec<String>,
}

/// Problems of a pod that admission would refuse.
pub(super) fn of_error(error: &AdmissionError) -> PodProblems {
    let mut found = PodProblems::default();
    let rules: Vec<(Rule, AnnotationRef)> = match error {
        AdmissionError::Annotations(mistakes) => mistakes
            .iter()
            .map(|mistake| (Rule::Annotation, mistake.site.clone()))
            .collect(),
        AdmissionError::Plan(errors) => errors
            .iter()
            .map(|error| (rule_of(error), error.site().clone()))
            .collect(),
        AdmissionError::Backend(_) if error.kind() != AdmissionErrorKind::Conflict => {
            found.failures = sentences(error);
            return found;
        }
        AdmissionError::Backend(_)
        | AdmissionError::Forbidden(_)
        | AdmissionError::Unreadable(_)
        | AdmissionError::PatchTooLong => Vec::new(),
    };
    let unknown_keys = |index: usize| match error {
        AdmissionError::Plan(errors) => {
            matches!(errors.get(index), Some(PlanError::UnknownKeys { .. }))
        }
        _ => false,
    };
    // Sentences have the order of the errors. If there are too many, the last sentence is the number of the others.
    for (index, sentence) in sentences(error).into_iter().enumerate() {
        if unknown_keys(index) {
            found.unchecked.push(sentence);
            continue;
        }
        let (rule, site) = match rules.get(index) {
            Some((rule, site)) => (*rule, Some(site.clone())),
            None => (Rule::Annotation, None),
        };
        found.problems.push(PodProblem {
            rule,
            severity: FindingSeverity::Error,
            site,
            sentence,
        });
    }
    found
}

fn rule_of(error: &PlanError) -> Rule {
    match error {
        PlanError::MissingSecret { .. }
        | PlanError::MissingKey { .. }
        | PlanError::UnknownKeys { .. } => Rule::SecretMissing,
        PlanError::Collision { .. } => Rule::Collision,
        PlanError::NoSuchContainer { .. }
        | PlanError::OnlySidecars { .. }
        | PlanError::ContainerName { .. } => Rule::UnknownContainer,
        PlanError::TooMany { .. } | PlanError::PatchTooLarge { .. } => Rule::Annotation,
        PlanError::NameConvention { .. } => Rule::SecretNameConvention,
    }
}

/// Problem of a pod that admission would admit with a warning.
pub(super) fn of_warning(warning: &Warning) -> PodProblem {
    let (rule, site) = match warning {
        Warning::Missing(error)
        | Warning::Awaited(error)
        | Warning::NoSuchContainer(error)
        | Warning::OnlySidecars(error)
        | Warning::NameConvention(error) => (rule_of(error), Some(error.site().clone())),
        Warning::NoContainer => (Rule::UnknownContainer, None),
        Warning::AlreadySet { .. }
        | Warning::OverridesSources { .. }
        | Warning::SharedKeys { .. } => (Rule::Collision, None),
        Warning::NoKeys { site, .. } => (Rule::SecretMissing, Some(site.clone())),
        Warning::Unmatched { site, .. } => (Rule::UnknownContainer, Some(site.clone())),
        Warning::EntriesRemoved { .. } | Warning::NoRestart(_) => (Rule::Annotation, None),
    };
    let (severity, sentence) = match warning {
        // The rule is off unless it is asked for.
        Warning::NameConvention(error) => (FindingSeverity::Error, error.to_string()),
        warning => (FindingSeverity::Warning, warning.to_string()),
    };
    PodProblem {
        rule,
        severity,
        site,
        sentence,
    }
}
