//! Secrets from files: names and key names, without a backend.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::backend::layers::cached::RecentNames;
use injection::SecretBinding;

/// Binds from a map of namespace to secret to key names: `inject --secrets`.
#[derive(Clone, Debug, Default)]
pub struct StaticBinder {
    namespaces: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl StaticBinder {
    /// Adds a secret with its key names. The keys of a secret that exists are added to.
    pub fn insert(
        &mut self,
        namespace: impl Into<String>,
        name: impl Into<String>,
        keys: impl IntoIterator<Item = String>,
    ) {
        self.namespaces
            .entry(namespace.into())
            .or_default()
            .entry(name.into())
            .or_default()
            .extend(keys);
    }
}

#[async_trait]
impl SecretBinder for StaticBinder {
    fn kind(&self) -> BackendKind {
        BackendKind::Files
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let found = self
            .namespaces
            .get(&query.namespace)
            .and_then(|secrets| secrets.get(query.secret.name.as_str()));
        match found {
            Some(keys) => Ok(SecretBinding {
                secret_name: query.secret.name.as_str().to_owned(),
                keys: Some(keys.clone()),
            }),
            None => Err(BackendError::about(ErrorKind::NotFound, self.kind(), query)),
        }
    }
}

impl RecentNames for StaticBinder {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        self.namespaces
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect()
    }
}
