//! Variables that the containers of a pod have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::report::Report;
use crate::backend::{BackendError, BindQuery, ErrorKind, SecretBinder};
use crate::inject::manifest_store::ManifestStore;

/// Variables of one container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ContainerVariables {
    pub(super) container: String,
    pub(super) names: BTreeSet<String>,
    /// Sources whose keys are not known, as in `Secret "db"`.
    pub(super) unknown_sources: BTreeSet<String>,
}

/// Keys of a Secret; `None` if they are not known.
type KnownKeys = Option<BTreeSet<String>>;

/// Lookups of the keys of Secrets and ConfigMaps.
pub(super) struct KeySources {
    store: Arc<ManifestStore>,
    binder: Arc<dyn SecretBinder>,
    /// Keys of the Secrets that were read, by namespace and name. A Secret of a cluster is read once, whatever the number
    /// of pods.
    read: Mutex<BTreeMap<(String, String), KnownKeys>>,
}

/// Kind and name of a Secret, for messages.
pub(super) fn secret_title(name: &str) -> String {
    format!("Secret \"{name}\"")
}

impl KeySources {
    pub(super) fn new(store: Arc<ManifestStore>, binder: Arc<dyn SecretBinder>) -> Self {
        Self {
            store,
            binder,
            read: Mutex::default(),
        }
    }

    /// Variables of the app containers of a pod, in its order.
    pub(super) async fn of_pod(
        &self,
        namespace: &str,
        pod: &Value,
        report: &mut Report,
    ) -> Vec<ContainerVariables> {
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let mut variables = Vec::new();
        for container in containers.into_iter().flatten() {
            variables.push(self.of_container(namespace, container, report).await);
        }
        variables
    }

    async fn of_container(
        &self,
        namespace: &str,
        container: &Value,
        report: &mut Report,
    ) -> ContainerVariables {
        let list = |field: &str| {
            let list = container.get(field).and_then(Value::as_array);
            list.map(Vec::as_slice).unwrap_or_default()
        };
        let mut variables = ContainerVariables {
            container: text_of(container, "name").to_owned(),
            ..ContainerVariables::default()
        };
        for variable in list("env") {
            variables.names.insert(text_of(variable, "name").to_owned());
        }
        for source in list("envFrom") {
            let prefix = text_of(source, "prefix");
            let (title, keys) = if let Some(secret) = source.get("secretRef") {
                let name = text_of(secret, "name");
                let keys = self.secret_keys(namespace, name, report).await;
                (secret_title(name), keys)
            } else if let Some(map) = source.get("configMapRef") {
                let name = text_of(map, "name");
                let keys = self.store.config_map_keys(namespace, name).cloned();
                (format!("ConfigMap \"{name}\""), keys)
            } else {
                continue;
            };
            match keys {
                Some(keys) => variables
                    .names
                    .extend(keys.into_iter().map(|key| format!("{prefix}{key}"))),
                None => drop(variables.unknown_sources.insert(title)),
            }
        }
        variables
    }

    /// Keys of a Secret; `None` if they are not known. A failure to read them is reported.
    async fn secret_keys(&self, namespace: &str, name: &str, report: &mut Report) -> KnownKeys {
        let id = (namespace.to_owned(), name.to_owned());
        let read = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read().get(&id).cloned();
        if let Some(keys) = known {
            return keys;
        }
        let keys = self
            .read_keys(namespace, name)
            .await
            .unwrap_or_else(|error| {
                report.failure(error.to_string());
                None
            });
        read().insert(id, keys.clone());
        keys
    }

    async fn read_keys(&self, namespace: &str, name: &str) -> Result<KnownKeys, BackendError> {
        let Ok(name) = name.parse() else {
            return Ok(None);
        };
        let query = BindQuery::of_all_keys(namespace, name);
        match self.binder.bind(&query).await {
            Ok(binding) => Ok(binding.keys),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Some(BTreeSet::new())),
            Err(error) => Err(error),
        }
    }
}

fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::backend::BackendKind;
    use injection::SecretBinding;

    /// Binder that counts its calls, and fails for every secret but `absent`.
    #[derive(Debug, Default)]
    struct Failing(AtomicUsize);

    #[async_trait]
    impl SecretBinder for Failing {
        fn kind(&self) -> BackendKind {
            BackendKind::Kubernetes
        }

        async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let kind = match query.secret.name.as_str() {
                "absent" => ErrorKind::NotFound,
                _ => ErrorKind::PermissionDenied,
            };
            Err(BackendError::about(kind, self.kind(), query))
        }
    }

    #[tokio::test]
    async fn keys_are_read_once_and_failures_are_reported() {
        let binder = Arc::new(Failing::default());
        let sources = KeySources::new(Arc::default(), Arc::clone(&binder) as _);
        let source = |name: &str| json!({"secretRef": {"name": name}});
        let container =
            json!({"name": "m", "envFrom": [source("absent"), source("db"), source("db")]});
        let pod = json!({"spec": {"containers": [container, container]}});
        let mut report = Report::default();
        for _ in 0..2 {
            let containers = sources.of_pod("jobs", &pod, &mut report).await;
            let unknown = BTreeSet::from([secret_title("db")]);
            assert!(
                containers.iter().all(|c| c.unknown_sources == unknown),
                "{containers:?}"
            );
        }
        assert_eq!(binder.0.load(Ordering::SeqCst), 2);
        assert!(report.is_incomplete());
        assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
        assert!(
            report.failures[0].contains("\"db\""),
            "{:?}",
            report.failures
        );
    }
}
