//! Handler of reviews: decode, decide, render, record, respond.
//!
//! The response waits for the record of the audit trail, at most for the time that the recorder documents.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::caller::Caller;
use super::deadline::budget;
use super::error::AdmissionError;
use super::event::audit::{is_recorded, is_use, record};
use super::event::log::log;
use super::event::metrics::AdmissionMetrics;
use super::event::span::record_span;
use super::event::{AdmissionEvent, AdmissionFields, AuditFields, Decision};
use super::outcome::Outcome;
use super::pipeline::{Pipeline, RequestContext};
use super::policy::OnAuditFailure;
use super::render::{PatchTooLong, render, with_event};
use super::requested::SecretRequests;
use super::response::{ReviewResponse, respond, unreadable};
use super::review::{self, AdmissionRequest, Operation, SourceView, Unreadable};
use super::surface::Surface;
use crate::recorder::{AuditRecorder, Recorded};
use crate::telemetry::error_chain::excerpt;
use crate::telemetry::span::Span;
use injection::{Annotations, CowStr, MetadataView, OwnerView, PodView, WorkloadView};

/// Limits of fields that are logged and traced, in bytes. `generateName` and owner references are not validated before
/// admission.
const MAX_LOGGED_NAME: usize = 253;
const MAX_LOGGED_OWNER: usize = 320;
const MAX_LOGGED_USER: usize = 1024;

#[derive(Clone, Debug)]
pub struct Handler {
    pipeline: Arc<Pipeline>,
    metrics: AdmissionMetrics,
    audit: Option<AuditSink>,
}

/// Audit trail of a handler.
#[derive(Clone, Debug)]
struct AuditSink {
    recorder: AuditRecorder,
    on_failure: OnAuditFailure,
}

/// Decided review.
struct Decided<'d> {
    outcome: Result<Outcome, AdmissionError>,
    metadata: Option<&'d MetadataView<'d>>,
    requested: &'d SecretRequests,
}

/// Circumstances in which a review was received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'q> {
    /// Query of the URL, which has the timeout of the API server.
    pub query: Option<&'q str>,
    /// Arrival of the first byte.
    pub arrived: Instant,
    /// Sender.
    pub caller: Caller,
}

