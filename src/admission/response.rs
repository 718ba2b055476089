//! Response to a review: from an outcome or an error to an `AdmissionReview`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::{AdmissionError, degraded};
use super::outcome::{Outcome, PodMutation, WorkloadMutation};
use super::review::{API_VERSION, KIND};
use super::status::{AdmissionStatus, reason, status};
use injection::{SecretId, Warning};

/// Limit of warnings: the API server truncates all of them if they are long in total.
const MAX_WARNINGS: usize = 5;

/// Limit of characters per warning: the API server may truncate those of more than 256.
const MAX_WARNING: usize = 249;

/// `AdmissionReview` with a response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewResponse {
    api_version: &'static str,
    kind: &'static str,
    pub response: Response,
}

impl ReviewResponse {
    /// JSON of the review.
    ///
    /// # Panics
    /// Never: strings and maps of strings always serialise.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Everything but the patch is short, so that the buffer does not grow.
        let patch = self.response.patch.as_ref().map_or(0, String::len);
        let mut bytes = Vec::with_capacity(patch + 1024);
        serde_json::to_writer(&mut bytes, self).expect("a response of strings and maps serialises");
        bytes
    }
}

/// `AdmissionResponse`. kube's own type writes `patch` as a list of numbers; here it is base64, as the API requires.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Uid of the request.
    pub uid: String,
    pub allowed: bool,
    /// Set if the request is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<AdmissionStatus>,
    /// JSON patch in base64; set together with `patch_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// `JSONPatch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_type: Option<&'static str>,
    /// Annotations in the audit log of the API server, which prefixes each key with the name of the webhook.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub audit_annotations: BTreeMap<&'static str, String>,
    /// Warnings to the client that made the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Response to a decided request, with the outcome's patch ([`super::render::render`]). `uid` is the request's.
#[must_use]
pub fn respond(
    uid: &str,
    outcome: &Result<Outcome, AdmissionError>,
    patch: &[u8],
) -> ReviewResponse {
    let mut response = Response {
        uid: uid.to_owned(),
        allowed: outcome.is_ok(),
        status: None,
        patch: (!patch.is_empty()).then(|| STANDARD.encode(patch)),
        patch_type: (!patch.is_empty()).then_some("JSONPatch"),
        audit_annotations: BTreeMap::from([("event-id", uid.to_owned())]),
        warnings: Vec::new(),
    };
    match outcome {
        Ok(Outcome::Skipped(reason)) => {
            response
                .audit_annotations
                .insert("skipped", reason.as_str().to_owned());
        }
        Ok(Outcome::Validated { notes }) => warn(&mut response, &[], notes),
        Ok(Outcome::Injected(PodMutation {
            plan,
            secrets,
            notes,
        })) => {
            admit(&mut response, secrets, &plan.warnings, notes);
        }
        Ok(Outcome::Mutated(WorkloadMutation {
            plan,
            secrets,
            notes,
        })) => {
            admit(&mut response, secrets, &plan.warnings, notes);
        }
        Ok(Outcome::Degraded(error)) => {
            response
                .audit_annotations
                .insert("degraded", reason(error.kind()).to_owned());
            // The consequence comes first: a long warning is cut off at the end.
            let problems = degraded(error);
            let count = problems.len();
            let texts = problems
                .into_iter()
                .map(|problem| format!("admitted without its secrets: {problem}"));
            response.warnings = warnings(texts, count);
        }
        Err(error) => {
            response
                .audit_annotations
                .insert("refused", reason(error.kind()).to_owned());
            response.status = Some(status(error));
        }
    }
    ReviewResponse {
        api_version: API_VERSION,
        kind: KIND,
        response,
    }
}

fn admit(response: &mut Response, secrets: &[SecretId], plan: &[Warning], notes: &[String]) {
    let secrets: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    response
        .audit_annotations
        .insert("secrets", secrets.join(","));
    warn(response, plan, notes);
}

fn warn(response: &mut Response, plan: &[Warning], notes: &[String]) {
    let count = plan.len() + notes.len();
    let plan = plan.iter().map(ToString::to_string);
    response.warnings = warnings(plan.chain(notes.iter().cloned()), count);
    // Controllers do not show the warnings about their pods; the audit log keeps them.
    if !response.warnings.is_empty() {
        response
            .audit_annotations
            .insert("warnings", response.warnings.join("; "));
    }
}

/// At most [`MAX_WARNINGS`] of `count` warnings, each shortened to [`MAX_WARNING`]. The others are not even formatted.
fn warnings(texts: impl Iterator<Item = String>, count: usize) -> Vec<String> {
    let more = count.saturating_sub(MAX_WARNINGS);
    let mut kept: Vec<String> = texts
        .take(MAX_WARNINGS)
        .map(|text| shorten(&text))
        .collect();
    if more > 0
        && let Some(last) = kept.last_mut()
    {
        *last = format!("and {} more; the first are above", more + 1);
    }
    kept
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_WARNING {
        return text.to_owned();
    }
    text.chars().take(MAX_WARNING - 1).chain(['…']).collect()
}

/// Response to bytes that are not a review but have a uid.
#[must_use]
pub fn unreadable(uid: &str, problem: String) -> ReviewResponse {
    respond(uid, &Err(AdmissionError::Unreadable(problem)), &[])
}
