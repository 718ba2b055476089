//! Cache decorator: remembers which secrets exist and which keys they have. It stores names, never values.
//!
//! The rule: **a refusal, and an expansion of `name/*`, rest only on a read that began after the review arrived.** A
//! stored binding may admit a pod until its lifetime ends. A refusal always needs a read of its own time, which it
//! shares with all callers that wait for the same secret ([`crate::backend::layers::single_flight`]).

mod recent;
mod settings;
mod store;

use std::sync::Arc;

use async_trait::async_trait;

use self::store::{BindKey, BindingStore, CachedBinding};
use crate::backend::layers::single_flight::{ReadRequest, SingleFlight};
use crate::backend::metrics::{BackendCache, BackendMetrics, CacheResult};
use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
use injection::SecretBinding;

pub use settings::CacheSettings;

/// Names that were bound recently, for "did you mean". They are never more than admission has read in this replica.
pub trait RecentNames: std::fmt::Debug + Send + Sync + 'static {
    /// Names of secrets that were bound in `namespace` within the stale limit, in order. The cost depends on the names
    /// of this namespace alone, which are a few hundred at most.
    fn recent_names(&self, namespace: &str) -> Vec<String>;
}

/// Decorator that returns bindings from memory where the rule allows it.
#[derive(Debug)]
pub struct Cached<B> {
    store: Arc<BindingStore<B>>,
    single_flight: Arc<SingleFlight<BindKey, Arc<CachedBinding>>>,
    metrics: BackendMetrics,
}

impl<B: SecretBinder> Cached<B> {
    /// Puts a cache around `inner`.
    #[must_use]
    pub fn new(inner: B, settings: CacheSettings, metrics: BackendMetrics) -> Self {
        Self {
            store: Arc::new(BindingStore::new(inner, settings)),
            single_flight: Arc::default(),
            metrics,
        }
    }

    fn count(&self, result: CacheResult) {
        let labels = BackendCache {
            backend: self.kind(),
            result,
        };
        self.metrics.cache.get_or_create(&labels).inc();
    }

    /// Joins or begins a read, and waits for it as long as the deadline and the stall guard allow. Returns the result,
    /// and whether the caller shared the read with others.
    async fn read(
        &self,
        key: &BindKey,
        query: &BindQuery,
    ) -> (Result<Arc<CachedBinding>, BackendError>, bool) {
        let request = ReadRequest {
            keys: query.keys.needs_keys(),
            deadline: query.deadline,
        };
        let (store, read_key) = (Arc::clone(&self.store), key.clone());
        let read = self.single_flight.read(
            key,
            request,
            query.arrived,
            move |request, began| async move { store.read(read_key, request, began).await },
        );
        // The read serves other callers too, and some of them may have more time.
        let guarded = self
            .store
            .stall_guard
            .wait(query.arrived, query.deadline, read);
        guarded.await.unwrap_or_else(|kind| {
            let error = BackendError::about(kind, self.kind(), query);
            (Err(error.because("nobody was answered in a while")), false)
        })
    }
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Cached<B> {
    fn kind(&self) -> BackendKind {
        self.store.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let key = BindKey {
            namespace: query.namespace.clone(),
            secret: query.secret.clone(),
        };
        if let Some(cached) = self.store.fresh(&key, query) {
            self.count(CacheResult::Hit);
            return cached;
        }
        match self.read(&key, query).await {
            (Err(error), _) if error.kind.is_unavailable() => {
                let stale = self.store.stale(&key, query).ok_or(error)?;
                self.count(CacheResult::Stale);
                Ok(stale)
            }
            (result, shared) => {
                self.count(if shared {
                    CacheResult::Shared
                } else {
                    CacheResult::Miss
                });
                result.map(|cached| cached.binding.clone())
            }
        }
    }
}

impl<B: SecretBinder> RecentNames for Cached<B> {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        self.store.recent.names(namespace)
    }
}

#[cfg(test)]
mod tests;