impl Handler {
    /// Creates a handler that decides by `pipeline`.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, metrics: AdmissionMetrics) -> Self {
        Self {
            pipeline,
            metrics,
            audit: None,
        }
    }

    /// Records admissions in the audit trail.
    #[must_use]
    pub fn recorded_by(self, recorder: AuditRecorder, on_failure: OnAuditFailure) -> Self {
        let audit = AuditSink {
            recorder,
            on_failure,
        };
        Self {
            audit: Some(audit),
            ..self
        }
    }

    /// Handles one review; `span` is its span.
    ///
    /// # Errors
    /// [`Unreadable`] only for bytes without a uid, to which no response can refer.
    pub async fn handle(
        &self,
        surface: Surface,
        received: Received<'_>,
        body: &[u8],
        mut span: Span,
    ) -> Result<ReviewResponse, Unreadable> {
        let handled = self.decide(surface, received, body, &mut span).await;
        let response =
            handled.or_else(|error| self.refuse_unreadable(surface, error, received, &mut span))?;
        span.set_i64(
            "code",
            response
                .response
                .status
                .as_ref()
                .map_or(200, |status| status.code.into()),
        );
        Ok(response)
    }

    /// Decodes the review with the view of its surface, decides it, and records the outcome.
    ///
    /// The futures of the decisions are boxed: otherwise the task of every connection would have room for them.
    async fn decide(
        &self,
        surface: Surface,
        received: Received<'_>,
        body: &[u8],
        span: &mut Span,
    ) -> Result<ReviewResponse, Unreadable> {
        let pipeline = &self.pipeline;
        let requested = &SecretRequests::default();
        // Only records of the trail name what is requested.
        let kept = self.audit.is_some().then_some(requested);
        let context = received.context(span, kept);
        match surface {
            Surface::Pods | Surface::DefaultsPods => {
                let request = review::decode::<PodView<'_>>(body)?;
                let outcome = Box::pin(pipeline.admit_pod(surface, &request, context)).await;
                let object = request.object.as_ref();
                let decided = Decided {
                    outcome,
                    metadata: object.and_then(|pod| pod.metadata.as_ref()),
                    requested,
                };
                Ok(Box::pin(self.respond(surface, &request, decided, received, span)).await)
            }
            Surface::Workloads | Surface::DefaultsWorkloads => {
                let request = review::decode::<WorkloadView<'_>>(body)?;
                let outcome = Box::pin(pipeline.admit_workload(surface, &request, context)).await;
                let object = request.object.as_ref();
                let decided = Decided {
                    outcome,
                    metadata: object.and_then(|workload| workload.metadata.as_deref()),
                    requested,
                };
                Ok(Box::pin(self.respond(surface, &request, decided, received, span)).await)
            }
            Surface::Sources => {
                let request = review::decode::<SourceView<'_>>(body)?;
                let outcome = Box::pin(pipeline.admit_defaults_object(&request, context)).await;
                let decided = Decided {
                    outcome,
                    metadata: request.object.as_ref().map(|object| &object.metadata),
                    requested,
                };
                Ok(Box::pin(self.respond(surface, &request, decided, received, span)).await)
            }
        }
    }

    /// Renders and records the outcome of a decided review.
    async fn respond<O: Sync>(
        &self,
        surface: Surface,
        request: &AdmissionRequest<'_, O>,
        decided: Decided<'_>,
        received: Received<'_>,
        span: &mut Span,
    ) -> ReviewResponse {
        let Decided {
            outcome,
            metadata,
            requested,
        } = decided;
        let (outcome, patch) = rendered(outcome);
        let owners = metadata.and_then(|metadata| metadata.owner_references.as_deref());
        let owners = owners.unwrap_or_default();
        let generate_name = metadata.and_then(|metadata| metadata.generate_name.as_ref());
        let trace_id = span.trace_id();
        let fields = AdmissionFields {
            uid: request.uid.as_str(),
            resource: request.resource.resource.as_str(),
            namespace: request.namespace(),
            name: &logged_name(request.name.as_ref()),
            generate_name: &logged_name(generate_name),
            owner: &owners.first().map(logged_owner).unwrap_or_default(),
            user: &excerpt(request.user_info.username.as_str(), MAX_LOGGED_USER),
            dry_run: request.dry_run.unwrap_or_default(),
            caller: Some(received.caller),
            trace_id: trace_id.as_deref(),
            audit: audit_fields(request, metadata, requested),
        };
        let duration = received.arrived.elapsed();
        let event =
            |outcome| AdmissionEvent::new(surface, request.operation, fields, outcome, duration);
        let recording = self.record(&event(&outcome));
        // The record is written while the response is rendered.
        let is_marked =
            recording.is_some() && is_use(&event(&outcome)) && fields.audit.found_event.is_empty();
        let mut response = if is_marked {
            let marked = with_event(&patch, &outcome, metadata, fields.uid);
            respond(fields.uid, &outcome, &marked)
        } else {
            respond(fields.uid, &outcome, &patch)
        };
        if let Some(recording) = recording
            && recording.await == Recorded::Dropped
        {
            if self.refuses(&event(&outcome)) {
                let outcome = Err(AdmissionError::NotRecorded);
                self.publish(&event(&outcome), span);
                return respond(fields.uid, &outcome, &[]);
            }
            // There is no record that a mark could name.
            response = respond(fields.uid, &outcome, &patch);
        }
        self.publish(&event(&outcome), span);
        response
    }

    /// Hands over the record of an admission, if it leaves one; the future waits until it is written.
    fn record<'h>(
        &'h self,
        event: &AdmissionEvent<'_>,
    ) -> Option<impl Future<Output = Recorded> + Send + use<'h>> {
        let AuditSink { recorder, .. } = self.audit.as_ref()?;
        is_recorded(event).then(|| recorder.record(record(event, recorder.emitter())))
    }

    /// Whether an admission is refused because its record was not taken.
    fn refuses(&self, event: &AdmissionEvent<'_>) -> bool {
        let on_failure = self.audit.as_ref().map(|audit| audit.on_failure);
        on_failure == Some(OnAuditFailure::Refuse) && event.decision != Decision::Denied
    }

    fn refuse_unreadable(
        &self,
        surface: Surface,
        error: Unreadable,
        received: Received<'_>,
        span: &mut Span,
    ) -> Result<ReviewResponse, Unreadable> {
        let outcome = Err(AdmissionError::Unreadable(error.to_string()));
        let uid = error.uid.as_deref().unwrap_or_default();
        let trace_id = span.trace_id();
        let fields = AdmissionFields {
            uid,
            caller: Some(received.caller),
            trace_id: trace_id.as_deref(),
            ..AdmissionFields::default()
        };
        let duration = received.arrived.elapsed();
        let event = AdmissionEvent::new(surface, Operation::Other, fields, &outcome, duration);
        self.publish(&event, span);
        match &error.uid {
            Some(uid) => Ok(unreadable(uid, error.to_string())),
            None => Err(error),
        }
    }

    /// Publishes an event to the sinks that the response does not wait for.
    fn publish(&self, event: &AdmissionEvent<'_>, span: &mut Span) {
        record_span(span, event);
        self.metrics.record(event);
        log(event);
    }
}

