//! Renders a plan as a JSON patch (RFC 6902). Parents are created before they are used. A pod's patch has only `add`
//! operations.

pub(crate) mod operations;

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;

use crate::keys::{INJECTED, RELOADER_LIST};
use crate::patch::operations::{EnvFromSource, EnvVar, Operation, Patch, PatchValue};
use crate::plan::injection_plan::{ContainerPlan, InjectionPlan};

/// Renders the patch for a document whose pod, or template, is at the path `root`: empty for a pod,
/// `["spec", "template"]` for most workloads. An empty plan results in an empty patch.
#[must_use]
pub fn render<'p>(plan: &'p InjectionPlan, root: &[&str]) -> Patch<'p> {
    let mut patch = PatchBuilder::at(root);
    patch.containers(&plan.containers);
    if let Some(record) = &plan.record {
        if plan.missing_parents.metadata {
            patch.add(&["metadata"], PatchValue::Map(BTreeMap::new()));
        }
        let reload =
            (!plan.reload.is_empty()).then(|| (RELOADER_LIST, plan.reload.join(",").into()));
        let annotations = [(INJECTED, record.write().into())]
            .into_iter()
            .chain(reload);
        patch.entries("annotations", plan.missing_parents.annotations, annotations);
        patch.entries(
            "labels",
            plan.missing_parents.labels,
            [(INJECTED, "true".into())],
        );
    }
    Patch(patch.operations)
}

/// Collects operations on the object at `root`.
pub(crate) struct PatchBuilder<'r, 'p> {
    root: &'r [&'r str],
    pub(crate) operations: Vec<Operation<'p>>,
}

impl<'r, 'p> PatchBuilder<'r, 'p> {
    pub(crate) fn at(root: &'r [&'r str]) -> Self {
        Self {
            root,
            operations: Vec::new(),
        }
    }

    /// `PointerBuf` escapes `/` and `~` in each token (RFC 6901).
    fn path(&self, path: &[&str]) -> PointerBuf {
        PointerBuf::from_tokens(self.root.iter().chain(path).copied())
    }

    pub(crate) fn add(&mut self, path: &[&str], value: PatchValue<'p>) {
        let path = self.path(path);
        self.operations.push(Operation::Add { path, value });
    }

    /// Adds entries to a map of the metadata.
    fn entries(
        &mut self,
        map: &str,
        absent: bool,
        entries: impl IntoIterator<Item = (&'static str, Cow<'p, str>)>,
    ) {
        if absent {
            self.add(
                &["metadata", map],
                PatchValue::Map(entries.into_iter().collect()),
            );
        } else {
            for (key, value) in entries {
                self.add(&["metadata", map, key], PatchValue::Text(value));
            }
        }
    }

    /// Adds a test of the value that the next operations expect.
    pub(crate) fn test(&mut self, path: &[&str], value: &'p str) {
        let path = self.path(path);
        self.operations.push(Operation::Test { path, value });
    }

    /// Adds a removal, always after a `test`.
    pub(crate) fn remove(&mut self, path: &[&str]) {
        let path = self.path(path);
        self.operations.push(Operation::Remove { path });
    }

    pub(crate) fn containers(&mut self, plans: &'p [ContainerPlan]) {
        for plan in plans {
            self.container(plan);
        }
    }

    fn container(&mut self, plan: &'p ContainerPlan) {
        let index = plan.index.to_string();
        let at = ["spec", plan.list.field(), index.as_str()];
        let list = |name: &'static str| [at[0], at[1], at[2], name];

        let sources = plan
            .env_from
            .iter()
            .map(|(place, secret)| (place, EnvFromSource::from(secret)));
        if plan.env_from_absent && !plan.env_from.is_empty() {
            self.add(
                &list("envFrom"),
                PatchValue::Sources(sources.map(|(_, source)| source).collect()),
            );
        } else {
            for (place, source) in sources {
                self.insert(
                    list("envFrom"),
                    &place.to_string(),
                    PatchValue::Source(source),
                );
            }
        }

        if plan.env_absent && !plan.env_after.is_empty() {
            self.add(
                &list("env"),
                PatchValue::Variables(plan.env_after.iter().map(EnvVar::from).collect()),
            );
        } else {
            for (place, entry) in plan.env_before.iter().enumerate() {
                self.insert(
                    list("env"),
                    &place.to_string(),
                    PatchValue::Variable(entry.into()),
                );
            }
            for entry in &plan.env_after {
                self.insert(list("env"), "-", PatchValue::Variable(entry.into()));
            }
        }
    }

    fn insert(&mut self, [a, b, c, d]: [&str; 4], place: &str, value: PatchValue<'p>) {
        self.add(&[a, b, c, d, place], value);
    }
}
