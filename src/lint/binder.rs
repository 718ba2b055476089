//! Binder for runs without `--secrets` and `--cluster`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::inject::manifest_store::ManifestStore;
use injection::SecretBinding;

/// Binder that knows the Secrets in the manifests, and assumes that every other secret exists with unknown keys.
#[derive(Clone, Debug)]
pub(super) struct KnownOrAssumed(pub Arc<ManifestStore>);

#[async_trait]
impl SecretBinder for KnownOrAssumed {
    fn kind(&self) -> BackendKind {
        BackendKind::Files
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        match self.0.bind(query).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(SecretBinding {
                secret_name: query.secret.name.as_str().to_owned(),
                keys: None,
            }),
            known => known,
        }
    }
}
