//! An entry of a container's `env` list, as this program writes it.

use crate::view::pod::EnvView;

/// An `env` entry by `secretKeyRef`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvEntry {
    /// The variable.
    pub name: String,
    /// The Secret.
    pub secret: String,
    /// Its data key.
    pub key: String,
}

impl EnvEntry {
    /// Whether the entry that is there refers to the same key of the same Secret.
    pub(crate) fn is(&self, there: &EnvView<'_>) -> bool {
        there.secret_key() == Some((self.secret.as_str(), self.key.as_str()))
    }
}
