//! Secrets that the object of a review requests, for its record in the audit trail.

use std::sync::OnceLock;

use injection::{AnnotationOwner, InjectionRequest, SecretId};

/// A requested secret, and the object whose annotation requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedSecret {
    pub secret: SecretId,
    pub origin: SecretOrigin,
}

/// Object whose annotation requests a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    Object,
    /// The pod template, which inherited the annotation of its workload.
    Workload,
    /// The `ServiceAccount` of the pod, by name.
    ServiceAccount(Box<str>),
    Namespace,
}

/// Secrets of one review. Set by the pipeline as soon as the annotations are parsed, so that they are known whatever the
/// decision is; not set if the review requests nothing new.
#[derive(Debug, Default)]
pub struct SecretRequests(OnceLock<Vec<RequestedSecret>>);

impl SecretRequests {
    /// Sets the secrets of a request.
    pub(super) fn set(&self, request: &InjectionRequest) {
        let sites = request.secret_sites().into_iter();
        let requested = sites.map(|(secret, site)| RequestedSecret {
            secret: secret.clone(),
            origin: SecretOrigin::of(&site.origin),
        });
        // A review is parsed once.
        let _ = self.0.set(requested.collect());
    }

    /// Sets that the review has no known secrets: defaults could not be read, or its annotations request none any more.
    /// Secrets that are set already stay.
    pub(super) fn set_none_known(&self) {
        let _ = self.0.set(Vec::new());
    }

    /// `None` if the review requests nothing.
    #[must_use]
    pub fn get(&self) -> Option<&[RequestedSecret]> {
        self.0.get().map(Vec::as_slice)
    }
}

impl SecretOrigin {
    fn of(owner: &AnnotationOwner) -> Self {
        match owner {
            AnnotationOwner::Object => Self::Object,
            AnnotationOwner::Workload => Self::Workload,
            AnnotationOwner::ServiceAccount(name) => Self::ServiceAccount(name.as_str().into()),
            AnnotationOwner::Namespace(_) => Self::Namespace,
        }
    }
}
