//! State of a template under review: whether the webhook injected it, and what an update dropped.

use crate::keys::{INHERITED_KEY, INJECTED, RECORD_KEY};
use crate::record::Record;
use crate::view::cow_str::CowStr;
use crate::view::pod::PodView;
use crate::workload::reconcile::{TemplateUpdate, restore};
use crate::workload::template_edit::{AnnotationEdit, TemplateEdit};
use crate::workload::update::{AnnotationChanges, WorkloadUpdate};

impl<'r, 'a> WorkloadUpdate<'r, 'a> {
    /// The pod template.
    #[must_use]
    pub fn pod(&self) -> &'r PodView<'a> {
        &self.template.pod
    }

    /// Whether the template is from an earlier revision, by its annotations of the webhook, which no author writes. The
    /// template before the update is then no evidence about its entries.
    pub(crate) fn is_rollback(&self) -> bool {
        let value = |pod: &'r PodView<'a>, key: &str| {
            pod.annotations()
                .and_then(|annotations| annotations.get(key))
        };
        let differs = |key: &str| {
            self.old
                .is_some_and(|old| value(&old.pod, key) != value(self.pod(), key))
        };
        value(self.pod(), RECORD_KEY).is_some() && (differs(RECORD_KEY) || differs(INHERITED_KEY))
    }

    /// Whether the webhook wrote the entries that the template's record names into a template. The record has a mark
    /// for it; for a template by an earlier version, the workload's record has. A template that is rolled back has its
    /// own record. Entries that `inject` writes offline are the author's.
    pub(crate) fn is_injected(&self, recorded: &Record) -> bool {
        recorded.template || self.in_template.template
    }

    /// Whether the template was written anew, without the record: entries that the record names and that exist anyway
    /// are the author's. The label distinguishes it from a `kubectl apply` without the last annotation of the author,
    /// which removes all annotations of the template and nothing else.
    pub(crate) fn is_replaced(&self) -> bool {
        self.in_template.is_dropped_from(self.pod().annotations()) && !self.is_labelled()
    }

    fn is_labelled(&self) -> bool {
        let label = self
            .pod()
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref()?.injected.as_ref());
        label.map(CowStr::as_str) == Some("true")
    }

    /// Restores injected entries that were in the template before the update.
    pub(crate) fn restored(&self, recorded: &Record) -> TemplateUpdate {
        match self.old {
            Some(old) if self.is_injected(recorded) => {
                restore(self.pod(), &old.pod, &self.in_template)
            }
            // In the second pass over a new object, the entries of the first one exist.
            None if self.is_injected(recorded) => TemplateUpdate {
                record: self.in_template.clone(),
                ..TemplateUpdate::default()
            },
            Some(_) | None => TemplateUpdate::default(),
        }
    }

    /// Adds the record and the label to the changes of a template.
    pub(crate) fn edit_template(
        &self,
        mut annotations: AnnotationChanges,
        update: TemplateUpdate,
        was_injected: bool,
    ) -> TemplateEdit {
        let pod = self.pod();
        let is_labelled = self.is_labelled();
        let mut label = None;
        if !update.record.is_empty() {
            annotations.insert(INJECTED.to_owned(), Some(update.record.write()));
            label = (!is_labelled).then_some(true);
        } else if was_injected {
            annotations.insert(INJECTED.to_owned(), None);
            label = is_labelled.then_some(false);
        }
        let missing = TemplateUpdate::missing_parents(pod);
        TemplateEdit {
            annotations: AnnotationEdit::of(pod.annotations(), missing.metadata, annotations),
            label,
            no_labels: missing.labels,
            update,
        }
    }
}
