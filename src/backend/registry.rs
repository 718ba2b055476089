//! Which backends this program knows, and the decorators that each of them wears.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::breaker::{Breaker, BreakerSettings};
use super::cached::{CacheSettings, Cached, RecentNames};
use super::kubernetes::{ClientSettings, ConnectError, KubernetesBackend, connect};
use super::metered::Metered;
use super::retrying::{RetrySettings, Retrying};
use super::{BackendKind, SecretBinder, SecretsBackend};
use crate::metrics::Metrics;

/// A backend to build. A new backend is a variant here, and the compiler lists the places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendConfig {
    /// Kubernetes Secrets.
    Kubernetes {
        /// How to reach the API server.
        client: ClientSettings,
        /// Nothing outside of these namespaces is asked for; `None` means all.
        allowed_namespaces: Option<BTreeSet<String>>,
    },
}

/// The numbers of the decorators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// What is remembered, and how long.
    pub cache: CacheSettings,
    /// What is asked again.
    pub retry: RetrySettings,
    /// When nothing is asked.
    pub breaker: BreakerSettings,
}

/// One backend, as its consumers see it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Which it is.
    pub kind: BackendKind,
    /// For admission: names, through all decorators.
    pub binder: Arc<dyn SecretBinder>,
    /// For the admin API: values, counted and otherwise as they come. Nothing is cached or repeated, because
    /// a person reads the answer and a write must not happen twice.
    pub values: Arc<dyn SecretsBackend>,
    /// For "did you mean": what admission bound lately.
    pub names: Arc<dyn RecentNames>,
}

impl Backend {
    /// Dresses `backend` in its decorators. From the outside in: the cache answers first; retries are counted
    /// one by one and stop at an open breaker.
    #[must_use]
    pub fn assemble<B: SecretsBackend>(backend: B, tuning: Tuning, metrics: &Metrics) -> Self {
        let Tuning { cache, retry, breaker } = tuning;
        let kind = backend.kind();
        let metered = Arc::new(Metered::new(backend, metrics.clone()));
        let guarded = Breaker::new(Arc::clone(&metered), breaker);
        let cached = Arc::new(Cached::new(Retrying::new(guarded, retry), cache, metrics.clone()));
        Self { kind, binder: Arc::<Cached<_>>::clone(&cached), values: metered, names: cached }
    }
}

/// Builds a backend from its configuration. Whoever has a client already, because other parts use it too,
/// calls [`Backend::assemble`] with a [`KubernetesBackend`] over it.
///
/// # Errors
/// When there is no configuration to reach the backend. Whether it answers is not asked.
pub async fn build(config: &BackendConfig, tuning: Tuning, metrics: &Metrics) -> Result<Backend, ConnectError> {
    match config {
        BackendConfig::Kubernetes { client, allowed_namespaces } => {
            let client = connect(client).await?;
            let backend = KubernetesBackend::new(client, allowed_namespaces.clone());
            Ok(Backend::assemble(backend, tuning, metrics))
        }
    }
}
