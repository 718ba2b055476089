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
