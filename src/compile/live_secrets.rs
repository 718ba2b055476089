//! Contract of `--cluster`: Secrets of a live cluster, without their values.

use std::collections::BTreeSet;
use std::fmt;

use injection::SecretName;

/// Secrets of one namespace of a live cluster.
pub(crate) trait LiveSecrets: fmt::Debug {
    fn namespace(&self) -> &str;

    /// Keys of a Secret; `None` if it does not exist.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    fn keys(&self, name: &SecretName) -> Result<Option<BTreeSet<String>>, String>;
}
