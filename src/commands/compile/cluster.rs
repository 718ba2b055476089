//! `compile --cluster`: the Secrets of the user's cluster, read with the user's own permissions. Values are dropped.

use std::collections::BTreeSet;
use std::sync::Arc;

use injection::SecretName;
use tokio::runtime::{Builder, Runtime};

use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::metrics::BackendMetrics;
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::backend::{BindQuery, ErrorKind, SecretBinder, is_dns_label};
use crate::commands::inject::ClusterArgs;
use crate::compile::LiveSecrets;
use crate::kubernetes::connect_for_long_calls;

/// Secrets of one namespace.
#[derive(Debug)]
struct ClusterSecrets {
    namespace: String,
    binder: Arc<dyn SecretBinder>,
    runtime: Runtime,
}

/// Connects to the cluster of the kubeconfig if `--cluster` is set. No request is sent yet.
///
/// # Errors
/// A sentence: there is no connection, or the namespace has no valid name.
pub(super) fn connect(
    args: ClusterArgs,
    namespace: Option<String>,
) -> Result<Option<Arc<dyn LiveSecrets>>, String> {
    if !args.cluster {
        return Ok(None);
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime could be started: {error}"))?;
    let settings = args.kubernetes.settings(true);
    let client = runtime
        .block_on(connect_for_long_calls(&settings))
        .map_err(|error| error.to_string())?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    if !is_dns_label(&namespace) {
        return Err(format!(
            "{namespace:?} is not the name of a namespace; correct it"
        ));
    }
    // Metrics of a short-lived program are not scraped.
    let metrics = BackendMetrics::default();
    let backend = KubernetesBackend::new(client, None);
    let Backend { binder, .. } = Backend::assemble(backend, DecoratorSettings::default(), &metrics);
    Ok(Some(Arc::new(ClusterSecrets {
        namespace,
        binder,
        runtime,
    })))
}

impl LiveSecrets for ClusterSecrets {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn keys(&self, name: &SecretName) -> Result<Option<BTreeSet<String>>, String> {
        let query = BindQuery::of_all_keys(&self.namespace, name.clone());
        let bound = self.runtime.block_on(self.binder.bind(&query));
        match bound {
            Ok(binding) => Ok(Some(binding.keys.unwrap_or_default())),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!(
                "secret {:?} in namespace {:?} cannot be read: {error}",
                name.as_str(),
                self.namespace
            )),
        }
    }
}
