//! A Namespace or ServiceAccount, as far as defaults need it, and the trait that reads them.

use std::fmt;

use async_trait::async_trait;
use injection::{Annotations, ENABLED_LABEL};
use tokio::time::Instant;

use crate::backend::BackendError;

/// Limit of the value of a label in characters, as in Kubernetes.
const MAX_LABEL_VALUE_CHARS: usize = 63;

/// Defaults of a Namespace or a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultsObject {
    /// Annotations with our prefix.
    pub annotations: Annotations<'static>,
    /// `kubernetes.io/enforce-mountable-secrets: "true"`, on a ServiceAccount.
    pub enforces_mountable_secrets: bool,
    /// Whether it has [`ENABLED_LABEL`]. Defaults apply in a Namespace that has it.
    pub enabled: bool,
    /// Other value of that label, for sentences.
    pub other_label: Option<String>,
}

impl DefaultsObject {
    /// Value of the label of [`ENABLED_LABEL`].
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        if self.enabled {
            Some(ENABLED_LABEL.1)
        } else {
            self.other_label.as_deref()
        }
    }

    /// Sets the label to `value`.
    #[must_use]
    pub fn with_label(self, value: Option<&str>) -> Self {
        let enabled = value == Some(ENABLED_LABEL.1);
        let other_label = value
            .filter(|_| !enabled)
            .map(|value| value.chars().take(MAX_LABEL_VALUE_CHARS).collect());
        Self {
            enabled,
            other_label,
            ..self
        }
    }
}

/// Reads Namespaces and ServiceAccounts; one that does not exist is `None`.
#[async_trait]
pub trait DefaultsReader: fmt::Debug + Send + Sync + 'static {
    /// Reads a Namespace.
    async fn namespace(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError>;

    /// Reads a ServiceAccount.
    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError>;
}
