//! From a plan to its JSON patch (RFC 6902): every parent is made before it is used. A pod's patch has `add`
//! operations alone.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, TestOperation};
use serde_json::{Map, Value, json};

use super::env_entry::EnvEntry;
use super::keys::{INJECTED, RELOADER_LIST};
use super::plan::{ContainerPlan, InjectionPlan};

/// The patch of a plan, for a document whose pod (or template) stands at `root`: empty for a pod,
/// `["spec", "template"]` for most workloads. An empty plan gives an empty patch.
#[must_use]
pub fn render(plan: &InjectionPlan, root: &[&str]) -> Patch {
    let mut patch = Builder { root, operations: Vec::new() };
    patch.containers(&plan.containers);
    if let Some(record) = &plan.record {
        if plan.absent.metadata {
            patch.add(&["metadata"], json!({}));
        }
        let told = (!plan.reload.is_empty()).then(|| (RELOADER_LIST, plan.reload.join(",")));
        let annotations = [(INJECTED, record.write())].into_iter().chain(told);
        patch.entries("annotations", plan.absent.annotations, annotations);
        patch.entries("labels", plan.absent.labels, [(INJECTED, "true".to_owned())]);
    }
    Patch(patch.operations)
}

/// Gathers operations on what stands at `root`.
pub(super) struct Builder<'a> {
    pub(super) root: &'a [&'a str],
    pub(super) operations: Vec<PatchOperation>,
}

impl Builder<'_> {
    /// `PointerBuf` escapes `/` and `~` in each token (RFC 6901).
    fn path(&self, path: &[&str]) -> PointerBuf {
        PointerBuf::from_tokens(self.root.iter().chain(path).copied())
    }

    pub(super) fn add(&mut self, path: &[&str], value: Value) {
        let path = self.path(path);
        self.operations.push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Adds entries to a map of the metadata.
    fn entries(&mut self, map: &str, absent: bool, entries: impl IntoIterator<Item = (&'static str, String)>) {
        if absent {
            let made: Map<String, Value> =
                entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
            self.add(&["metadata", map], Value::Object(made));
        } else {
            for (key, value) in entries {
                self.add(&["metadata", map, key], Value::String(value));
            }
        }
    }

    /// Says what must be there for the operations that follow.
    pub(super) fn test(&mut self, path: &[&str], value: Value) {
        let path = self.path(path);
        self.operations.push(PatchOperation::Test(TestOperation { path, value }));
    }

    /// Always behind a `test`.
    pub(super) fn remove(&mut self, path: &[&str]) {
        let path = self.path(path);
        self.operations.push(PatchOperation::Remove(RemoveOperation { path }));
    }

    pub(super) fn containers(&mut self, plans: &[ContainerPlan]) {
        for plan in plans {
            self.container(plan);
        }
    }

    fn container(&mut self, plan: &ContainerPlan) {
        let index = plan.index.to_string();
        let at = ["spec", plan.list.field(), index.as_str()];
        let list = |name: &'static str| [at[0], at[1], at[2], name];

        let source = |secret: &String| json!({ "secretRef": { "name": secret } });
        if plan.env_from_absent && !plan.env_from.is_empty() {
            self.add(&list("envFrom"), plan.env_from.iter().map(|(_, secret)| source(secret)).collect());
        } else {
            for (place, secret) in &plan.env_from {
                self.insert(list("envFrom"), &place.to_string(), source(secret));
            }
        }

        if plan.env_absent && !plan.env_after.is_empty() {
            self.add(&list("env"), plan.env_after.iter().map(variable).collect());
        } else {
            for (place, entry) in plan.env_before.iter().enumerate() {
                self.insert(list("env"), &place.to_string(), variable(entry));
            }
            for entry in &plan.env_after {
                self.insert(list("env"), "-", variable(entry));
            }
        }
    }

    fn insert(&mut self, [a, b, c, d]: [&str; 4], place: &str, value: Value) {
        self.add(&[a, b, c, d, place], value);
    }
}

fn variable(entry: &EnvEntry) -> Value {
    json!({ "name": entry.name, "valueFrom": { "secretKeyRef": { "name": entry.secret, "key": entry.key } } })
}
