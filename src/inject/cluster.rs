//! `--cluster`: the live cluster of the user's kubeconfig, read with the user's own permissions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use super::manifest_store::ManifestStore;
use crate::admission::sources::Source;
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::layers::cached::RecentNames;
use crate::backend::metrics::BackendMetrics;
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::backend::{
    BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder, SecretsBackend,
};
use crate::defaults::{DefaultsObject, DefaultsReader, KubernetesDefaults};
use crate::kubernetes::{ClientSettings, ConnectError, connect_for_long_calls};
use injection::SecretBinding;

/// The cluster to which the manifests will be applied.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Namespace of the kubeconfig's context.
    namespace: String,
    binder: Arc<dyn SecretBinder>,
    backend: Arc<dyn SecretsBackend>,
    defaults: KubernetesDefaults,
    /// Names of Secrets, by namespace; only of namespaces in which a secret was not found.
    names: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Cluster {
    /// Reads the kubeconfig. No request is sent yet.
    pub(crate) async fn connect(settings: &ClientSettings) -> Result<Self, ConnectError> {
        // Every read has its own deadline, so a slow connection need not fail early.
        let client = connect_for_long_calls(settings).await?;
        // Metrics of a short-lived program are not scraped.
        let metrics = BackendMetrics::default();
        let backend = KubernetesBackend::new(client.clone(), None);
        let Backend { binder, values, .. } =
            Backend::assemble(backend, DecoratorSettings::default(), &metrics);
        let namespace = client.default_namespace().to_owned();
        Ok(Self {
            namespace,
            binder,
            backend: values,
            defaults: KubernetesDefaults(client),
            names: Mutex::default(),
        })
    }

    /// Namespace of the kubeconfig's context.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Binder of secrets and reader of defaults: the cluster, with what the manifests add to it.
    pub(crate) fn source(self, manifests: Arc<ManifestStore>) -> (Source, Arc<dyn DefaultsReader>) {
        let layered = Arc::new(ClusterWithManifests {
            cluster: self,
            manifests,
        });
        let source = Source {
            binder: layered.clone(),
            recent_names: Some(layered.clone()),
        };
        (source, layered)
    }

    /// Lists the names in a namespace, for "did you mean". They are empty if the user may not list Secrets.
    async fn list_names(&self, namespace: &str) {
        let lists = || self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if lists().contains_key(namespace) {
            return;
        }
        let names = self
            .backend
            .list_secrets(namespace, "")
            .await
            .unwrap_or_default();
        let names = names.into_iter().map(|name| name.to_string()).collect();
        lists().insert(namespace.to_owned(), names);
    }
}

/// A cluster with the objects that the manifests will add. Objects of the cluster take precedence.
#[derive(Debug)]
pub(crate) struct ClusterWithManifests {
    pub cluster: Cluster,
    pub manifests: Arc<ManifestStore>,
}

#[async_trait]
impl SecretBinder for ClusterWithManifests {
    fn kind(&self) -> BackendKind {
        BackendKind::Kubernetes
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let manifest = self.manifests.bind(query).await;
        if self
            .manifests
            .generated_name(&query.namespace, query.secret.name.as_str())
            .is_some()
        {
            // A Secret with the original name in the cluster is older than the generated one in the manifests.
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
                self.cluster.list_names(&query.namespace).await;
                Err(error)
            }
            (live, _) => live,
        }
    }
}

impl RecentNames for ClusterWithManifests {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        let names = self
            .cluster
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        names
            .get(namespace)
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .chain(self.manifests.recent_names(namespace))
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
        match self.cluster.defaults.namespace(name, deadline).await? {
            Some(live) => Ok(Some(live)),
            None => self.manifests.namespace(name, deadline).await,
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
            .defaults
            .service_account(namespace, name, deadline)
            .await?
        {
            Some(live) => Ok(Some(live)),
            None => {
                self.manifests
                    .service_account(namespace, name, deadline)
                    .await
            }
        }
    }
}
