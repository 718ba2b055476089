//! Explainer: reads an object and what decides about it, with the caller's permissions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use injection::Sidecar;

use super::error::ExplainError;
use super::output::Explanation;
use super::target::ExplainTarget;
use crate::defaults::{Defaults, KubernetesDefaults};
use crate::kubernetes::{ObjectApi, Representation};

/// Time limit of reading the defaults of one pod.
pub(super) const DEFAULTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Explains objects.
#[derive(Debug)]
pub struct Explainer {
    pub(super) api: ObjectApi,
    pub(super) defaults: Defaults,
    /// Containers that are injected only if an annotation names them.
    pub(super) sidecars: Vec<Sidecar>,
    /// Namespaces whose objects are never mutated.
    pub(super) exempt: BTreeSet<String>,
}

impl Explainer {
    /// Creates an explainer with the permissions of the client and these settings of the webhook.
    #[must_use]
    pub fn new(api: ObjectApi, sidecars: Vec<Sidecar>, exempt: BTreeSet<String>) -> Self {
        let defaults = Defaults::for_background_reads(Arc::new(KubernetesDefaults(api.client())));
        Self {
            api,
            defaults,
            sidecars,
            exempt,
        }
    }

    /// Explains an object of a namespace.
    ///
    /// # Errors
    /// The object, or something that decides about it, could not be read. What may not be read is a note instead.
    pub async fn explain(
        &self,
        namespace: &str,
        target: &ExplainTarget,
    ) -> Result<Explanation, ExplainError> {
        let body = self.read_object(namespace, target).await?;
        match target.workload() {
            None => self.explain_pod(namespace, target, &body).await,
            Some(kind) => self.explain_workload(namespace, target, kind, &body).await,
        }
    }

    async fn read_object(
        &self,
        namespace: &str,
        target: &ExplainTarget,
    ) -> Result<Bytes, ExplainError> {
        let path = target.path(namespace);
        let body = self.api.get(&path, Representation::Full).await?;
        body.ok_or_else(|| ExplainError::NotFound {
            kind: target.kind,
            name: target.name.clone(),
            namespace: namespace.to_owned(),
        })
    }
}

impl ExplainTarget {
    /// An explanation without sentences.
    pub(super) fn explanation(&self, namespace: &str) -> Explanation {
        Explanation {
            kind: self.kind,
            namespace: namespace.to_owned(),
            name: self.name.clone(),
            ..Explanation::default()
        }
    }

    /// Error about a body that is not an object of the kind.
    pub(super) fn unreadable(&self, namespace: &str) -> ExplainError {
        ExplainError::Unreadable {
            kind: self.kind,
            name: self.name.clone(),
            namespace: namespace.to_owned(),
        }
    }
}
