//! The backend's answer about a secret, as the planner sees it: names, never values.

use std::collections::BTreeSet;

/// The Kubernetes Secret, in the pod's own namespace, that stands for a referenced secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretBinding {
    /// `metadata.name` of that Secret: what `secretRef` and `secretKeyRef` will name.
    pub secret_name: String,
    /// Its data keys, when they were asked for. Text, because a key made by another program need not be one
    /// that our annotations can name.
    pub keys: Option<BTreeSet<String>>,
}

/// What is known about a referenced secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindOutcome {
    /// It exists.
    Found(SecretBinding),
    /// It does not.
    Missing {
        /// The backend that said so, for the sentence.
        backend: &'static str,
        /// A name that was seen in that namespace and looks alike.
        near: Option<String>,
    },
    /// Nobody was asked (`inject` without a cluster and without files of Secrets).
    Unchecked,
}
