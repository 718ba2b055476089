//! Bindings of secrets, as a backend returns them: names, never values.

use std::collections::BTreeSet;

/// The Kubernetes Secret in the pod's namespace that has the keys of a referenced secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretBinding {
    /// `metadata.name` of the Secret, for `secretRef` and `secretKeyRef`.
    pub secret_name: String,
    /// Data keys, if they were queried. Strings, because other programs may write keys that annotations of the contract
    /// cannot name.
    pub keys: Option<BTreeSet<String>>,
}

/// Result of looking up a referenced secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindOutcome {
    /// The secret exists.
    Found(SecretBinding),
    /// The secret does not exist.
    Missing {
        /// Backend that was queried, for sentences.
        backend: &'static str,
        /// Similar name in the same namespace.
        near: Option<String>,
    },
    /// The secret was not looked up (`inject` without a cluster and without files of Secrets).
    Unchecked,
}
