//! Resources in which controllers store the revisions of workloads.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::resource::ScannedResource;
use injection::{CowStr, WorkloadKind};

const REPLICA_SETS: ScannedResource = ScannedResource::revisions("ReplicaSet", "replicasets");
const CONTROLLER_REVISIONS: ScannedResource =
    ScannedResource::revisions("ControllerRevision", "controllerrevisions");

/// Resource that stores the revisions of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RevisionStore {
    /// Revisions of Deployments and Rollouts; the number is an annotation.
    ReplicaSets,
    /// Revisions of `StatefulSets` and `DaemonSets`; the number is a field.
    ControllerRevisions,
}

impl RevisionStore {
    pub const ALL: [Self; 2] = [Self::ReplicaSets, Self::ControllerRevisions];

    pub fn resource(self) -> ScannedResource {
        match self {
            Self::ReplicaSets => REPLICA_SETS,
            Self::ControllerRevisions => CONTROLLER_REVISIONS,
        }
    }

    /// Whether the controller of this kind stores its revisions here.
    pub fn holds(self, kind: WorkloadKind) -> bool {
        match kind {
            WorkloadKind::Deployment | WorkloadKind::Rollout => self == Self::ReplicaSets,
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
                self == Self::ControllerRevisions
            }
            WorkloadKind::Job | WorkloadKind::CronJob => false,
        }
    }

    /// Pod template of a revision, or the part of it that `T` reads.
    pub fn template<'a, T: Deserialize<'a>>(self, body: &'a [u8]) -> Option<T> {
        let RevisionObject { spec, data, .. } = serde_json::from_slice(body).ok()?;
        let spec: RevisionSpec<T> = match self {
            Self::ReplicaSets => serde_json::from_str(spec?.get()).ok()?,
            Self::ControllerRevisions => {
                serde_json::from_str::<RevisionData<T>>(data?.get())
                    .ok()?
                    .spec
            }
        };
        Some(spec.template)
    }
}

/// A `ReplicaSet` or `ControllerRevision`. Both payloads are not parsed, because that of a `ControllerRevision` may be
/// any JSON.
#[derive(Deserialize)]
struct RevisionObject<'a> {
    #[serde(borrow)]
    metadata: RevisionMetadata<'a>,
    #[serde(default)]
    revision: Option<i64>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RevisionMetadata<'a> {
    #[serde(borrow, default)]
    annotations: Option<RevisionNumbers<'a>>,
}

#[derive(Deserialize)]
struct RevisionNumbers<'a> {
    #[serde(rename = "deployment.kubernetes.io/revision", borrow, default)]
    deployment: Option<CowStr<'a>>,
    #[serde(rename = "rollout.argoproj.io/revision", borrow, default)]
    rollout: Option<CowStr<'a>>,
}

#[derive(Deserialize)]
struct RevisionData<T> {
    spec: RevisionSpec<T>,
}

#[derive(Deserialize)]
struct RevisionSpec<T> {
    template: T,
}

/// Number of a revision, from where the controller of this kind writes it.
pub(super) fn revision_number(kind: WorkloadKind, item: &[u8]) -> Option<i64> {
    let RevisionObject {
        metadata, revision, ..
    } = serde_json::from_slice(item).ok()?;
    let parse = |text: Option<CowStr<'_>>| text?.as_str().parse().ok();
    match kind {
        WorkloadKind::Deployment => parse(metadata.annotations?.deployment),
        WorkloadKind::Rollout => parse(metadata.annotations?.rollout),
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => revision,
        WorkloadKind::Job | WorkloadKind::CronJob => None,
    }
}
