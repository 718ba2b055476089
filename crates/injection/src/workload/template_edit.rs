//! Changes to a pod template and to the annotations around it.

use std::collections::BTreeMap;

use crate::view::annotations::Annotations;
use crate::workload::reconcile::TemplateUpdate;
use crate::workload::update::AnnotationChanges;

/// Changes to a map of annotations, each with the old value, which the patch tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnnotationEdit {
    /// Old and new value by full name.
    pub entries: BTreeMap<String, (Option<String>, Option<String>)>,
    pub no_metadata: bool,
    pub no_map: bool,
}

impl AnnotationEdit {
    /// Changes that are not in effect already.
    pub fn of(
        annotations: Option<&Annotations<'_>>,
        no_metadata: bool,
        changes: AnnotationChanges,
    ) -> Self {
        let current = |key: &str| {
            annotations
                .and_then(|annotations| annotations.value(key))
                .map(str::to_owned)
        };
        let entries = changes
            .into_iter()
            .map(|(key, new)| (key.clone(), (current(&key), new)));
        Self {
            entries: entries.filter(|(_, (old, new))| old != new).collect(),
            no_metadata,
            no_map: annotations.is_none(),
        }
    }
}

/// Changes to a pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateEdit {
    pub annotations: AnnotationEdit,
    /// Whether to set or to remove the label of injected objects.
    pub label: Option<bool>,
    pub no_labels: bool,
    pub update: TemplateUpdate,
}

impl TemplateEdit {
    pub fn is_empty(&self) -> bool {
        self.annotations.entries.is_empty()
            && self.label.is_none()
            && self.update.removals.is_empty()
            && self.update.containers.is_empty()
    }
}
