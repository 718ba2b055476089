//! Kinds that pods belong to, with the paths of their lists.

use injection::WorkloadKind;

/// Kind with a pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadList {
    pub kind: WorkloadKind,
    /// For example `Deployment`.
    pub title: &'static str,
    /// Path with `{}` for the namespace.
    list: &'static str,
}

/// Kinds with a pod template.
pub(crate) const WORKLOAD_LISTS: [WorkloadList; 6] = [
    WorkloadList {
        kind: WorkloadKind::Deployment,
        title: "Deployment",
        list: "/apis/apps/v1/namespaces/{}/deployments",
    },
    WorkloadList {
        kind: WorkloadKind::StatefulSet,
        title: "StatefulSet",
        list: "/apis/apps/v1/namespaces/{}/statefulsets",
    },
    WorkloadList {
        kind: WorkloadKind::DaemonSet,
        title: "DaemonSet",
        list: "/apis/apps/v1/namespaces/{}/daemonsets",
    },
    WorkloadList {
        kind: WorkloadKind::Job,
        title: "Job",
        list: "/apis/batch/v1/namespaces/{}/jobs",
    },
    WorkloadList {
        kind: WorkloadKind::CronJob,
        title: "CronJob",
        list: "/apis/batch/v1/namespaces/{}/cronjobs",
    },
    WorkloadList {
        kind: WorkloadKind::Rollout,
        title: "Rollout",
        list: "/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts",
    },
];

impl WorkloadList {
    /// The list of the kind with this title.
    pub fn titled(title: &str) -> Option<Self> {
        WORKLOAD_LISTS.into_iter().find(|list| list.title == title)
    }

    /// Path of the list in a namespace.
    pub fn path(self, namespace: &str) -> String {
        self.list.replace("{}", namespace)
    }
}

/// Path of the list of a kind whose objects are made by workloads and make pods.
pub(crate) fn intermediate_list(kind: &str, namespace: &str) -> Option<String> {
    match kind {
        "ReplicaSet" => Some(format!("/apis/apps/v1/namespaces/{namespace}/replicasets")),
        "Job" => WorkloadList::titled(kind).map(|list| list.path(namespace)),
        _ => None,
    }
}
