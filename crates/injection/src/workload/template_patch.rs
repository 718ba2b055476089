//! From a template's edit to its JSON patch: every `remove` stands behind a `test`.

use std::collections::BTreeMap;

use crate::keys::INJECTED;
use crate::patch::Builder;
use crate::patch::operations::{Patch, PatchValue};
use crate::workload::revise::Removals;
use crate::workload::template_edit::{Changes, TemplateEdit};

/// The patch of a template that stands at `root`.
pub(crate) fn render_template<'p>(edit: &'p TemplateEdit, root: &[&str]) -> Patch<'p> {
    let mut patch = Builder::at(root);
    for withdrawn in &edit.revision.withdrawn {
        patch.withdraw(withdrawn);
    }
    patch.containers(&edit.revision.containers);
    patch.annotations(&edit.annotations);
    match edit.label {
        // The record is written with the label, so that there is metadata by now.
        Some(true) if edit.no_labels => {
            patch.add(
                &["metadata", "labels"],
                PatchValue::Map(BTreeMap::from([(INJECTED, "true".into())])),
            );
        }
        Some(true) => patch.add(
            &["metadata", "labels", INJECTED],
            PatchValue::CowStr("true".into()),
        ),
        Some(false) => patch.take(&["metadata", "labels", INJECTED], "true"),
        None => {}
    }
    Patch(patch.operations)
}

impl<'p> Builder<'_, 'p> {
    fn take(&mut self, path: &[&str], was: &'p str) {
        self.test(path, was);
        self.remove(path);
    }

    pub(crate) fn annotations(&mut self, changes: &'p Changes) {
        let Changes {
            entries,
            no_metadata,
            no_map,
        } = changes;
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
        for (name, (was, wanted)) in entries {
            let path = ["metadata", "annotations", name];
            match (was, wanted) {
                (None, Some(wanted)) => self.add(&path, PatchValue::CowStr(wanted.into())),
                (Some(was), Some(wanted)) => {
                    self.test(&path, was);
                    self.add(&path, PatchValue::CowStr(wanted.into()));
                }
                (Some(was), None) => self.take(&path, was),
                (None, None) => {}
            }
        }
    }

    /// Of an entry, the name is tested and the rest goes with it.
    fn withdraw(&mut self, withdrawn: &'p Removals) {
        let Removals {
            list,
            index,
            env_from,
            env,
        } = withdrawn;
        let index = index.to_string();
        for (place, secret) in env_from {
            let place = place.to_string();
            let entry = ["spec", list.field(), &index, "envFrom", &place];
            self.test(&[&entry[..], &["secretRef", "name"]].concat(), secret);
            self.remove(&entry);
        }
        for (place, name) in env {
            let place = place.to_string();
            let entry = ["spec", list.field(), &index, "env", &place];
            self.test(&[&entry[..], &["name"]].concat(), name);
            self.remove(&entry);
        }
    }
}
