//! Propagation of a workload's annotations to its pods, by the template's annotation `secrets.floe.dev/inherited`.

use std::collections::BTreeMap;

use crate::contract::decision::InvalidAnnotation;
use crate::contract::inherited::{self, Keys};
use crate::contract::request::{AnnotationOwner, AnnotationRef};
use crate::keys::{INHERITED, INHERITED_KEY, PREFIX};
use crate::limits::{MAX_ANNOTATION_BYTES, MAX_VALUE_BYTES};
use crate::view::annotations::Annotations;
use crate::view::workload::{TemplateView, WorkloadKind, WorkloadView};
use crate::workload::template_layers::{self, TemplateLayers};
use crate::workload::update::{AnnotationChanges, WorkloadUpdate};

/// Annotations of a workload that do not reach its pods unchanged, by the part of the name after the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreached {
    /// Annotations that the pods do not get.
    pub absent: Vec<String>,
    /// Annotations that the pods get with another value, or that were removed from the workload.
    pub stale: Vec<String>,
}

pub(crate) fn layers_of<'r, 'a>(
    object: &'r WorkloadView<'a>,
    template: &'r TemplateView<'a>,
) -> TemplateLayers<'r, 'a> {
    TemplateLayers {
        beside: object.beside_template(),
        template: template.pod.annotations(),
    }
}

/// Annotations of the contract as authors wrote them; of each name, the nearest to the pods.
pub(crate) fn author_annotations<'r>(
    layers: &TemplateLayers<'r, '_>,
    farthest: Option<&'r Annotations<'static>>,
    copies: &Keys<'_>,
) -> Keys<'r> {
    let farthest = farthest.into_iter().flat_map(Annotations::ours).collect();
    let mut annotations = layers.inherited(farthest, copies);
    annotations.extend(layers.own(copies));
    annotations
}

/// Annotations that a Job's template inherited from its `CronJob`. The Job controller copies the jobTemplate, its
/// metadata and its template, but not the metadata of the `CronJob`, so the template is the only place that has them.
pub(crate) fn farthest(
    kind: WorkloadKind,
    object: &WorkloadView<'_>,
    template: &TemplateView<'_>,
) -> Option<Annotations<'static>> {
    let is_of_a_cron_job = kind == WorkloadKind::Job
        && object
            .owners()
            .any(|owner| owner.kind.as_str() == "CronJob");
    let value =
        inherited::inherited_value(template.pod.annotations()).filter(|_| is_of_a_cron_job)?;
    inherited::read(value).ok()
}

/// Whether the annotation of templates is on metadata beside the template.
pub(crate) fn is_misplaced(object: &WorkloadView<'_>) -> bool {
    object
        .beside_template()
        .into_iter()
        .flatten()
        .any(|layer| layer.get(INHERITED_KEY).is_some())
}

fn invalid_inherited(problem: String) -> InvalidAnnotation {
    InvalidAnnotation {
        site: AnnotationRef::new(INHERITED_KEY, AnnotationOwner::Object),
        problem,
        unsupported: false,
    }
}

impl WorkloadUpdate<'_, '_> {
    /// Annotations beside the template that do not reach its pods unchanged. There are none in a stored object if every
    /// change of it was reviewed.
    #[must_use]
    pub fn unreached(&self) -> Unreached {
        let layers = layers_of(self.object, self.template);
        let none = Annotations::default();
        let inherited = inherited::inherited_value(layers.template)
            .and_then(|value| inherited::read(value).ok());
        let inherited = inherited.as_ref().unwrap_or(&none);
        let desired = author_annotations(&layers, self.farthest.as_ref(), &self.copied_keys());
        let mut effective: Keys<'_> = inherited.ours().collect();
        effective.extend(layers.own(&Keys::new()));
        let mut unreached = Unreached::default();
        for (key, value) in &desired {
            match effective.get(key) {
                None => unreached.absent.push((*key).to_owned()),
                Some(other) if other != value => unreached.stale.push((*key).to_owned()),
                Some(_) => {}
            }
        }
        unreached.stale.extend(
            effective
                .keys()
                .filter(|key| !desired.contains_key(*key))
                .map(|key| (*key).to_owned()),
        );
        unreached
    }

    /// Checks that the template can inherit the annotations of the metadata.
    ///
    /// # Errors
    /// The annotation that cannot be written, or that is on the metadata.
    pub fn check_inherited(&self) -> Result<(), InvalidAnnotation> {
        if is_misplaced(self.object) {
            return Err(invalid_inherited(
                "is written by the webhook, on pod templates alone; remove it from the metadata"
                    .to_owned(),
            ));
        }
        let Some(value) = self.inherited_annotation() else {
            return Ok(());
        };
        if value.len() > MAX_VALUE_BYTES {
            return Err(invalid_inherited(format!(
                "would be {} bytes long, with the {PREFIX} annotations of the workload's metadata; at most {MAX_VALUE_BYTES} are allowed. Write them on the pod template instead",
                value.len()
            )));
        }
        let total = self.template.annotation_bytes(INHERITED) + INHERITED.len() + value.len();
        if total > MAX_ANNOTATION_BYTES {
            return Err(invalid_inherited(format!(
                "would make the pod template's annotations {total} bytes long; at most {MAX_ANNOTATION_BYTES} are allowed. Write the {PREFIX} annotations of the workload's metadata on the pod template instead, or shorten its others"
            )));
        }
        Ok(())
    }

    fn copied_keys(&self) -> Keys<'_> {
        self.copies
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    /// Value that the template's annotation should have.
    fn inherited_annotation(&self) -> Option<String> {
        let farthest = self.farthest.iter().flat_map(Annotations::ours).collect();
        let layers = layers_of(self.object, self.template);
        inherited::write(&layers.inherited(farthest, &self.copied_keys()))
    }

    /// Changes to the template's annotations after a change of the metadata or of the template.
    pub(crate) fn propagate(&self) -> AnnotationChanges {
        let copies = self
            .copies
            .keys()
            .map(|key| (format!("{PREFIX}{key}"), None));
        copies
            .chain([(INHERITED.to_owned(), self.inherited_annotation())])
            .collect()
    }

    /// Changes that restore the template's annotations as they were before the update.
    pub(crate) fn preserve(&self, copied: &BTreeMap<String, String>) -> AnnotationChanges {
        let Some(old) = self.old else {
            return AnnotationChanges::new();
        };
        let current = self.template.pod.annotations();
        let lost = template_layers::dropped(current, copied)
            .map(|(key, value)| (format!("{PREFIX}{key}"), Some(value.clone())));
        let inherited = inherited::inherited_value(old.pod.annotations()).map(str::to_owned);
        lost.chain([(INHERITED.to_owned(), inherited)]).collect()
    }
}
