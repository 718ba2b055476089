//! The answer: from an outcome or an error to an `AdmissionReview` response. The one table of errors is here.
//!
//! No answer ever carries `retryAfterSeconds`: client-go would sleep on it inside the controller's worker, and
//! pods that ask for nothing would wait behind ours. Controllers have a back-off of their own.

use std::collections::BTreeMap;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::{AdmissionError, Kind, Unbound};
use super::mutator::{Injection, Outcome, Preparation};
use super::review::{API_VERSION, KIND};
use crate::injection::{self, PREFIX, PlanError, SecretId, Warning};

/// As many warnings as reach a person: the API server cuts all of them once they are long in total.
const MAX_WARNINGS: usize = 5;

/// The length at which the API server may cut a warning is 256 characters.
const MAX_WARNING: usize = 249;

/// Sentences in one refusal, and their bytes together. Every mistake is named as long as a person can read them all; an
/// answer carries each twice, as kubectl prints the causes and controllers the message.
const MAX_SENTENCES: usize = 50;
const MAX_SENTENCES_BYTES: usize = 32 << 10;

/// An `AdmissionReview` that answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    /// The answer proper.
    pub response: Response,
}

impl Answer {
    /// As the API server reads it.
    ///
    /// # Panics
    /// Never: strings and maps of them serialise.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // All but the patch is short, so that nothing has to be moved while this grows.
        let patch = self.response.patch.as_ref().map_or(0, String::len);
        let mut bytes = Vec::with_capacity(patch + 1024);
        serde_json::to_writer(&mut bytes, self).expect("an answer of strings and maps serialises");
        bytes
    }
}

/// `AdmissionResponse`. kube's own type writes `patch` as a list of numbers; here it is base64, as the API says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The request's.
    pub uid: String,
    /// The verdict.
    pub allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// A JSON patch, in base64. Never without `patch_type`, nor the other way round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// `JSONPatch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_type: Option<&'static str>,
    /// For the cluster's audit log; the API server puts the webhook's name before each key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub audit_annotations: BTreeMap<&'static str, String>,
    /// For whoever made the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `meta/v1` Status, as far as refusals need it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// HTTP status for the client.
    pub code: u16,
    /// A `StatusReason` of Kubernetes.
    pub reason: &'static str,
    /// What controllers put into their events.
    pub message: String,
    /// What kubectl prints for a 422, and all that it prints.
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

/// A patch that cannot be sent, because it would be longer than [`injection::MAX_PATCH_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchTooLong;

