//! Object that is explained: `pod/NAME`, `deployment/NAME` and the like, in kubectl's spellings.

use std::str::FromStr;

use injection::{SecretName, WorkloadKind};

use crate::consumers::{WORKLOAD_LISTS, WorkloadList};

/// An object to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainTarget {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// `None` for a pod.
    list: Option<WorkloadList>,
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

/// Spellings of pods.
const POD_SPELLINGS: [&str; 3] = ["pod", "pods", "po"];

/// Spellings of kinds with a pod template.
fn spellings(kind: WorkloadKind) -> [&'static str; 3] {
    match kind {
        WorkloadKind::Deployment => ["deployment", "deployments", "deploy"],
        WorkloadKind::StatefulSet => ["statefulset", "statefulsets", "sts"],
        WorkloadKind::DaemonSet => ["daemonset", "daemonsets", "ds"],
        WorkloadKind::Job => ["job", "jobs", "job.batch"],
        WorkloadKind::CronJob => ["cronjob", "cronjobs", "cj"],
        WorkloadKind::Rollout => ["rollout", "rollouts", "ro"],
    }
}

/// Limit of a text that is quoted in an error, in characters.
const MAX_QUOTED_CHARS: usize = 63;

impl ExplainTarget {
    /// Path of the object.
    pub(super) fn path(&self, namespace: &str) -> String {
        let list = match self.list {
            Some(list) => list.path(namespace),
            None => pods_path(namespace),
        };
        format!("{list}/{}", self.name)
    }

    /// The workload of this kind and name; `None` for other kinds and for names that no object has.
    pub(super) fn of_owner(kind: &str, name: &str) -> Option<Self> {
        Self::of(Some(WorkloadList::titled(kind)?), name)
    }

    /// Kind of the workload; `None` for a pod.
    pub(super) fn workload(&self) -> Option<WorkloadKind> {
        self.list.map(|list| list.kind)
    }

    fn of(list: Option<WorkloadList>, name: &str) -> Option<Self> {
        // The name becomes part of a path.
        name.parse::<SecretName>().ok()?;
        Some(Self {
            kind: list.map_or("Pod", |list| list.title),
            name: name.to_owned(),
            list,
        })
    }
}

/// Path of the pods of a namespace.
pub(super) fn pods_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

impl FromStr for ExplainTarget {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let quoted = |text: &str| text.chars().take(MAX_QUOTED_CHARS).collect::<String>();
        let (kind, name) = text.split_once('/').ok_or(InvalidTarget::NoKind)?;
        let spelled = kind.to_ascii_lowercase();
        let spelled = spelled.split('.').next().unwrap_or_default();
        let mut lists = WORKLOAD_LISTS.into_iter();
        let list = lists.find(|list| spellings(list.kind).contains(&spelled));
        if list.is_none() && !POD_SPELLINGS.contains(&spelled) {
            return Err(InvalidTarget::Kind(quoted(kind)));
        }
        Self::of(list, name).ok_or_else(|| InvalidTarget::Name(quoted(name)))
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
