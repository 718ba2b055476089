//! Controllers: requesters that create objects for somebody else.

use std::collections::BTreeSet;

/// Controllers of Kubernetes, with and without a `ServiceAccount` of each, and that of Argo Rollouts.
pub const DEFAULT_CONTROLLERS: &[&str] = &[
    "system:kube-controller-manager",
    "system:serviceaccount:argo-rollouts:argo-rollouts",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// Usernames of controllers whose owner references are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controllers(BTreeSet<String>);

impl Controllers {
    pub fn new(usernames: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(usernames.into_iter().map(Into::into).collect())
    }

    #[must_use]
    pub fn contains(&self, username: &str) -> bool {
        self.0.contains(username)
    }
}

impl Default for Controllers {
    fn default() -> Self {
        Self::new(DEFAULT_CONTROLLERS.iter().copied())
    }
}