/// Fields for the audit trail alone.
fn audit_fields<'f, O>(
    request: &'f AdmissionRequest<'_, O>,
    metadata: Option<&'f MetadataView<'_>>,
    requested: &'f SecretRequests,
) -> AuditFields<'f> {
    let owners = metadata.and_then(|metadata| metadata.owner_references.as_deref());
    let mut owners = owners.unwrap_or_default().iter();
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    AuditFields {
        user_uid: request.user_info.uid.as_str(),
        credential_id: request.user_info.credential_id(),
        controller: owners.find(|owner| owner.controller == Some(true)),
        found_event: annotations.and_then(Annotations::event).unwrap_or_default(),
        requested: requested.get(),
    }
}

/// Renders the patch; one that is too long is an error.
fn rendered(
    decided: Result<Outcome, AdmissionError>,
) -> (Result<Outcome, AdmissionError>, Vec<u8>) {
    match decided.map(|outcome| (render(&outcome), outcome)) {
        Ok((Ok(patch), outcome)) => (Ok(outcome), patch),
        Ok((Err(PatchTooLong), _)) => (Err(AdmissionError::PatchTooLong), Vec::new()),
        Err(error) => (Err(error), Vec::new()),
    }
}

/// `Kind/name` of an owner reference.
fn logged_owner(owner: &OwnerView<'_>) -> String {
    let kind = excerpt(owner.kind.as_str(), MAX_LOGGED_OWNER);
    let name = excerpt(owner.name.as_str(), MAX_LOGGED_OWNER);
    excerpt(&format!("{kind}/{name}"), MAX_LOGGED_OWNER).into_owned()
}

fn logged_name<'t>(text: Option<&'t CowStr<'_>>) -> Cow<'t, str> {
    text.map(|text| excerpt(text.as_str(), MAX_LOGGED_NAME))
        .unwrap_or_default()
}

impl Received<'_> {
    /// Review that comes from this process, as in benchmarks and tests.
    #[must_use]
    pub fn in_process(query: Option<&str>) -> Received<'_> {
        Received {
            query,
            arrived: Instant::now(),
            caller: Caller::TRUSTED,
        }
    }

    fn context<'s>(
        &self,
        span: &'s Span,
        requested: Option<&'s SecretRequests>,
    ) -> RequestContext<'s> {
        let deadline = self.arrived + budget(self.query);
        RequestContext {
            arrived: self.arrived,
            deadline,
            span,
            discloses: self.caller.channel.discloses(),
            requested,
        }
    }
}

#[cfg(test)]
mod tests;
