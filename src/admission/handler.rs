//! Handler of reviews: decode, decide, render, record, respond.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::caller::Caller;
use super::deadline::budget;
use super::error::AdmissionError;
use super::event::log::log;
use super::event::metrics::AdmissionMetrics;
use super::event::span::record_span;
use super::event::{AdmissionEvent, AdmissionFields};
use super::outcome::Outcome;
use super::pipeline::{Pipeline, RequestContext};
use super::render::{PatchTooLong, render};
use super::response::{ReviewResponse, respond, unreadable};
use super::review::{self, AdmissionRequest, Operation, SourceView, Unreadable};
use super::surface::Surface;
use crate::telemetry::error_chain::excerpt;
use crate::telemetry::span::Span;
use injection::{CowStr, MetadataView, OwnerView, PodView, WorkloadView};

/// Limits of fields that are logged and traced, in bytes. `generateName` and owner references are not validated before
/// admission.
const MAX_LOGGED_NAME: usize = 253;
const MAX_LOGGED_OWNER: usize = 320;
const MAX_LOGGED_USER: usize = 1024;

#[derive(Clone, Debug)]
pub struct Handler {
    pipeline: Arc<Pipeline>,
    metrics: AdmissionMetrics,
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
        Self { pipeline, metrics }
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
        let context = received.context(span);
        match surface {
            Surface::Pods | Surface::DefaultsPods => {
                let request = review::decode::<PodView<'_>>(body)?;
                let decided = Box::pin(pipeline.admit_pod(surface, &request, context)).await;
                let object = request.object.as_ref();
                let metadata = object.and_then(|pod| pod.metadata.as_ref());
                Ok(self.respond(surface, &request, metadata, decided, received, span))
            }
            Surface::Workloads | Surface::DefaultsWorkloads => {
                let request = review::decode::<WorkloadView<'_>>(body)?;
                let decided = Box::pin(pipeline.admit_workload(surface, &request, context)).await;
                let object = request.object.as_ref();
                let metadata = object.and_then(|workload| workload.metadata.as_deref());
                Ok(self.respond(surface, &request, metadata, decided, received, span))
            }
            Surface::Sources => {
                let request = review::decode::<SourceView<'_>>(body)?;
                let decided = Box::pin(pipeline.admit_defaults_object(&request, context)).await;
                let metadata = request.object.as_ref().map(|object| &object.metadata);
                Ok(self.respond(surface, &request, metadata, decided, received, span))
            }
        }
    }

    /// Renders and records the outcome of a decided review. `metadata` is that of its object.
    fn respond<O>(
        &self,
        surface: Surface,
        request: &AdmissionRequest<'_, O>,
        metadata: Option<&MetadataView<'_>>,
        decided: Result<Outcome, AdmissionError>,
        received: Received<'_>,
        span: &mut Span,
    ) -> ReviewResponse {
        let (outcome, patch) = rendered(decided);
        let owner = metadata.and_then(|metadata| metadata.owner_references.as_ref()?.first());
        let generate_name = metadata.and_then(|metadata| metadata.generate_name.as_ref());
        let fields = AdmissionFields {
            uid: request.uid.as_str(),
            resource: request.resource.resource.as_str(),
            namespace: request.namespace(),
            name: &logged_name(request.name.as_ref()),
            generate_name: &logged_name(generate_name),
            owner: &owner.map(logged_owner).unwrap_or_default(),
            user: &excerpt(request.user_info.username.as_str(), MAX_LOGGED_USER),
            dry_run: request.dry_run.unwrap_or_default(),
            caller: Some(received.caller),
            trace_id: None,
        };
        self.publish(surface, request.operation, fields, &outcome, received, span);
        respond(request.uid.as_str(), &outcome, &patch)
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
        let fields = AdmissionFields {
            uid,
            caller: Some(received.caller),
            ..AdmissionFields::default()
        };
        self.publish(surface, Operation::Other, fields, &outcome, received, span);
        match &error.uid {
            Some(uid) => Ok(unreadable(uid, error.to_string())),
            None => Err(error),
        }
    }

    /// Publishes an event to all sinks.
    fn publish(
        &self,
        surface: Surface,
        operation: Operation,
        fields: AdmissionFields<'_>,
        outcome: &Result<Outcome, AdmissionError>,
        received: Received<'_>,
        span: &mut Span,
    ) {
        let trace_id = span.trace_id();
        let fields = AdmissionFields {
            trace_id: trace_id.as_deref(),
            ..fields
        };
        let event = AdmissionEvent::new(
            surface,
            operation,
            fields,
            outcome,
            received.arrived.elapsed(),
        );
        record_span(span, &event);
        self.metrics.record(&event);
        log(&event);
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

    fn context<'s>(&self, span: &'s Span) -> RequestContext<'s> {
        let deadline = self.arrived + budget(self.query);
        RequestContext {
            arrived: self.arrived,
            deadline,
            span,
            discloses: self.caller.channel.discloses(),
        }
    }
}
