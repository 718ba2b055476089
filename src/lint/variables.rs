//! Variables that the containers of a pod have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::backend::{BindQuery, ErrorKind, SecretBinder};
use crate::inject::manifest_store::ManifestStore;
use injection::{KeyQuery, SecretId, SecretSource};

/// Time limit of the read of one Secret's keys.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Variables of one container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ContainerVariables {
    pub(super) container: String,
    pub(super) names: BTreeSet<String>,
    /// Sources of `envFrom` whose keys are not known, as in `Secret "db"`.
    pub(super) unknown_sources: Vec<String>,
}

/// Lookups of the keys of Secrets and ConfigMaps.
pub(super) struct KeySources {
    pub(super) store: Arc<ManifestStore>,
    pub(super) binder: Arc<dyn SecretBinder>,
}

impl KeySources {
    /// Variables of the app containers of a pod, in its order.
    pub(super) async fn of_pod(&self, namespace: &str, pod: &Value) -> Vec<ContainerVariables> {
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let mut variables = Vec::new();
        for container in containers.into_iter().flatten() {
            variables.push(self.of_container(namespace, container).await);
        }
        variables
    }

    async fn of_container(&self, namespace: &str, container: &Value) -> ContainerVariables {
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
            let (kind, name, keys) = if let Some(secret) = source.get("secretRef") {
                let name = text_of(secret, "name");
                ("Secret", name, self.secret_keys(namespace, name).await)
            } else if let Some(map) = source.get("configMapRef") {
                let name = text_of(map, "name");
                let keys = self.store.config_map_keys(namespace, name).cloned();
                ("ConfigMap", name, keys)
            } else {
                continue;
            };
            match keys {
                Some(keys) => variables
                    .names
                    .extend(keys.into_iter().map(|key| format!("{prefix}{key}"))),
                None => variables.unknown_sources.push(format!("{kind} \"{name}\"")),
            }
        }
        variables
    }

    /// Keys of a Secret; `None` if they are not known.
    async fn secret_keys(&self, namespace: &str, name: &str) -> Option<BTreeSet<String>> {
        let arrived = Instant::now();
        let query = BindQuery {
            namespace: namespace.to_owned(),
            secret: SecretId {
                source: SecretSource::Kubernetes,
                name: name.parse().ok()?,
            },
            keys: KeyQuery::all(),
            arrived,
            deadline: arrived + READ_TIMEOUT,
        };
        match self.binder.bind(&query).await {
            Ok(binding) => binding.keys,
            Err(error) if error.kind == ErrorKind::NotFound => Some(BTreeSet::new()),
            Err(_) => None,
        }
    }
}

fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
