//! An entry of a container's `env` list, as the webhook writes it.

use crate::view::container::EnvView;

/// An `env` entry by `secretKeyRef`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvEntry {
    /// Name of the variable.
    pub name: String,
    /// Name of the Secret, in the pod's namespace.
    pub secret: String,
    /// Data key of the Secret.
    pub key: String,
}

impl EnvEntry {
    /// Whether an existing entry refers to the same key of the same Secret.
    pub(crate) fn matches(&self, existing: &EnvView<'_>) -> bool {
        existing.secret_key() == Some((self.secret.as_str(), self.key.as_str()))
    }
}
