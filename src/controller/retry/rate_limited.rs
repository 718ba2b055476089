//! Rate limited reads: a bounded number of requests per second to the API server, namespaces taking turns.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
use crate::defaults::{DefaultsObject, DefaultsReader};
use crate::kubernetes::RateLimiter;
use injection::SecretBinding;

/// Rate limits the calls of `inner`.
#[derive(Debug)]
pub(super) struct RateLimited<T> {
    pub inner: T,
    pub limiter: Arc<RateLimiter>,
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for RateLimited<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        self.limiter.acquire(&query.namespace).await;
        self.inner.bind(query).await
    }
}

#[async_trait]
impl<S: DefaultsReader> DefaultsReader for RateLimited<S> {
    async fn namespace(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.limiter.acquire(name).await;
        self.inner.namespace(name, deadline).await
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.limiter.acquire(namespace).await;
        self.inner.service_account(namespace, name, deadline).await
    }
}
