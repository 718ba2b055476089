//! Reads of defaults with the decorators that reads of secrets have, in the same order (see
//! [`crate::backend::registry`]): retries, the shares of all calls, a circuit breaker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::object::{DefaultsObject, DefaultsReader};
use crate::backend::layers::circuit_breaker::Circuit;
use crate::backend::layers::retry::{RetrySettings, full_jitter};
use crate::backend::limits::{Limits, in_turn};
use crate::backend::registry::DecoratorSettings;
use crate::backend::{BackendError, BackendKind, ErrorKind};

/// A reader that takes its turn among all calls, asks again, and pauses while the API server does not answer. The
/// breaker is its own: an API server that cannot decrypt Secrets still knows its Namespaces.
#[derive(Debug)]
pub struct Guarded<R> {
    inner: R,
    limits: Arc<Limits>,
    circuit: Circuit,
    retry: RetrySettings,
}

impl<R: DefaultsReader> Guarded<R> {
    /// Guards `inner`, within the shares that the secrets of the same API server are read in.
    #[must_use]
    pub fn new(inner: R, limits: Arc<Limits>, tuning: DecoratorSettings) -> Self {
        let circuit = Circuit::new(tuning.breaker, BackendKind::Kubernetes);
        Self {
            inner,
            limits,
            circuit,
            retry: tuning.retry,
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
        let failed = |kind| BackendError::new(kind, BackendKind::Kubernetes, namespace, None);
        let too_late = || failed(ErrorKind::Deadline);
        let attempt = || {
            let call = self
                .circuit
                .call(deadline, || failed(ErrorKind::Unavailable), read());
            in_turn(
                &self.limits,
                &self.circuit,
                namespace,
                deadline,
                too_late,
                call,
            )
        };
        self.retry
            .repeat(full_jitter, deadline, too_late, attempt)
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
