//! A Namespace or ServiceAccount, as far as defaults need it, and the trait that reads them.

use std::fmt;

use async_trait::async_trait;
use injection::{Annotations, ENABLED_LABEL};
use tokio::time::Instant;

use crate::backend::BackendError;

/// The longest value of a label, in characters: Kubernetes takes no longer one.
const MAX_LABEL_VALUE: usize = 63;

/// What a Namespace or a ServiceAccount says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultsObject {
    /// The annotations under our prefix.
    pub annotations: Annotations<'static>,
    /// `kubernetes.io/enforce-mountable-secrets: "true"`, on a ServiceAccount.
    pub enforces_mountable_secrets: bool,
    /// It carries [`ENABLED_LABEL`]; on a Namespace that is what lets defaults apply.
    pub enabled: bool,
    /// What that label says where it says something else, for sentences.
    pub other_label: Option<String>,
}

impl DefaultsObject {
    /// What the label of [`ENABLED_LABEL`] says.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        if self.enabled {
            Some(ENABLED_LABEL.1)
        } else {
            self.other_label.as_deref()
        }
    }

    /// The same, with the label as it says `value`.
    #[must_use]
    pub fn labelled(self, value: Option<&str>) -> Self {
        let enabled = value == Some(ENABLED_LABEL.1);
        let other_label = value
            .filter(|_| !enabled)
            .map(|value| value.chars().take(MAX_LABEL_VALUE).collect());
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
    /// The Namespace.
    async fn namespace(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError>;

    /// The ServiceAccount.
    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError>;
}
