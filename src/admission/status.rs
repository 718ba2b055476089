//! Status of a refused request: the table from the kind of an error to code, reason and causes
//! (docs/ERRORS.md).
//!
//! A status never has `retryAfterSeconds`: client-go would wait for it in the controller's worker, which would delay
//! pods that request no secrets. Controllers have a back-off of their own.

use serde::Serialize;

use super::error::{AdmissionError, AdmissionErrorKind, sentences};
use injection::{self, PlanError};

/// `meta/v1` Status with the fields that refusals need.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AdmissionStatus {
    /// HTTP status for the client.
    pub code: u16,
    /// A `StatusReason` of Kubernetes.
    pub reason: &'static str,
    /// Message that controllers write into their events.
    pub message: String,
    /// Causes. For a 422, kubectl prints these and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
}

/// `StatusDetails` without `kind` and `name`: kubectl would print another sentence before the message.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StatusDetails {
    /// One for each mistake.
    pub causes: Vec<StatusCause>,
}

/// `StatusCause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusCause {
    /// A `CauseType` of Kubernetes.
    pub reason: &'static str,
    pub message: String,
    /// Path of the annotation.
    pub field: String,
}

/// Reason in metrics, logs and audit annotations.
#[must_use]
pub fn reason(kind: AdmissionErrorKind) -> &'static str {
    match kind {
        AdmissionErrorKind::Invalid => "invalid",
        AdmissionErrorKind::Conflict => "conflict",
        AdmissionErrorKind::NotFound => "not_found",
        AdmissionErrorKind::PermissionDenied => "permission_denied",
        AdmissionErrorKind::Unauthenticated => "unauthenticated",
        AdmissionErrorKind::Protocol => "protocol",
        AdmissionErrorKind::Unavailable => "unavailable",
        AdmissionErrorKind::Timeout => "timeout",
        AdmissionErrorKind::NotRecorded => "not_recorded",
        AdmissionErrorKind::Unreadable => "unreadable",
    }
}

/// Status that the client gets.
pub(super) fn status(error: &AdmissionError) -> AdmissionStatus {
    let (code, reason) = match error.kind() {
        // Not 404 for a missing secret: on a create that means that the namespace does not exist.
        AdmissionErrorKind::Invalid
        | AdmissionErrorKind::Conflict
        | AdmissionErrorKind::NotFound => (422, "Invalid"),
        AdmissionErrorKind::PermissionDenied => (403, "Forbidden"),
        // A timeout is not 504: Argo Workflows does not retry that, but retries 503 as Airflow and Dagster do.
        AdmissionErrorKind::Unauthenticated
        | AdmissionErrorKind::Unavailable
        | AdmissionErrorKind::Timeout
        | AdmissionErrorKind::NotRecorded => (503, "ServiceUnavailable"),
        AdmissionErrorKind::Protocol => (500, "InternalError"),
        AdmissionErrorKind::Unreadable => (400, "BadRequest"),
    };
    let sentences = sentences(error);
    let causes = causes(error, &sentences);
    let details = (!causes.is_empty()).then_some(StatusDetails { causes });
    AdmissionStatus {
        code,
        reason,
        message: sentences.join(" "),
        details,
    }
}

/// Causes, one for each sentence that is about an annotation.
fn causes(error: &AdmissionError, sentences: &[String]) -> Vec<StatusCause> {
    let cause = |reason, site: &injection::AnnotationRef, message: &String| StatusCause {
        reason,
        message: message.clone(),
        field: format!("metadata.annotations[{}]", site.annotation()),
    };
    match error {
        AdmissionError::Annotations(mistakes) => {
            let reason = |unsupported| {
                if unsupported {
                    "FieldValueNotSupported"
                } else {
                    "FieldValueInvalid"
                }
            };
            let causes = mistakes.iter().zip(sentences);
            causes
                .map(|(mistake, message)| {
                    cause(reason(mistake.unsupported), &mistake.site, message)
                })
                .collect()
        }
        AdmissionError::Plan(errors) => errors
            .iter()
            .zip(sentences)
            .map(|(error, message)| cause(cause_type(error), error.site(), message))
            .collect(),
        AdmissionError::PatchTooLong => sentences
            .iter()
            .map(|message| StatusCause {
                reason: "FieldValueTooLong",
                message: message.clone(),
                field: "metadata.annotations".to_owned(),
            })
            .collect(),
        // Of a 422, kubectl prints the causes; of other codes, the message.
        AdmissionError::Backend(failures) if error.kind() == AdmissionErrorKind::Conflict => {
            let about_annotations = failures
                .iter()
                .zip(sentences)
                .filter_map(|(failure, message)| Some((failure.site.as_ref()?, message)));
            about_annotations
                .map(|(site, message)| cause("FieldValueInvalid", site, message))
                .collect()
        }
        AdmissionError::Backend(_)
        | AdmissionError::Forbidden(_)
        | AdmissionError::NotRecorded
        | AdmissionError::Unreadable(_) => Vec::new(),
    }
}

fn cause_type(error: &PlanError) -> &'static str {
    match error {
        PlanError::MissingSecret { .. }
        | PlanError::MissingKey { .. }
        | PlanError::NoSuchContainer { .. }
        | PlanError::UnknownKeys { .. } => "FieldValueNotFound",
        PlanError::Collision { .. } => "FieldValueDuplicate",
        PlanError::NameConvention { .. } => "FieldValueInvalid",
        PlanError::OnlySidecars { .. } => "FieldValueRequired",
        PlanError::TooMany { .. } => "FieldValueTooMany",
        PlanError::PatchTooLarge { .. } | PlanError::ContainerName { .. } => "FieldValueTooLong",
    }
}
