//! Requests of retries to the API server: owners, namespaces and awaited secrets are read, annotations and events are
//! written.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tracing::debug;

use super::annotation::ANNOTATION;
use super::owner::Owner;
use super::secret_state::ObjectVersion;
use crate::clock::Clock;
use crate::kubernetes::events::{EventReason, EventRecorder, InvolvedObject};
use crate::kubernetes::{ApiError, ObjectApi, RateLimiter, Representation, Selector};
use crate::telemetry::error_chain::ErrorChain;
use injection::SecretId;

/// Field manager of the annotation, in `managedFields`.
const FIELD_MANAGER: &str = "floe-secrets-controller";

/// Client of the API server with the requests of retries.
#[derive(Debug)]
pub(super) struct RetryCluster {
    /// Watches, lists, writes; not rate limited.
    api: ObjectApi,
    /// Rate limited reads.
    reader: ObjectApi,
    events: EventRecorder,
}

#[derive(Deserialize)]
struct LabelledNamespace {
    metadata: NamespaceLabels,
}

#[derive(Deserialize)]
struct NamespaceLabels {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct VersionedSecret {
    metadata: ObjectVersion,
}

impl RetryCluster {
    pub(super) fn new(api: &ObjectApi, limiter: &Arc<RateLimiter>, clock: Clock) -> Self {
        Self {
            api: api.clone(),
            reader: api.rate_limited(limiter),
            events: EventRecorder::new(api.clone(), clock),
        }
    }

    /// Client without a rate limit, for watches.
    pub(super) fn api(&self) -> &ObjectApi {
        &self.api
    }

    /// Reads an owner; `None` if it does not exist.
    pub(super) async fn owner(&self, owner: &Owner) -> Result<Option<Bytes>, ApiError> {
        self.reader.get(&owner.path(), Representation::Full).await
    }

    /// Whether a namespace's labels match the selector; `false` if the namespace does not exist.
    pub(super) async fn namespace_matches(
        &self,
        name: &str,
        selector: &Selector,
    ) -> Result<bool, ApiError> {
        let path = format!("/api/v1/namespaces/{name}");
        let body = self.reader.get(&path, Representation::Metadata).await?;
        let namespace =
            body.and_then(|body| serde_json::from_slice::<LabelledNamespace>(&body).ok());
        Ok(namespace.is_some_and(|namespace| selector.matches(&namespace.metadata.labels)))
    }

    /// Reads a Secret's uid and version, from its metadata only.
    pub(super) async fn object_version(
        &self,
        namespace: &str,
        secret: &SecretId,
    ) -> Result<Option<ObjectVersion>, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", secret.name);
        let body = self.reader.get(&path, Representation::Metadata).await?;
        Ok(body
            .and_then(|body| serde_json::from_slice::<VersionedSecret>(&body).ok())
            .map(|secret| secret.metadata))
    }

    /// Writes the annotation that triggers a retry, unless the owner was replaced by another object of the same name.
    pub(super) async fn annotate(&self, owner: &Owner, value: &str) -> Result<(), ApiError> {
        let patch = json!({"metadata": {"uid": owner.uid, "annotations": {ANNOTATION: value}}});
        let url = format!("{}?fieldManager={FIELD_MANAGER}", owner.path());
        self.api.merge(&url, &patch).await
    }

    /// Publishes an event about an owner. A failure is only logged.
    pub(super) async fn publish_event(&self, owner: &Owner, reason: EventReason, message: &str) {
        let Owner {
            uid,
            kind,
            namespace,
            name,
        } = owner;
        let about = InvolvedObject {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace,
            name,
            uid,
        };
        if let Err(error) = self.events.publish(&about, reason, message).await {
            debug!(error = %ErrorChain(&error), "cannot write an event");
        }
    }
}
