//! Layers of annotations that apply to a pod: its own, those that its template inherits, and defaults.

use std::collections::BTreeMap;

use crate::contract::request::AnnotationOwner;
use crate::keys::INHERITED_KEY;
use crate::view::annotations::Annotations;

/// Annotations that apply to a pod, nearest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnnotationLayers<'a> {
    /// Annotations of the pod, or of its template.
    pub object: Option<&'a Annotations<'a>>,
    /// Name and annotations of the service account, if defaults apply.
    pub service_account: Option<(&'a str, &'a Annotations<'a>)>,
    /// Name and annotations of the namespace, if defaults apply.
    pub namespace: Option<(&'a str, &'a Annotations<'a>)>,
}

/// Annotations by the part of the name after the prefix, each with its owner.
pub(crate) type EffectiveAnnotations<'a> = BTreeMap<&'a str, (&'a str, AnnotationOwner)>;

impl<'a> AnnotationLayers<'a> {
    /// The nearest annotation of each name.
    pub(crate) fn effective(
        &self,
        inherited: Option<&'a Annotations<'static>>,
    ) -> EffectiveAnnotations<'a> {
        let mut effective = BTreeMap::new();
        let farthest_first = [
            self.namespace.map(|(name, annotations)| {
                (annotations, AnnotationOwner::Namespace(name.to_owned()))
            }),
            self.service_account.map(|(name, annotations)| {
                (
                    annotations,
                    AnnotationOwner::ServiceAccount(name.to_owned()),
                )
            }),
            inherited.map(|annotations| (annotations, AnnotationOwner::Workload)),
            self.object
                .map(|annotations| (annotations, AnnotationOwner::Object)),
        ];
        for (annotations, owner) in farthest_first.into_iter().flatten() {
            let is_read = |key: &str| key != INHERITED_KEY || owner.is_default();
            for (key, value) in annotations.ours().filter(|(key, _)| is_read(key)) {
                effective.insert(key, (value, owner.clone()));
            }
        }
        effective
    }
}
