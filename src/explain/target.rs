//! Object that is explained: `pod/NAME`, `deployment/NAME` and the like, in kubectl's spellings.

use std::str::FromStr;

use injection::{SecretName, WorkloadKind};

/// An object to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainTarget {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// `None` for a pod.
    pub(super) workload: Option<WorkloadKind>,
    /// Path of the list in a namespace, with `{}` for the namespace.
    list: &'static str,
}

/// A text that does not name an object which can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    #[error("write KIND/NAME, as in pod/etl-7 or deployment/api")]
    NoKind,
    #[error(
        "{0:?} cannot be explained: pod, deployment, statefulset, daemonset, job, cronjob or rollout"
    )]
    Kind(String),
    #[error("{0:?} is not the name of an object")]
    Name(String),
}

/// Spellings, kind and list of a kind.
type KindRow = (
    [&'static str; 3],
    &'static str,
    Option<WorkloadKind>,
    &'static str,
);

const KINDS: [KindRow; 7] = [
    (
        ["pod", "pods", "po"],
        "Pod",
        None,
        "/api/v1/namespaces/{}/pods",
    ),
    (
        ["deployment", "deployments", "deploy"],
        "Deployment",
        Some(WorkloadKind::Deployment),
        "/apis/apps/v1/namespaces/{}/deployments",
    ),
    (
        ["statefulset", "statefulsets", "sts"],
        "StatefulSet",
        Some(WorkloadKind::StatefulSet),
        "/apis/apps/v1/namespaces/{}/statefulsets",
    ),
    (
        ["daemonset", "daemonsets", "ds"],
        "DaemonSet",
        Some(WorkloadKind::DaemonSet),
        "/apis/apps/v1/namespaces/{}/daemonsets",
    ),
    (
        ["job", "jobs", "job.batch"],
        "Job",
        Some(WorkloadKind::Job),
        "/apis/batch/v1/namespaces/{}/jobs",
    ),
    (
        ["cronjob", "cronjobs", "cj"],
        "CronJob",
        Some(WorkloadKind::CronJob),
        "/apis/batch/v1/namespaces/{}/cronjobs",
    ),
    (
        ["rollout", "rollouts", "ro"],
        "Rollout",
        Some(WorkloadKind::Rollout),
        "/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts",
    ),
];

/// Limit of a text that is quoted in an error, in characters.
const MAX_QUOTED_CHARS: usize = 63;

impl ExplainTarget {
    /// Path of the object.
    pub(super) fn path(&self, namespace: &str) -> String {
        format!("{}/{}", self.list.replace("{}", namespace), self.name)
    }

    /// The workload of this kind and name; `None` for other kinds and for names that no object has.
    pub(super) fn of_owner(kind: &str, name: &str) -> Option<Self> {
        let row = KINDS
            .into_iter()
            .find(|(_, title, workload, _)| *title == kind && workload.is_some())?;
        Self::of(row, name)
    }

    fn of((_, kind, workload, list): KindRow, name: &str) -> Option<Self> {
        // The name becomes part of a path.
        name.parse::<SecretName>().ok()?;
        Some(Self {
            kind,
            name: name.to_owned(),
            workload,
            list,
        })
    }
}

impl FromStr for ExplainTarget {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let quoted = |text: &str| text.chars().take(MAX_QUOTED_CHARS).collect::<String>();
        let (kind, name) = text.split_once('/').ok_or(InvalidTarget::NoKind)?;
        let spelled = kind.to_ascii_lowercase();
        let spelled = spelled.split('.').next().unwrap_or_default();
        let row = KINDS
            .into_iter()
            .find(|(spellings, ..)| spellings.contains(&spelled))
            .ok_or_else(|| InvalidTarget::Kind(quoted(kind)))?;
        Self::of(row, name).ok_or_else(|| InvalidTarget::Name(quoted(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("pod/a", "/api/v1/namespaces/n/pods/a")]
    #[case("po/a.b", "/api/v1/namespaces/n/pods/a.b")]
    #[case("Deployment/a", "/apis/apps/v1/namespaces/n/deployments/a")]
    #[case("deployment.apps/a", "/apis/apps/v1/namespaces/n/deployments/a")]
    #[case("sts/a", "/apis/apps/v1/namespaces/n/statefulsets/a")]
    #[case("ds/a", "/apis/apps/v1/namespaces/n/daemonsets/a")]
    #[case("job.batch/a", "/apis/batch/v1/namespaces/n/jobs/a")]
    #[case("cj/a", "/apis/batch/v1/namespaces/n/cronjobs/a")]
    #[case("rollout/a", "/apis/argoproj.io/v1alpha1/namespaces/n/rollouts/a")]
    fn target_is_named_as_in_kubectl(#[case] text: &str, #[case] path: &str) {
        assert_eq!(text.parse::<ExplainTarget>().unwrap().path("n"), path);
    }

    #[rstest::rstest]
    #[case("etl", "write KIND/NAME")]
    #[case("secret/db", "\"secret\" cannot be explained")]
    #[case("pod/", "is not the name of an object")]
    #[case("pod/../secrets/db", "is not the name of an object")]
    fn other_text_is_rejected(#[case] text: &str, #[case] expected: &str) {
        let error = text.parse::<ExplainTarget>().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
