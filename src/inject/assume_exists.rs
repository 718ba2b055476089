//! Binder for runs without `--secrets` and `--cluster`.

use std::sync::Arc;

use async_trait::async_trait;

use super::manifest_store::ManifestStore;
use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
use injection::SecretBinding;

/// Binder that assumes that every secret exists, with unknown keys. Only the names that kustomize generated come from
/// the manifests.
#[derive(Clone, Debug)]
pub(super) struct AssumeExists(pub Arc<ManifestStore>);

#[async_trait]
impl SecretBinder for AssumeExists {
    fn kind(&self) -> BackendKind {
        BackendKind::Files
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let written = query.secret.name.as_str();
        let name = self
            .0
            .generated_name(&query.namespace, written)
            .unwrap_or(written);
        Ok(SecretBinding {
            secret_name: name.to_owned(),
            keys: None,
        })
    }
}
