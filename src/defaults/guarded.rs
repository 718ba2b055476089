//! Decorators of reads of defaults, in the same order as for secrets (see [`crate::backend::registry`]): retries, the
//! limits of all calls, a circuit breaker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::object::{DefaultsObject, DefaultsReader};
use crate::backend::layers::circuit_breaker::Circuit;
use crate::backend::layers::retry::{RetrySettings, full_jitter};
use crate::backend::limits::{Limits, call_limited};
use crate::backend::registry::DecoratorSettings;
use crate::backend::{BackendError, BackendKind, ErrorKind};

/// Reader that waits for a permit among all calls, retries, and pauses while the API server does not respond. It has a
/// breaker of its own: an API server that cannot decrypt Secrets can still read its Namespaces.
#[derive(Debug)]
pub struct Guarded<R> {
    inner: R,
    limits: Arc<Limits>,
    circuit: Circuit,
    retry: RetrySettings,
}

impl<R: DefaultsReader> Guarded<R> {
    /// Puts the decorators around `inner`, with the limits of the secrets of the same API server.
    #[must_use]
    pub fn new(inner: R, limits: Arc<Limits>, settings: DecoratorSettings) -> Self {
        let circuit = Circuit::new(settings.breaker, BackendKind::Kubernetes);
        Self {
            inner,
            limits,
            circuit,
            retry: settings.retry,
        }
    }

    async fn call<T, F>(
        &self,
        namespace: &str,
        deadline: Instant,
        read: impl Fn() -> F + Send + Sync,
    ) -> Result<T, BackendError>
    where
        T: Send,
        F: Future<Output = Result<T, BackendError>> + Send,
    {
        let error = |kind| BackendError::new(kind, BackendKind::Kubernetes, namespace, None);
        let deadline_error = || error(ErrorKind::Deadline);
        let attempt = || {
            let call = self
                .circuit
                .call(deadline, || error(ErrorKind::Unavailable), read());
            call_limited(
                &self.limits,
                &self.circuit,
                namespace,
                deadline,
                deadline_error,
                call,
            )
        };
        self.retry
            .retry(full_jitter, deadline, deadline_error, attempt)
            .await
    }
}

#[async_trait]
impl<R: DefaultsReader> DefaultsReader for Guarded<R> {
    async fn namespace(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.call(name, deadline, || self.inner.namespace(name, deadline))
            .await
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.call(namespace, deadline, || {
            self.inner.service_account(namespace, name, deadline)
        })
        .await
    }
}
