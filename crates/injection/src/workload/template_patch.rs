//! Renders the edit of a template as a JSON patch. Each `remove` follows a `test`.

use std::collections::BTreeMap;

use crate::keys::INJECTED;
use crate::patch::PatchBuilder;
use crate::patch::operations::{Patch, PatchValue};
use crate::workload::reconcile::Removals;
use crate::workload::template_edit::{AnnotationEdit, TemplateEdit};

/// Renders the patch of a template at the path `root`.
pub(crate) fn render_template<'p>(edit: &'p TemplateEdit, root: &[&str]) -> Patch<'p> {
    let mut patch = PatchBuilder::at(root);
    for removals in &edit.update.removals {
        patch.remove_entries(removals);
    }
    patch.containers(&edit.update.containers);
    patch.annotations(&edit.annotations);
    match edit.label {
        // The record is written with the label, so `metadata` exists after the operations above.
        Some(true) if edit.no_labels => {
            patch.add(
                &["metadata", "labels"],
                PatchValue::Map(BTreeMap::from([(INJECTED, "true".into())])),
            );
        }
        Some(true) => patch.add(
            &["metadata", "labels", INJECTED],
            PatchValue::Text("true".into()),
        ),
        Some(false) => patch.test_and_remove(&["metadata", "labels", INJECTED], "true"),
        None => {}
    }
    Patch(patch.operations)
}

impl<'p> PatchBuilder<'_, 'p> {
    fn test_and_remove(&mut self, path: &[&str], old: &'p str) {
        self.test(path, old);
        self.remove(path);
    }

    pub(crate) fn annotations(&mut self, edit: &'p AnnotationEdit) {
        let AnnotationEdit {
            entries,
            no_metadata,
            no_map,
        } = edit;
        if entries.is_empty() {
            return;
        }
        if *no_metadata {
            self.add(&["metadata"], PatchValue::Map(BTreeMap::new()));
        }
        if *no_map {
            self.add(
                &["metadata", "annotations"],
                PatchValue::Map(BTreeMap::new()),
            );
        }
        for (name, (old, new)) in entries {
            let path = ["metadata", "annotations", name];
            match (old, new) {
                (None, Some(new)) => self.add(&path, PatchValue::Text(new.into())),
                (Some(old), Some(new)) => {
                    self.test(&path, old);
                    self.add(&path, PatchValue::Text(new.into()));
                }
                (Some(old), None) => self.test_and_remove(&path, old),
                (None, None) => {}
            }
        }
    }

    /// Removes entries of one container. The test of each entry covers its name, the removal the whole entry.
    fn remove_entries(&mut self, removals: &'p Removals) {
        let Removals {
            list,
            index,
            env_from,
            env,
        } = removals;
        let container = index.to_string();
        for (index, secret) in env_from {
            let index = index.to_string();
            let entry = ["spec", list.field(), &container, "envFrom", &index];
            self.test(&[&entry[..], &["secretRef", "name"]].concat(), secret);
            self.remove(&entry);
        }
        for (index, name) in env {
            let index = index.to_string();
            let entry = ["spec", list.field(), &container, "env", &index];
            self.test(&[&entry[..], &["name"]].concat(), name);
            self.remove(&entry);
        }
    }
}
