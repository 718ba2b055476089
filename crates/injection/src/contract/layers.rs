//! Layers of annotations that apply to a pod: its own, those that its template inherits, and defaults.

use std::collections::BTreeMap;

use crate::contract::inherited;
use crate::contract::request::{AnnotationOwner, AnnotationRef};
use crate::keys::{INHERITED_KEY, RECORD_KEY};
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

/// The nearest annotation of a name, and the owners of those that it overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingAnnotation {
    /// The annotation that counts.
    pub site: AnnotationRef,
    /// Owners of annotations of the same name that do not count, nearest first.
    pub overridden: Vec<AnnotationOwner>,
}

impl<'a> AnnotationLayers<'a> {
    /// The annotations that count, in the order of their names, with those that they override. An inherited value that
    /// cannot be read counts as absent; [`crate::parse()`] reports it.
    #[must_use]
    pub fn deciding(&self) -> Vec<DecidingAnnotation> {
        let inherited =
            inherited::inherited_value(self.object).and_then(|value| inherited::read(value).ok());
        let mut deciding: BTreeMap<&str, DecidingAnnotation> = BTreeMap::new();
        for (annotations, owner) in self.farthest_first(inherited.as_ref()) {
            let is_request = |key: &str| key != RECORD_KEY && key != INHERITED_KEY;
            for (key, _) in annotations.ours().filter(|(key, _)| is_request(key)) {
                let site = AnnotationRef::new(key, owner.clone());
                if let Some(nearest) = deciding.get_mut(key) {
                    let farther = std::mem::replace(&mut nearest.site, site).origin;
                    nearest.overridden.insert(0, farther);
                } else {
                    let overridden = Vec::new();
                    deciding.insert(key, DecidingAnnotation { site, overridden });
                }
            }
        }
        deciding.into_values().collect()
    }

    /// The layers that exist, farthest from the pod first.
    fn farthest_first<'l>(
        &self,
        inherited: Option<&'l Annotations<'static>>,
    ) -> impl Iterator<Item = (&'l Annotations<'l>, AnnotationOwner)>
    where
        'a: 'l,
    {
        let layers: [Option<(&'l Annotations<'l>, AnnotationOwner)>; 4] = [
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
        layers.into_iter().flatten()
    }

    /// The nearest annotation of each name.
    pub(crate) fn effective(
        &self,
        inherited: Option<&'a Annotations<'static>>,
    ) -> EffectiveAnnotations<'a> {
        let mut effective = BTreeMap::new();
        for (annotations, owner) in self.farthest_first(inherited) {
            let is_read = |key: &str| key != INHERITED_KEY || owner.is_default();
            for (key, value) in annotations.ours().filter(|(key, _)| is_read(key)) {
                effective.insert(key, (value, owner.clone()));
            }
        }
        effective
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_annotation_decides_and_overrides_the_others() {
        let own = |pairs: &[(&'static str, &'static str)]| {
            Annotations::from_pairs(
                pairs
                    .iter()
                    .map(|(key, value)| (format!("secrets.floe.dev/{key}"), *value)),
            )
        };
        let object = own(&[
            ("env-from", "a"),
            ("inherited", r#"{"env-from":"b","reload":"off"}"#),
            ("injected", "{}"),
        ]);
        let (account, namespace) = (own(&[("reload", "auto")]), own(&[("env-from", "c")]));
        let layers = AnnotationLayers {
            object: Some(&object),
            service_account: Some(("etl", &account)),
            namespace: Some(("jobs", &namespace)),
        };
        let expected = [
            DecidingAnnotation {
                site: AnnotationRef::new("env-from", AnnotationOwner::Object),
                overridden: vec![
                    AnnotationOwner::Workload,
                    AnnotationOwner::Namespace("jobs".to_owned()),
                ],
            },
            DecidingAnnotation {
                site: AnnotationRef::new("reload", AnnotationOwner::Workload),
                overridden: vec![AnnotationOwner::ServiceAccount("etl".to_owned())],
            },
        ];
        assert_eq!(layers.deciding(), expected);
    }
}
