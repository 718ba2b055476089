//! What a workload's template inherits from the annotations around it, in an object under review.

use std::collections::BTreeMap;

use crate::contract::annotations::InvalidAnnotation;
use crate::contract::inherited::{self, Keys};
use crate::contract::request::{AnnotationOwner, AnnotationRef};
use crate::keys::{INHERITED, INHERITED_KEY, PREFIX};
use crate::limits::{MAX_ANNOTATION_BYTES, MAX_VALUE_BYTES};
use crate::view::pod::Annotations;
use crate::view::workload::{TemplateView, WorkloadKind, WorkloadView};
use crate::workload::copies::{self, Layers};
use crate::workload::update::{Told, WorkloadUpdate};

/// Annotations of a workload that do not reach its pods as they stand, by the part of the name after the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreached {
    /// The pods get none of that name.
    pub absent: Vec<String>,
    /// The pods get another value, or one that stands nowhere any more.
    pub stale: Vec<String>,
}

pub(crate) fn layers_of<'r, 'a>(
    object: &'r WorkloadView<'a>,
    template: &'r TemplateView<'a>,
) -> Layers<'r, 'a> {
    Layers {
        beside: object.beside_template(),
        template: template.pod.annotations(),
    }
}

/// Annotations of the contract as authors wrote them, key by key the nearest to the pods.
pub(crate) fn authored<'r>(
    layers: &Layers<'r, '_>,
    farthest: Option<&'r Annotations<'static>>,
    copies: &Keys<'_>,
) -> Keys<'r> {
    let farthest = farthest.into_iter().flat_map(Annotations::ours).collect();
    let mut words = layers.inherited(farthest, copies);
    words.extend(layers.own(copies));
    words
}

/// The Job controller copies a CronJob's jobTemplate, its metadata and its template, and not the metadata of the
/// `CronJob` itself. What came from there stands in the template alone.
pub(crate) fn farthest(
    kind: WorkloadKind,
    object: &WorkloadView<'_>,
    template: &TemplateView<'_>,
) -> Option<Annotations<'static>> {
    let is_of_a_cron_job = kind == WorkloadKind::Job
        && object
            .owners()
            .any(|owner| owner.kind.as_str() == "CronJob");
    let standing = inherited::standing(template.pod.annotations()).filter(|_| is_of_a_cron_job)?;
    inherited::read(standing).ok()
}

/// Whether the annotation of templates stands on metadata.
pub(crate) fn is_misplaced(object: &WorkloadView<'_>) -> bool {
    object
        .beside_template()
        .into_iter()
        .flatten()
        .any(|layer| layer.get(INHERITED_KEY).is_some())
}

impl WorkloadUpdate<'_, '_> {
    /// Annotations beside the template that do not reach its pods as they stand. None, in a stored object of which every
    /// change was reviewed.
    #[must_use]
    pub fn unreached(&self) -> Unreached {
        let layers = layers_of(self.object, self.template);
        let none = Annotations::default();
        let inherited =
            inherited::standing(layers.template).and_then(|value| inherited::read(value).ok());
        let inherited = inherited.as_ref().unwrap_or(&none);
        let copies: Keys<'_> = self
            .copies
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let wanted = authored(&layers, self.farthest.as_ref(), &copies);
        let mut have: Keys<'_> = inherited.ours().collect();
        have.extend(layers.own(&Keys::new()));
        let mut unreached = Unreached::default();
        for (key, value) in &wanted {
            match have.get(key) {
                None => unreached.absent.push((*key).to_owned()),
                Some(there) if there != value => unreached.stale.push((*key).to_owned()),
                Some(_) => {}
            }
        }
        unreached.stale.extend(
            have.keys()
                .filter(|key| !wanted.contains_key(*key))
                .map(|key| (*key).to_owned()),
        );
        unreached
    }

    /// Whether what stands on the metadata can be inherited.
    ///
    /// # Errors
    /// The annotation by which it would be, and why not.
    pub fn check_inherited(&self) -> Result<(), InvalidAnnotation> {
        let wrong = |problem: String| {
            let site = AnnotationRef::new(INHERITED_KEY, AnnotationOwner::Object);
            Err(InvalidAnnotation {
                site,
                problem,
                unsupported: false,
            })
        };
        if is_misplaced(self.object) {
            return wrong(
                "is written by the webhook, on pod templates alone; remove it from the metadata"
                    .to_owned(),
            );
        }
        let Some(value) = self.inheritance() else {
            return Ok(());
        };
        if value.len() > MAX_VALUE_BYTES {
            return wrong(format!(
                "would be {} bytes long, with the {PREFIX} annotations of the workload's metadata; at most {MAX_VALUE_BYTES} are allowed. Write them on the pod template instead",
                value.len()
            ));
        }
        let total = self.template.annotation_bytes(INHERITED) + INHERITED.len() + value.len();
        if total > MAX_ANNOTATION_BYTES {
            return wrong(format!(
                "would make the pod template's annotations {total} bytes long; at most {MAX_ANNOTATION_BYTES} are allowed. Write the {PREFIX} annotations of the workload's metadata on the pod template instead, or shorten its others"
            ));
        }
        Ok(())
    }

    /// What the template's annotation of that name has to be.
    pub(crate) fn inheritance(&self) -> Option<String> {
        let copies: Keys<'_> = self
            .copies
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let farthest = self.farthest.iter().flat_map(Annotations::ours).collect();
        inherited::write(&layers_of(self.object, self.template).inherited(farthest, &copies))
    }

    /// The template's annotations as a change of the metadata or the template leaves them.
    pub(crate) fn brought_up(&self) -> Told {
        let copies = self
            .copies
            .keys()
            .map(|key| (format!("{PREFIX}{key}"), None));
        copies
            .chain([(INHERITED.to_owned(), self.inheritance())])
            .collect()
    }

    /// The template's annotations as they were before the update.
    pub(crate) fn kept(&self, copied: &BTreeMap<String, String>) -> Told {
        let Some(before) = self.old else {
            return Told::new();
        };
        let now = self.template.pod.annotations();
        let lost = copies::dropped(now, copied)
            .map(|(key, value)| (format!("{PREFIX}{key}"), Some(value.clone())));
        let inherited = inherited::standing(before.pod.annotations()).map(str::to_owned);
        lost.chain([(INHERITED.to_owned(), inherited)]).collect()
    }
}
