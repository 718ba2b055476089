//! Binders for runs without `--secrets` and `--cluster`.

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

/// Binder as [`KnownOrAssumed`], except that a secret of which all keys are requested has the keys that are requested by
/// name. Plans made with it have every variable that is certain.
#[derive(Clone, Debug)]
pub(super) struct KnownOrNamed(pub Arc<ManifestStore>);

#[async_trait]
impl SecretBinder for KnownOrNamed {
    fn kind(&self) -> BackendKind {
        BackendKind::Files
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let mut binding = KnownOrAssumed(Arc::clone(&self.0)).bind(query).await?;
        if binding.keys.is_none() && query.keys.all {
            let named = query.keys.keys.iter().map(ToString::to_string);
            binding.keys = Some(named.collect());
        }
        Ok(binding)
    }
}
