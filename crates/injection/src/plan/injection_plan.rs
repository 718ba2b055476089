//! The plan as data: entries to add to each container, the new record, and warnings.

use crate::contract::warning::Warning;
use crate::plan::env_entry::EnvEntry;
use crate::record::Record;
use crate::view::container_list::ContainerList;
use crate::view::metadata::MetadataView;

/// Additions to a pod. [`crate::render`] converts them to a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionPlan {
    /// Containers that lack entries, in the pod's order, init containers last.
    pub containers: Vec<ContainerPlan>,
    /// The new record, if anything is added.
    pub record: Option<Record>,
    /// For a pod: entries of the list by which a workload would name these Secrets to Reloader. It restarts nothing.
    pub reload: Vec<String>,
    /// Maps of the metadata that have to be created first.
    pub missing_parents: MissingParents,
    /// Warnings for the author, most important first.
    pub warnings: Vec<Warning>,
}

/// Bytes of one operation of a patch besides names: its path, and the names of its fields.
const OPERATION_BYTES: usize = 128;

impl InjectionPlan {
    /// Upper bound of the patch's length, known before any of it is rendered.
    pub(crate) fn max_patch_bytes(&self) -> usize {
        let of_container = |plan: &ContainerPlan| {
            let sources = plan
                .env_from
                .iter()
                .map(|(_, secret)| OPERATION_BYTES + secret.len());
            let variables = plan.env_before.iter().chain(&plan.env_after);
            let variables =
                variables.map(|e| OPERATION_BYTES + e.name.len() + e.secret.len() + e.key.len());
            sources.chain(variables).sum::<usize>()
        };
        self.containers.iter().map(of_container).sum()
    }

    /// Whether nothing is added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }
}

/// Parents of the additions that the pod does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissingParents {
    /// There is no `metadata`.
    pub metadata: bool,
    /// There is no `metadata.annotations`.
    pub annotations: bool,
    /// There is no `metadata.labels`.
    pub labels: bool,
}

impl MissingParents {
    pub(crate) fn of(metadata: Option<&MetadataView<'_>>) -> Self {
        Self {
            metadata: metadata.is_none(),
            annotations: metadata.is_none_or(|m| m.annotations.is_none()),
            labels: metadata.is_none_or(|m| m.labels.is_none()),
        }
    }
}

/// Entries to add to one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// List that the container is in.
    pub list: ContainerList,
    /// Index of the container in its list.
    pub index: usize,
    /// Name of the container, for the record and for warnings.
    pub name: String,
    /// Whether the container has no `envFrom` list to add to.
    pub env_from_absent: bool,
    /// Secrets to insert into `envFrom`, each at the index that it has after the inserts before it.
    pub env_from: Vec<(usize, String)>,
    /// Whether the container has no `env` list to add to.
    pub env_absent: bool,
    /// Entries to insert at the front, because a value of the author refers to them by `$(VAR)`.
    pub env_before: Vec<EnvEntry>,
    /// Entries to append.
    pub env_after: Vec<EnvEntry>,
}