/// The JSON patch of a plan, in its bytes; empty when there is nothing to change.
///
/// # Errors
/// [`PatchTooLong`]: writing it stops there.
pub fn render(outcome: &Outcome) -> Result<Vec<u8>, PatchTooLong> {
    let patch = match outcome {
        Outcome::Injected(Injection { plan, .. }) => injection::render(plan, &[]),
        Outcome::Prepared(Preparation { plan, .. }) => injection::render_workload(plan),
        Outcome::Skipped(_) | Outcome::Validated { .. } | Outcome::Degraded(_) => return Ok(Vec::new()),
    };
    if patch.0.is_empty() {
        return Ok(Vec::new());
    }
    let mut writer = Bounded { bytes: Vec::new(), most: injection::MAX_PATCH_BYTES };
    // Maps of strings serialise: only the bound can fail.
    match serde_json::to_writer(&mut writer, &patch) {
        Ok(()) => Ok(writer.bytes),
        Err(_) => Err(PatchTooLong),
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer to a request that was decided, with the outcome's patch ([`render`]).
///
/// `uid` is the request's, and the event id under which this program's log and audit know the decision.
#[must_use]
pub fn respond(uid: &str, outcome: &Result<Outcome, AdmissionError>, patch: &[u8]) -> Answer {
    let mut response = Response {
        uid: uid.to_owned(),
        allowed: outcome.is_ok(),
        status: None,
        patch: None,
        patch_type: None,
        audit_annotations: BTreeMap::from([("event-id", uid.to_owned())]),
        warnings: Vec::new(),
    };
    match outcome {
        Ok(Outcome::Skipped(reason)) => {
            response.audit_annotations.insert("skipped", reason.as_str().to_owned());
        }
        Ok(Outcome::Validated { notes }) => warn(&mut response, &[], notes),
        Ok(Outcome::Injected(Injection { plan, secrets, notes })) => {
            admit(&mut response, patch, secrets, &plan.warnings, notes);
        }
        Ok(Outcome::Prepared(Preparation { plan, secrets, notes })) => {
            admit(&mut response, patch, secrets, &plan.warnings, notes);
        }
        Ok(Outcome::Degraded(error)) => {
            response.audit_annotations.insert("degraded", reason(error.kind()).to_owned());
            // The consequence first: the end of a long warning is cut off.
            let problems = degraded(error);
            let count = problems.len();
            let said = problems.into_iter().map(|problem| format!("admitted without its secrets: {problem}"));
            response.warnings = warnings(said, count);
        }
        Err(error) => {
            response.audit_annotations.insert("refused", reason(error.kind()).to_owned());
            response.status = Some(refuse(error));
        }
    }
    Answer { api_version: API_VERSION, kind: KIND, response }
}

fn admit(response: &mut Response, patch: &[u8], secrets: &[SecretId], said: &[Warning], notes: &[String]) {
    if !patch.is_empty() {
        response.patch = Some(STANDARD.encode(patch));
        response.patch_type = Some("JSONPatch");
    }
    let secrets: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    response.audit_annotations.insert("secrets", secrets.join(","));
    warn(response, said, notes);
}

fn warn(response: &mut Response, said: &[Warning], notes: &[String]) {
    let count = said.len() + notes.len();
    let said = said.iter().map(ToString::to_string);
    response.warnings = warnings(said.chain(notes.iter().cloned()), count);
    // Warnings about a controller's pod are seen by nobody; the audit log keeps them.
    if !response.warnings.is_empty() {
        response.audit_annotations.insert("warnings", response.warnings.join("; "));
    }
}

/// At most [`MAX_WARNINGS`] of `count`, each short enough to arrive whole. The others are never even written.
fn warnings(said: impl Iterator<Item = String>, count: usize) -> Vec<String> {
    let more = count.saturating_sub(MAX_WARNINGS);
    let mut kept: Vec<String> = said.take(MAX_WARNINGS).map(|text| shorten(&text)).collect();
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

/// The error's name in metrics, logs and audit annotations.
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

/// The table: from the kind of error to what the client is told.
fn refuse(error: &AdmissionError) -> Status {
    let (code, reason) = match error.kind() {
        // Not 404 for a missing secret: on a create that reads as "the namespace is gone".
        Kind::Invalid | Kind::Conflict | Kind::NotFound => (422, "Invalid"),
        Kind::PermissionDenied => (403, "Forbidden"),
        // A timeout is not 504: Argo Workflows takes that for final, and retries 503 as Airflow and Dagster do.
        Kind::Unauthenticated | Kind::Unavailable | Kind::Timeout => (503, "ServiceUnavailable"),
        Kind::Protocol => (500, "InternalError"),
        Kind::Unreadable => (400, "BadRequest"),
    };
    let sentences = sentences(error);
    let causes = causes(error, &sentences);
    let details = (!causes.is_empty()).then_some(Details { causes });
    Status { code, reason, message: sentences.join(" "), details }
}

/// Each mistake as a sentence, as many as are read: the last says how many more there are.
#[must_use]
pub fn sentences(error: &AdmissionError) -> Vec<String> {
    match error {
        AdmissionError::Annotations(mistakes) => bounded(mistakes, |mistake| format!("{mistake}.")),
        AdmissionError::Plan(errors) => bounded(errors, ToString::to_string),
        AdmissionError::Backend(unbound) => bounded(unbound, backend_sentence),
        AdmissionError::Unreadable(problem) => vec![format!("{problem}.")],
        AdmissionError::PatchTooLong => vec![patch_too_long()],
    }
}

fn patch_too_long() -> String {
    format!(
        "the changes that the annotations under {PREFIX} ask for are longer than {} bytes. Shorten the annotations, or select fewer containers.",
        injection::MAX_PATCH_BYTES
    )
}

/// The first sentences, within [`MAX_SENTENCES`] and [`MAX_SENTENCES_BYTES`]; what is beyond is never written.
fn bounded<T>(all: &[T], sentence: impl Fn(&T) -> String) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut bytes = 0;
    for one in all {
        let text = sentence(one);
        bytes += text.len();
        if sentences.len() == MAX_SENTENCES || bytes > MAX_SENTENCES_BYTES {
            sentences.push(format!("There are {} more mistakes.", all.len() - sentences.len()));
            break;
        }
        sentences.push(text);
    }
    sentences
}

/// What is said about a pod that is admitted all the same: no advice, because nobody has to do anything.
fn degraded(error: &AdmissionError) -> Vec<String> {
    match error {
        AdmissionError::Backend(unbound) => unbound.iter().map(backend_problem).collect(),
        AdmissionError::Annotations(_)
        | AdmissionError::Plan(_)
        | AdmissionError::Unreadable(_)
        | AdmissionError::PatchTooLong => sentences(error),
    }
}

fn backend_problem(Unbound { error, site }: &Unbound) -> String {
    match site {
        Some(site) => format!("{error} (asked for by {site})"),
        None => format!("{error} (the defaults of the namespace and service account could not be read)"),
    }
}

fn backend_sentence(unbound: &Unbound) -> String {
    let advice = match Kind::from(unbound.error.kind) {
        Kind::PermissionDenied => "Ask the platform operator to let the webhook read it.",
        Kind::Protocol => "Tell the platform operator; the webhook's log says more.",
        // The only one that a backend's error comes to: too many keys.
        Kind::Conflict => "Bring it in whole with secrets.floe.dev/env-from.",
        Kind::Invalid
        | Kind::NotFound
        | Kind::Unauthenticated
        | Kind::Unavailable
        | Kind::Timeout
        | Kind::Unreadable => "Try again in a moment; controllers do so by themselves.",
    };
    format!("{}. {advice}", backend_problem(unbound))
}

/// A cause for each sentence that is about an annotation.
fn causes(error: &AdmissionError, sentences: &[String]) -> Vec<Cause> {
    let cause = |reason, site: &injection::Site, message: &String| Cause {
        reason,
        message: message.clone(),
        field: format!("metadata.annotations[{}]", site.annotation()),
    };
    match error {
        AdmissionError::Annotations(mistakes) => {
            let reason = |unsupported| if unsupported { "FieldValueNotSupported" } else { "FieldValueInvalid" };
            let causes = mistakes.iter().zip(sentences);
            causes.map(|(mistake, message)| cause(reason(mistake.unsupported), &mistake.site, message)).collect()
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
            let asked =
                unbound.iter().zip(sentences).filter_map(|(unbound, message)| Some((unbound.site.as_ref()?, message)));
            asked.map(|(site, message)| cause("FieldValueInvalid", site, message)).collect()
        }
        AdmissionError::Backend(_) | AdmissionError::Unreadable(_) => Vec::new(),
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

/// The answer to bytes that were no review, as long as they held a uid.
#[must_use]
pub fn unreadable(uid: &str, problem: String) -> Answer {
    respond(uid, &Err(AdmissionError::Unreadable(problem)), &[])
}
