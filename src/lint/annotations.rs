//! Rules of errors and warnings of admission.

use std::collections::BTreeSet;

use crate::admission::error::{AdmissionError, AdmissionErrorKind, sentences};
use crate::finding::{FindingSeverity, Rule};
use crate::inject::manifest_store::ManifestStore;
use crate::inject::refusal::hint;
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

/// Limit of problems of one pod that have a finding each, so that a person can read all of them.
pub(super) const MAX_PROBLEMS: usize = 50;

/// Problems of a pod that admission would refuse. The sentence about a missing secret has a hint, if `manifests` have
/// one.
pub(super) fn of_error(error: &AdmissionError, manifests: &ManifestStore) -> PodProblems {
    let mut found = PodProblems::default();
    match error {
        AdmissionError::Annotations(mistakes) => {
            found.problems = bounded(mistakes, |mistake| {
                let site = Some(mistake.site.clone());
                problem(Rule::Annotation, site, format!("{mistake}."))
            });
        }
        AdmissionError::Plan(errors) => {
            let (unknown, certain): (Vec<_>, Vec<_>) = errors
                .iter()
                .cloned()
                .partition(|error| matches!(error, PlanError::UnknownKeys { .. }));
            found.problems = bounded(&certain, |error| {
                let hint = hint(error, manifests).map(|hint| format!(" {hint}"));
                let sentence = format!("{error}{}", hint.unwrap_or_default());
                problem(rule_of(error), Some(error.site().clone()), sentence)
            });
            found.unchecked = sentences(&AdmissionError::Plan(unknown));
        }
        AdmissionError::Backend(_) if error.kind() != AdmissionErrorKind::Conflict => {
            found.failures = sentences(error);
        }
        AdmissionError::Backend(_)
        | AdmissionError::Forbidden(_)
        | AdmissionError::Unreadable(_)
        | AdmissionError::PatchTooLong
        | AdmissionError::NotRecorded => {
            let sentences = sentences(error).into_iter();
            found.problems = sentences
                .map(|sentence| problem(Rule::Annotation, None, sentence))
                .collect();
        }
    }
    found
}

fn problem(rule: Rule, site: Option<AnnotationRef>, sentence: String) -> PodProblem {
    PodProblem {
        rule,
        severity: FindingSeverity::Error,
        site,
        sentence,
    }
}

/// Problems of the first errors, and one with the number of the others.
fn bounded<T>(errors: &[T], one: impl Fn(&T) -> PodProblem) -> Vec<PodProblem> {
    let mut problems: Vec<PodProblem> = errors.iter().take(MAX_PROBLEMS).map(one).collect();
    let more = errors.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        let sentence = format!("mistakes of this pod that are not listed: {more}.");
        problems.push(problem(Rule::Annotation, None, sentence));
    }
    problems
}

/// Secrets whose keys are not known, if nothing else is wrong.
pub(super) fn secrets_of_unknown_keys(error: &AdmissionError) -> Option<BTreeSet<&str>> {
    let AdmissionError::Plan(errors) = error else {
        return None;
    };
    errors
        .iter()
        .map(|error| match error {
            PlanError::UnknownKeys { reference, .. } => Some(reference.secret.name.as_str()),
            _ => None,
        })
        .collect()
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
