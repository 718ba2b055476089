//! From a request's body to its answer's: decode, admit, respond, and tell.

use std::sync::Arc;

use tokio::time::Instant;

use super::deadline::budget;
use super::error::AdmissionError;
use super::mutator::{Mutator, Outcome, Surface, Window};
use super::observe::{AdmissionMetrics, Subject, describe, observe};
use super::response::{Answer, respond, unreadable};
use super::review::{self, Operation, Request, SourceView, Unreadable};
use crate::injection::{MetadataView, PodView, Text, WorkloadView};
use crate::traces::Span;

/// Answers reviews.
#[derive(Clone, Debug)]
pub struct Handler {
    mutator: Arc<Mutator>,
    metrics: AdmissionMetrics,
}

impl Handler {
    /// A handler over this mutator.
    #[must_use]
    pub fn new(mutator: Arc<Mutator>, metrics: AdmissionMetrics) -> Self {
        Self { mutator, metrics }
    }

    /// Answers one review. `query` is the URL's, in which the API server states its patience; `arrived` is
    /// when its first byte came, `span` what is traced of it.
    ///
    /// # Errors
    /// [`Unreadable`] only for bytes without a uid: there is nothing that an answer could refer to.
    pub async fn answer(
        &self,
        surface: Surface,
        query: Option<&str>,
        body: &[u8],
        arrived: Instant,
        mut span: Span,
    ) -> Result<Answer, Unreadable> {
        let deadline = arrived + budget(query);
        let answered = match surface {
            Surface::Pods | Surface::DefaultsPods => match review::decode::<PodView<'_>>(body) {
                Ok(request) => {
                    // On the heap: every connection's task would carry room for one.
                    let window = Window { arrived, deadline, span: &span };
                    let outcome = Box::pin(self.mutator.admit_pod(surface, &request, window)).await;
                    let metadata = request.object.as_ref().and_then(|pod| pod.metadata.as_ref());
                    self.tell(surface, &request, metadata, &outcome, arrived, &mut span);
                    Ok(respond(request.uid.as_str(), &outcome))
                }
                Err(error) => Err(error),
            },
            Surface::Workloads | Surface::DefaultsWorkloads => match review::decode::<WorkloadView<'_>>(body) {
                Ok(request) => {
                    let window = Window { arrived, deadline, span: &span };
                    let outcome = Box::pin(self.mutator.admit_workload(surface, &request, window)).await;
                    let metadata = request.object.as_ref().and_then(|object| object.metadata.as_ref());
                    self.tell(surface, &request, metadata, &outcome, arrived, &mut span);
                    Ok(respond(request.uid.as_str(), &outcome))
                }
                Err(error) => Err(error),
            },
            Surface::Sources => match review::decode::<SourceView<'_>>(body) {
                Ok(request) => {
                    let outcome = self.mutator.admit_source(&request);
                    let metadata = request.object.as_ref().map(|object| &object.metadata);
                    self.tell(surface, &request, metadata, &outcome, arrived, &mut span);
                    Ok(respond(request.uid.as_str(), &outcome))
                }
                Err(error) => Err(error),
            },
        };
        let answered = answered.or_else(|error| {
            let outcome = Err(AdmissionError::Unreadable(error.to_string()));
            let uid = error.uid.as_deref().unwrap_or_default();
            let trace_id = span.trace_id();
            let subject = Subject { uid, trace_id: trace_id.as_deref(), ..Subject::default() };
            describe(&mut span, surface, Operation::Other, subject, &outcome);
            observe(&self.metrics, surface, Operation::Other, subject, &outcome, arrived.elapsed());
            match &error.uid {
                Some(uid) => Ok(unreadable(uid, error.to_string())),
                None => Err(error),
            }
        });
        if let Ok(answer) = &answered {
            span.number("code", answer.response.status.as_ref().map_or(200, |status| status.code.into()));
        }
        answered
    }

    fn tell<O>(
        &self,
        surface: Surface,
        request: &Request<'_, O>,
        metadata: Option<&MetadataView<'_>>,
        outcome: &Result<Outcome, AdmissionError>,
        arrived: Instant,
        span: &mut Span,
    ) {
        let name = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default();
        let owner = metadata.and_then(|metadata| metadata.owner_references.as_ref()?.first());
        let owner = owner.map(|owner| format!("{}/{}", owner.kind.as_str(), owner.name.as_str())).unwrap_or_default();
        let trace_id = span.trace_id();
        let subject = Subject {
            uid: request.uid.as_str(),
            resource: request.resource.resource.as_str(),
            namespace: request.namespace(),
            name: &name(&request.name),
            generate_name: &metadata.map(|metadata| name(&metadata.generate_name)).unwrap_or_default(),
            owner: &owner,
            user: request.user_info.username.as_str(),
            dry_run: request.dry_run.unwrap_or_default(),
            trace_id: trace_id.as_deref(),
        };
        describe(span, surface, request.operation, subject, outcome);
        observe(&self.metrics, surface, request.operation, subject, outcome, arrived.elapsed());
    }
}
