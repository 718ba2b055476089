//! From a request's body to its answer's: decode, admit, render, tell, and respond.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::caller::Caller;
use super::deadline::budget;
use super::error::AdmissionError;
use super::mutator::{Mutator, Outcome, Surface, Window};
use super::observe::{AdmissionMetrics, Subject, describe, observe};
use super::response::{Answer, PatchTooLong, render, respond, unreadable};
use super::review::{self, Operation, Request, SourceView, Unreadable};
use crate::injection::{MetadataView, PodView, Text, WorkloadView};
use crate::redact::excerpt;
use crate::traces::Span;

/// The longest texts of a review that are logged and traced, in bytes. `generateName` and owners are not checked by
/// anybody before admission.
const MAX_LOGGED_NAME: usize = 253;
const MAX_LOGGED_OWNER: usize = 320;
const MAX_LOGGED_USER: usize = 1024;

/// Answers reviews.
#[derive(Clone, Debug)]
pub struct Handler {
    mutator: Arc<Mutator>,
    metrics: AdmissionMetrics,
}

/// How a review came in.
#[derive(Clone, Copy, Debug)]
pub struct Received<'q> {
    /// The URL's query, in which the API server states its patience.
    pub query: Option<&'q str>,
    /// When the review's first byte came.
    pub arrived: Instant,
    /// Its sender.
    pub caller: Caller,
}

impl Handler {
    /// A handler over this mutator.
    #[must_use]
    pub fn new(mutator: Arc<Mutator>, metrics: AdmissionMetrics) -> Self {
        Self { mutator, metrics }
    }

    /// Answers one review. `span` is what is traced of it.
    ///
    /// # Errors
    /// [`Unreadable`] only for bytes without a uid: there is nothing that an answer could refer to.
    pub async fn answer(
        &self,
        surface: Surface,
        received: Received<'_>,
        body: &[u8],
        mut span: Span,
    ) -> Result<Answer, Unreadable> {
        let answered = match surface {
            Surface::Pods | Surface::DefaultsPods => match review::decode::<PodView<'_>>(body) {
                Ok(request) => {
                    // On the heap: every connection's task would carry room for one.
                    let window = received.window(&span);
                    let outcome = Box::pin(self.mutator.admit_pod(surface, &request, window)).await;
                    let metadata = request.object.as_ref().and_then(|pod| pod.metadata.as_ref());
                    Ok(self.finish(surface, &request, metadata, outcome, received, &mut span))
                }
                Err(error) => Err(error),
            },
            Surface::Workloads | Surface::DefaultsWorkloads => match review::decode::<WorkloadView<'_>>(body) {
                Ok(request) => {
                    let window = received.window(&span);
                    let outcome = Box::pin(self.mutator.admit_workload(surface, &request, window)).await;
                    let metadata = request.object.as_ref().and_then(|object| object.metadata.as_deref());
                    Ok(self.finish(surface, &request, metadata, outcome, received, &mut span))
                }
                Err(error) => Err(error),
            },
            Surface::Sources => match review::decode::<SourceView<'_>>(body) {
                Ok(request) => {
                    let window = received.window(&span);
                    let outcome = Box::pin(self.mutator.admit_source(&request, window)).await;
                    let metadata = request.object.as_ref().map(|object| &object.metadata);
                    Ok(self.finish(surface, &request, metadata, outcome, received, &mut span))
                }
                Err(error) => Err(error),
            },
        };
        let answered = answered.or_else(|error| self.refuse_unreadable(surface, error, received, &mut span));
        if let Ok(answer) = &answered {
            span.number("code", answer.response.status.as_ref().map_or(200, |status| status.code.into()));
        }
        answered
    }

    /// Renders what was decided, tells about it, and answers.
    fn finish<O>(
        &self,
        surface: Surface,
        request: &Request<'_, O>,
        metadata: Option<&MetadataView<'_>>,
        outcome: Result<Outcome, AdmissionError>,
        received: Received<'_>,
        span: &mut Span,
    ) -> Answer {
        let rendered = outcome.and_then(|outcome| match render(&outcome) {
            Ok(patch) => Ok((outcome, patch)),
            Err(PatchTooLong) => Err(AdmissionError::PatchTooLong),
        });
        let (outcome, patch) = match rendered {
            Ok((outcome, patch)) => (Ok(outcome), patch),
            Err(error) => (Err(error), Vec::new()),
        };
        self.tell(surface, request, metadata, &outcome, received, span);
        respond(request.uid.as_str(), &outcome, &patch)
    }

    fn refuse_unreadable(
        &self,
        surface: Surface,
        error: Unreadable,
        received: Received<'_>,
        span: &mut Span,
    ) -> Result<Answer, Unreadable> {
        let outcome = Err(AdmissionError::Unreadable(error.to_string()));
        let uid = error.uid.as_deref().unwrap_or_default();
        let trace_id = span.trace_id();
        let subject =
            Subject { uid, trace_id: trace_id.as_deref(), caller: Some(received.caller), ..Subject::default() };
        describe(span, surface, Operation::Other, subject, &outcome);
        observe(&self.metrics, surface, Operation::Other, subject, &outcome, received.arrived.elapsed());
        match &error.uid {
            Some(uid) => Ok(unreadable(uid, error.to_string())),
            None => Err(error),
        }
    }

    fn tell<O>(
        &self,
        surface: Surface,
        request: &Request<'_, O>,
        metadata: Option<&MetadataView<'_>>,
        outcome: &Result<Outcome, AdmissionError>,
        received: Received<'_>,
        span: &mut Span,
    ) {
        let owner = metadata.and_then(|metadata| metadata.owner_references.as_ref()?.first());
        let owner = owner.map(|owner| {
            let (kind, name) = (excerpt(owner.kind.as_str(), MAX_LOGGED_OWNER), owner.name.as_str());
            excerpt(&format!("{kind}/{}", excerpt(name, MAX_LOGGED_OWNER)), MAX_LOGGED_OWNER).into_owned()
        });
        let trace_id = span.trace_id();
        let subject = Subject {
            uid: request.uid.as_str(),
            resource: request.resource.resource.as_str(),
            namespace: request.namespace(),
            name: &logged_name(request.name.as_ref()),
            generate_name: &logged_name(metadata.and_then(|metadata| metadata.generate_name.as_ref())),
            owner: &owner.unwrap_or_default(),
            user: &excerpt(request.user_info.username.as_str(), MAX_LOGGED_USER),
            dry_run: request.dry_run.unwrap_or_default(),
            caller: Some(received.caller),
            trace_id: trace_id.as_deref(),
        };
        describe(span, surface, request.operation, subject, outcome);
        observe(&self.metrics, surface, request.operation, subject, outcome, received.arrived.elapsed());
    }
}

fn logged_name<'t>(text: Option<&'t Text<'_>>) -> Cow<'t, str> {
    text.map(|text| excerpt(text.as_str(), MAX_LOGGED_NAME)).unwrap_or_default()
}

impl Received<'_> {
    /// A review of somebody in this process: benchmarks, and tests.
    #[must_use]
    pub fn here(query: Option<&str>) -> Received<'_> {
        Received { query, arrived: Instant::now(), caller: Caller::TRUSTED }
    }

    /// The time and the rights of a review that came in so.
    fn window<'s>(&self, span: &'s Span) -> Window<'s> {
        let deadline = self.arrived + budget(self.query);
        Window { arrived: self.arrived, deadline, span, discloses: self.caller.channel.discloses() }
    }
}
