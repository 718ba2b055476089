//! Resources that a scan lists.

use crate::kubernetes::Representation;
use injection::WorkloadKind;

/// Objects per page of a list of metadata.
pub(super) const METADATA_PAGE_SIZE: usize = 500;

/// Objects per page of a list of full objects.
const FULL_PAGE_SIZE: usize = 50;

/// One resource that is scanned.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScannedResource {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    /// `None` for pods, revisions, Namespaces and `ServiceAccounts`.
    pub workload: Option<WorkloadKind>,
    pub representation: Representation,
}

pub(super) const PODS: ScannedResource = ScannedResource {
    api_version: "v1",
    kind: "Pod",
    plural: "pods",
    workload: None,
    representation: Representation::Metadata,
};

pub(super) const WORKLOADS: [ScannedResource; 6] = [
    ScannedResource::workload(
        "apps/v1",
        "Deployment",
        "deployments",
        WorkloadKind::Deployment,
    ),
    ScannedResource::workload(
        "apps/v1",
        "StatefulSet",
        "statefulsets",
        WorkloadKind::StatefulSet,
    ),
    ScannedResource::workload(
        "apps/v1",
        "DaemonSet",
        "daemonsets",
        WorkloadKind::DaemonSet,
    ),
    ScannedResource::workload("batch/v1", "Job", "jobs", WorkloadKind::Job),
    ScannedResource::workload("batch/v1", "CronJob", "cronjobs", WorkloadKind::CronJob),
    ScannedResource::workload(
        "argoproj.io/v1alpha1",
        "Rollout",
        "rollouts",
        WorkloadKind::Rollout,
    ),
];

impl ScannedResource {
    const fn workload(
        api_version: &'static str,
        kind: &'static str,
        plural: &'static str,
        workload: WorkloadKind,
    ) -> Self {
        // The jobTemplate of a CronJob has annotations that a list of metadata does not include.
        let representation = if matches!(workload, WorkloadKind::CronJob) {
            Representation::Full
        } else {
            Representation::Metadata
        };
        Self {
            api_version,
            kind,
            plural,
            workload: Some(workload),
            representation,
        }
    }

    /// Namespaces or `ServiceAccounts`.
    pub(super) const fn defaults(kind: &'static str, plural: &'static str) -> Self {
        Self {
            api_version: "v1",
            kind,
            plural,
            workload: None,
            representation: Representation::Metadata,
        }
    }

    /// `ReplicaSets` or `ControllerRevisions`.
    pub(super) const fn revisions(kind: &'static str, plural: &'static str) -> Self {
        Self {
            api_version: "apps/v1",
            kind,
            plural,
            workload: None,
            // Metadata include neither the annotations of a template nor the number of a ControllerRevision.
            representation: Representation::Full,
        }
    }

    /// Path of the list in one namespace, or in all.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let root = if self.api_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        let Self {
            api_version,
            plural,
            ..
        } = self;
        match namespace {
            Some(namespace) => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{api_version}/{plural}"),
        }
    }

    pub(super) fn page_size(self) -> usize {
        match self.representation {
            Representation::Full => FULL_PAGE_SIZE,
            Representation::Metadata => METADATA_PAGE_SIZE,
        }
    }

    pub(super) fn is_listed_in_full(self) -> bool {
        self.representation == Representation::Full
    }

    /// Whether a cluster may lack the resource.
    pub(super) fn is_optional(self) -> bool {
        self.workload == Some(WorkloadKind::Rollout)
    }
}
