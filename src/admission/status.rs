//! Status of a refused request: the table from the kind of an error to code, reason and causes. docs/ERRORS.md shows it.
//!
//! A status never has `retryAfterSeconds`: client-go would wait for it in the controller's worker, and pods that ask for
//! nothing would be delayed. Controllers have a back-off of their own.

use serde::Serialize;

use super::error::{AdmissionError, Kind, sentences};
use injection::{self, PlanError};

/// `meta/v1` Status, as far as refusals need it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// HTTP status for the client.
    pub code: u16,
    /// A `StatusReason` of Kubernetes.
    pub reason: &'static str,
    /// Message that controllers write into their events.
    pub message: String,
    /// Causes. For a 422, kubectl prints these and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// `StatusDetails`; `kind` and `name` stay away, or kubectl would put another sentence before ours.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    /// One for each mistake.
    pub causes: Vec<Cause>,
}

/// `StatusCause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// A `CauseType` of Kubernetes.
    pub reason: &'static str,
    /// The whole sentence.
    pub message: String,
    /// The annotation.
    pub field: String,
}

/// Reason in metrics, logs and audit annotations.
#[must_use]
pub fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::Conflict => "conflict",
        Kind::NotFound => "not_found",
        Kind::PermissionDenied => "permission_denied",
        Kind::Unauthenticated => "unauthenticated",
        Kind::Protocol => "protocol",
        Kind::Unavailable => "unavailable",
        Kind::Timeout => "timeout",
        Kind::Unreadable => "unreadable",
    }
}

/// The status that the client gets.
pub(super) fn status(error: &AdmissionError) -> Status {
    let (code, reason) = match error.kind() {
        // Not 404 for a missing secret: on a create that means that the namespace does not exist.
        Kind::Invalid | Kind::Conflict | Kind::NotFound => (422, "Invalid"),
        Kind::PermissionDenied => (403, "Forbidden"),
        // A timeout is not 504: Argo Workflows does not retry that, but retries 503 as Airflow and Dagster do.
        Kind::Unauthenticated | Kind::Unavailable | Kind::Timeout => (503, "ServiceUnavailable"),
        Kind::Protocol => (500, "InternalError"),
        Kind::Unreadable => (400, "BadRequest"),
    };
    let sentences = sentences(error);
    let causes = causes(error, &sentences);
    let details = (!causes.is_empty()).then_some(Details { causes });
    Status {
        code,
        reason,
        message: sentences.join(" "),
        details,
    }
}

/// A cause for each sentence that is about an annotation.
fn causes(error: &AdmissionError, sentences: &[String]) -> Vec<Cause> {
    let cause = |reason, site: &injection::AnnotationRef, message: &String| Cause {
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
            .map(|message| Cause {
                reason: "FieldValueTooLong",
                message: message.clone(),
                field: "metadata.annotations".to_owned(),
            })
            .collect(),
        // What kubectl prints of a 422; of other codes it prints the message.
        AdmissionError::Backend(unbound) if error.kind() == Kind::Conflict => {
            let asked = unbound
                .iter()
                .zip(sentences)
                .filter_map(|(unbound, message)| Some((unbound.site.as_ref()?, message)));
            asked
                .map(|(site, message)| cause("FieldValueInvalid", site, message))
                .collect()
        }
        AdmissionError::Backend(_)
        | AdmissionError::Forbidden(_)
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
        PlanError::OnlySidecars { .. } => "FieldValueRequired",
        PlanError::TooMany { .. } => "FieldValueTooMany",
        PlanError::PatchTooLarge { .. } | PlanError::ContainerName { .. } => "FieldValueTooLong",
    }
}
