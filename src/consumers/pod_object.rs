//! Pods as the API server returns them, as far as consumers need them.

use injection::{Annotations, CowStr};
use jiff::Timestamp;
use serde::Deserialize;

use super::pod_spec::SpecReferences;

/// A pod, with the starts of its containers.
#[derive(Debug, Deserialize)]
pub(crate) struct PodObject<'a> {
    #[serde(borrow)]
    pub metadata: PodMetadata<'a>,
    #[serde(borrow, default)]
    pub(super) spec: SpecReferences<'a>,
    #[serde(borrow, default)]
    status: PodStarts<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodMetadata<'a> {
    pub name: String,
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<CowStr<'a>>,
    #[serde(default)]
    pub creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    owner_references: Option<Vec<PodOwnerReference>>,
}

/// Owner reference of a pod, or of the owner of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodOwnerReference {
    pub kind: String,
    pub name: String,
    #[serde(default)]
    controller: Option<bool>,
}

/// The controller among owner references.
pub(super) fn controller_of(
    references: Option<&Vec<PodOwnerReference>>,
) -> Option<&PodOwnerReference> {
    let mut references = references.into_iter().flatten();
    references.find(|reference| reference.controller == Some(true))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStarts<'a> {
    #[serde(borrow)]
    phase: CowStr<'a>,
    #[serde(borrow)]
    container_statuses: Option<Vec<ContainerStart<'a>>>,
    #[serde(borrow)]
    init_container_statuses: Option<Vec<ContainerStart<'a>>>,
    #[serde(borrow)]
    ephemeral_container_statuses: Option<Vec<ContainerStart<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStart<'a> {
    #[serde(borrow)]
    name: CowStr<'a>,
    state: Option<RunState>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunState {
    running: Option<RunningState>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunningState {
    started_at: Option<Timestamp>,
}

impl PodObject<'_> {
    /// Whether the pod has ended: none of its containers runs again.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The pod's controller.
    pub fn controller(&self) -> Option<&PodOwnerReference> {
        controller_of(self.metadata.owner_references.as_ref())
    }

    /// Names and starts of the containers that run.
    pub(super) fn running(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let lists = [
            &self.status.container_statuses,
            &self.status.init_container_statuses,
            &self.status.ephemeral_container_statuses,
        ];
        let statuses = lists.into_iter().flat_map(|list| list.iter().flatten());
        statuses.filter_map(|status| {
            let started = status.state.as_ref()?.running.as_ref()?.started_at?;
            Some((status.name.as_str(), started))
        })
    }
}
