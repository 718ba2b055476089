//! From a request's body to its answer's: decode, admit, respond, and tell.

use std::sync::Arc;

use tokio::time::Instant;

use super::deadline::budget;
use super::error::AdmissionError;
use super::mutator::{Mutator, Outcome, Surface, Window};
use super::observe::{AdmissionMetrics, Subject, observe};
use super::response::{Answer, respond, unreadable};
use super::review::{self, Operation, Request, SourceView, Unreadable};
use crate::injection::{MetadataView, PodView, Text, WorkloadView};

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
    /// when its first byte came.
    ///
    /// # Errors
    /// [`Unreadable`] only for bytes without a uid: there is nothing that an answer could refer to.
    pub async fn answer(
        &self,
        surface: Surface,
        query: Option<&str>,
        body: &[u8],
        arrived: Instant,
    ) -> Result<Answer, Unreadable> {
        let window = Window { arrived, deadline: arrived + budget(query) };
        let answered = match surface {
            Surface::Pods | Surface::DefaultsPods => match review::decode::<PodView<'_>>(body) {
                Ok(request) => {
                    // On the heap: every connection's task would carry room for one.
                    let outcome = Box::pin(self.mutator.admit_pod(surface, &request, window)).await;
                    let metadata = request.object.as_ref().and_then(|pod| pod.metadata.as_ref());
                    self.tell(surface, &request, metadata, &outcome, arrived);
                    Ok(respond(request.uid.as_str(), &outcome))
                }
                Err(error) => Err(error),
            },
            Surface::Workloads | Surface::DefaultsWorkloads => match review::decode::<WorkloadView<'_>>(body) {
                Ok(request) => {
                    let outcome = Box::pin(self.mutator.admit_workload(surface, &request, window)).await;
                    let metadata = request.object.as_ref().and_then(|object| object.metadata.as_ref());
                    self.tell(surface, &request, metadata, &outcome, arrived);
                    Ok(respond(request.uid.as_str(), &outcome))
                }
                Err(error) => Err(error),
            },
            Surface::Sources => match review::decode::<SourceView<'_>>(body) {
                Ok(request) => {
                    let outcome = self.mutator.admit_source(&request);
                    self.tell(surface, &request, request.object.as_ref().map(|o| &o.metadata), &outcome, arrived);
                    Ok(respond(request.uid.as_str(), &outcome))
                }
                Err(error) => Err(error),
            },
        };
        answered.or_else(|error| {
            let outcome = Err(AdmissionError::Unreadable(error.to_string()));
            let uid = error.uid.as_deref().unwrap_or_default();
            let subject = Subject { uid, ..Subject::default() };
            observe(&self.metrics, surface, Operation::Other, subject, &outcome, arrived.elapsed());
            match &error.uid {
                Some(uid) => Ok(unreadable(uid, error.to_string())),
                None => Err(error),
            }
        })
    }

    fn tell<O>(
        &self,
        surface: Surface,
        request: &Request<'_, O>,
        metadata: Option<&MetadataView<'_>>,
        outcome: &Result<Outcome, AdmissionError>,
        arrived: Instant,
    ) {
        let name = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default();
        let owner = metadata.and_then(|metadata| metadata.owner_references.as_ref()?.first());
        let owner = owner.map(|owner| format!("{}/{}", owner.kind.as_str(), owner.name.as_str())).unwrap_or_default();
        let subject = Subject {
            uid: request.uid.as_str(),
            resource: request.resource.resource.as_str(),
            namespace: request.namespace(),
            name: &name(&request.name),
            generate_name: &metadata.map(|metadata| name(&metadata.generate_name)).unwrap_or_default(),
            owner: &owner,
            user: request.user_info.username.as_str(),
            dry_run: request.dry_run.unwrap_or_default(),
        };
        observe(&self.metrics, surface, request.operation, subject, outcome, arrived.elapsed());
    }
}
