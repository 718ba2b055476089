//! From a template's edit to its JSON patch: every `remove` stands behind a `test`.

use json_patch::Patch;
use serde_json::{Map, Value};

use super::keys::INJECTED;
use super::patch::Builder;
use super::revise::Withdrawn;
use super::template_edit::{Changes, TemplateEdit};

/// The patch of a template that stands at `root`.
pub(super) fn render_template(edit: &TemplateEdit, root: &[&str]) -> Patch {
    let mut patch = Builder { root, operations: Vec::new() };
    for withdrawn in &edit.revision.withdrawn {
        patch.withdraw(withdrawn);
    }
    patch.containers(&edit.revision.containers);
    patch.annotations(&edit.annotations);
    match edit.label {
        // The record is written with the label, so that there is metadata by now.
        Some(true) if edit.no_labels => patch.add(&["metadata", "labels"], serde_json::json!({ INJECTED: "true" })),
        Some(true) => patch.add(&["metadata", "labels", INJECTED], Value::from("true")),
        Some(false) => patch.take(&["metadata", "labels", INJECTED], "true"),
        None => {}
    }
    Patch(patch.operations)
}

impl Builder<'_> {
    fn take(&mut self, path: &[&str], was: &str) {
        self.test(path, Value::from(was));
        self.remove(path);
    }

    pub(super) fn annotations(&mut self, changes: &Changes) {
        let Changes { entries, no_metadata, no_map } = changes;
        if entries.is_empty() {
            return;
        }
        if *no_metadata {
            self.add(&["metadata"], Value::Object(Map::new()));
        }
        if *no_map {
            self.add(&["metadata", "annotations"], Value::Object(Map::new()));
        }
        for (name, (was, wanted)) in entries {
            let path = ["metadata", "annotations", name];
            match (was, wanted) {
                (None, Some(wanted)) => self.add(&path, Value::from(wanted.as_str())),
                (Some(was), Some(wanted)) => {
                    self.test(&path, Value::from(was.as_str()));
                    self.add(&path, Value::from(wanted.as_str()));
                }
                (Some(was), None) => self.take(&path, was),
                (None, None) => {}
            }
        }
    }

    /// Of an entry, the name is tested and the rest goes with it.
    fn withdraw(&mut self, withdrawn: &Withdrawn) {
        let Withdrawn { list, index, env_from, env } = withdrawn;
        let index = index.to_string();
        for (place, secret) in env_from {
            let place = place.to_string();
            let entry = ["spec", list.field(), &index, "envFrom", &place];
            self.test(&[&entry[..], &["secretRef", "name"]].concat(), Value::from(secret.as_str()));
            self.remove(&entry);
        }
        for (place, name) in env {
            let place = place.to_string();
            let entry = ["spec", list.field(), &index, "env", &place];
            self.test(&[&entry[..], &["name"]].concat(), Value::from(name.as_str()));
            self.remove(&entry);
        }
    }
}
