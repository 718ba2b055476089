//! Defaults that apply to one pod.

use std::sync::Arc;

use super::object::DefaultsObject;
use crate::backend::BackendError;
use injection::{AnnotationLayers, Annotations, InvalidAnnotation};

/// Defaults that apply to a pod, as far as they exist.
#[derive(Clone, Debug, Default)]
pub struct AppliedDefaults {
    /// Defaults of its Namespace.
    pub namespace: Option<Arc<DefaultsObject>>,
    /// Defaults of its ServiceAccount.
    pub service_account: Option<Arc<DefaultsObject>>,
    pub(super) mistakes: Vec<InvalidAnnotation>,
    pub(super) unconfirmed: Option<BackendError>,
}

impl AppliedDefaults {
    /// Defaults that are too large to be read. A pod to which they apply is refused with these sentences.
    #[must_use]
    pub fn mistakes(&self) -> &[InvalidAnnotation] {
        &self.mistakes
    }

    /// Layers of annotations of a pod in `namespace`, with `object` as the nearest.
    #[must_use]
    pub fn layers<'a>(
        &'a self,
        object: Option<&'a Annotations<'a>>,
        namespace: &'a str,
        service_account: &'a str,
    ) -> AnnotationLayers<'a> {
        AnnotationLayers {
            object,
            service_account: self
                .service_account
                .as_deref()
                .map(|account| (service_account, &account.annotations)),
            namespace: self
                .namespace
                .as_deref()
                .map(|object| (namespace, &object.annotations)),
        }
    }

    /// Checks that "nothing to inject" may rest on these defaults.
    ///
    /// # Errors
    /// The error of the API server, if stale annotations replace its response: they can only add to a pod.
    pub fn confirmed(&self) -> Result<(), BackendError> {
        self.unconfirmed.clone().map_or(Ok(()), Err)
    }
}
