//! `--cluster`: the live cluster of the user's kubeconfig, asked with the user's own rights.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use super::offline::ManifestStore;
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::layers::cached::RecentNames;
use crate::backend::metrics::BackendMetrics;
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::backend::{
    BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder, SecretsBackend,
};
use crate::defaults::{DefaultsObject, DefaultsReader, KubernetesDefaults};
use crate::kubernetes::{ClientSettings, ConnectError, connect_patiently};
use injection::SecretBinding;

/// A cluster to which the manifests will be applied: what they hold exists there too, by then.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The context's.
    pub namespace: String,
    binder: Arc<dyn SecretBinder>,
    values: Arc<dyn SecretsBackend>,
    sources: KubernetesDefaults,
    /// Names by namespace, of those in which a secret was not found.
    listed: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Cluster {
    /// Reads the kubeconfig. Whether the cluster answers shows with the first question.
    pub(super) async fn connect(settings: &ClientSettings) -> Result<Self, ConnectError> {
        // Each question has its own deadline, and a person rather waits than asks again.
        let client = connect_patiently(settings).await?;
        // Nobody scrapes a program that ends in a moment.
        let metrics = BackendMetrics::default();
        let backend = KubernetesBackend::new(client.clone(), None);
        let Backend { binder, values, .. } =
            Backend::assemble(backend, DecoratorSettings::default(), &metrics);
        let namespace = client.default_namespace().to_owned();
        Ok(Self {
            namespace,
            binder,
            values,
            sources: KubernetesDefaults(client),
            listed: Mutex::default(),
        })
    }

    /// Lists a namespace's names, for "did you mean". A user who may not list is told none.
    async fn list(&self, namespace: &str) {
        let listed = || self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed().contains_key(namespace) {
            return;
        }
        let names = self
            .values
            .list_secrets(namespace, "")
            .await
            .unwrap_or_default();
        let names = names.into_iter().map(|name| name.to_string()).collect();
        listed().insert(namespace.to_owned(), names);
    }
}

/// A cluster, and the manifests that will be applied to it.
#[derive(Debug)]
pub(super) struct ClusterWithManifests {
    /// Asked first.
    pub cluster: Cluster,
    /// What the manifests add.
    pub known: Arc<ManifestStore>,
}

#[async_trait]
impl SecretBinder for ClusterWithManifests {
    fn kind(&self) -> BackendKind {
        BackendKind::Kubernetes
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let manifest = self.known.bind(query).await;
        if self
            .known
            .generated(&query.namespace, query.secret.name.as_str())
            .is_some()
        {
            // The manifests bring the Secret along; one that has the original name in the cluster is an older one.
            return manifest;
        }
        match (self.cluster.binder.bind(query).await, manifest) {
            (Ok(mut live), Ok(manifest)) => {
                if let (Some(keys), Some(more)) = (&mut live.keys, manifest.keys) {
                    keys.extend(more);
                }
                Ok(live)
            }
            (Err(error), Ok(manifest)) if error.kind == ErrorKind::NotFound => Ok(manifest),
            (Err(error), _) if error.kind == ErrorKind::NotFound => {
                self.cluster.list(&query.namespace).await;
                Err(error)
            }
            (live, _) => live,
        }
    }
}

impl RecentNames for ClusterWithManifests {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        let listed = self
            .cluster
            .listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listed
            .get(namespace)
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .chain(self.known.recent_names(namespace))
            .collect()
    }
}

#[async_trait]
impl DefaultsReader for ClusterWithManifests {
    async fn namespace(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        match self.cluster.sources.namespace(name, deadline).await? {
            Some(live) => Ok(Some(live)),
            None => self.known.namespace(name, deadline).await,
        }
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        match self
            .cluster
            .sources
            .service_account(namespace, name, deadline)
            .await?
        {
            Some(live) => Ok(Some(live)),
            None => self.known.service_account(namespace, name, deadline).await,
        }
    }
}
