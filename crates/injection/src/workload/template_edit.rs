//! What is changed in a pod template and in the annotations around it.

use std::collections::BTreeMap;

use crate::view::pod::Annotations;
use crate::workload::revise::TemplateUpdate;

/// Changes to a map of annotations; values are compared with what is there when the patch is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// By whole name: what is there, and what shall be.
    pub entries: BTreeMap<String, (Option<String>, Option<String>)>,
    pub no_metadata: bool,
    pub no_map: bool,
}

impl Changes {
    /// Those of `wanted` that are not so already.
    pub fn of(
        annotations: Option<&Annotations<'_>>,
        no_metadata: bool,
        wanted: BTreeMap<String, Option<String>>,
    ) -> Self {
        let there = |key: &str| {
            annotations
                .and_then(|annotations| annotations.value(key))
                .map(str::to_owned)
        };
        let entries = wanted
            .into_iter()
            .map(|(key, wanted)| (key.clone(), (there(&key), wanted)));
        Self {
            entries: entries
                .filter(|(_, (there, wanted))| there != wanted)
                .collect(),
            no_metadata,
            no_map: annotations.is_none(),
        }
    }
}

/// Changes to a pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateEdit {
    pub annotations: Changes,
    /// Our label: set it, or take it away.
    pub label: Option<bool>,
    pub no_labels: bool,
    pub revision: TemplateUpdate,
}

impl TemplateEdit {
    pub fn is_empty(&self) -> bool {
        self.annotations.entries.is_empty()
            && self.label.is_none()
            && self.revision.withdrawn.is_empty()
            && self.revision.containers.is_empty()
    }
}
