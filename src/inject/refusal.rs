//! Reports of refused objects, with hints from the manifests.

use super::manifest_store::ManifestStore;
use super::reporter::{InjectExitStatus, Reporter};
use crate::admission::error::{AdmissionError, AdmissionErrorKind, sentences};
use injection::PlanError;

/// Reports each sentence of an error, with its hint.
pub(super) fn report_refusal(
    location: &str,
    error: &AdmissionError,
    manifests: &ManifestStore,
    reporter: &mut Reporter<'_>,
) {
    let hints: Vec<Option<String>> = match error {
        AdmissionError::Plan(errors) => errors.iter().map(|error| hint(error, manifests)).collect(),
        AdmissionError::Annotations(_)
        | AdmissionError::Backend(_)
        | AdmissionError::Forbidden(_)
        | AdmissionError::Unreadable(_)
        | AdmissionError::PatchTooLong
        | AdmissionError::NotRecorded => Vec::new(),
    };
    // Sentences have the order of the errors. If there are too many, the last sentence is the number of the others.
    let sentences = sentences(error);
    let hinted = if sentences.len() < hints.len() {
        sentences.len() - 1
    } else {
        sentences.len()
    };
    for (index, sentence) in sentences.into_iter().enumerate() {
        let hint = hints
            .get(index)
            .filter(|_| index < hinted)
            .cloned()
            .flatten()
            .map(|hint| format!(" {hint}"))
            .unwrap_or_default();
        reporter.error(
            InjectExitStatus::Refused,
            format_args!("{location}: {sentence}{hint}"),
        );
    }
    if error.kind() == AdmissionErrorKind::PermissionDenied {
        reporter.note(format_args!(
            "{location}: the cluster was asked with your own rights, not with the webhook's"
        ));
    }
}

/// Hint for a missing secret that the manifests have by another name or in another namespace.
pub(crate) fn hint(error: &PlanError, manifests: &ManifestStore) -> Option<String> {
    match error {
        PlanError::MissingSecret {
            secret, namespace, ..
        } => manifests.hint(namespace, secret),
        PlanError::MissingKey { .. }
        | PlanError::Collision { .. }
        | PlanError::NoSuchContainer { .. }
        | PlanError::ContainerName { .. }
        | PlanError::OnlySidecars { .. }
        | PlanError::TooMany { .. }
        | PlanError::PatchTooLarge { .. }
        | PlanError::UnknownKeys { .. }
        | PlanError::NameConvention { .. } => None,
    }
}
