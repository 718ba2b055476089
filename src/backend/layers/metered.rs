//! Metrics decorator: counts and times the calls to a backend.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::backend::metrics::{
    BackendCall, BackendMetrics, BackendOperation, BackendRequest, BackendResult,
};
use crate::backend::{
    BackendError, BackendKind, BackendMetadata, BindQuery, HealthState, HealthStatus, SecretBinder,
    SecretData, SecretsBackend,
};
use injection::{SecretBinding, SecretKey, SecretName};

/// Decorator that counts every call, also calls whose caller left.
#[derive(Debug)]
pub struct Metered<B> {
    inner: B,
    metrics: BackendMetrics,
}

impl<B: SecretBinder> Metered<B> {
    /// Counts the calls to `inner` into `metrics`.
    #[must_use]
    pub fn new(inner: B, metrics: BackendMetrics) -> Self {
        Self { inner, metrics }
    }

    fn begin(&self, operation: BackendOperation) -> MeteredCall<'_> {
        MeteredCall {
            metrics: &self.metrics,
            backend: self.inner.kind(),
            operation,
            began: Instant::now(),
            result: BackendResult::Cancelled,
        }
    }
}

/// A call under way. It is counted when dropped, so that a caller that left is counted too.
struct MeteredCall<'a> {
    metrics: &'a BackendMetrics,
    backend: BackendKind,
    operation: BackendOperation,
    began: Instant,
    result: BackendResult,
}

impl MeteredCall<'_> {
    fn end<T>(mut self, result: Result<T, BackendError>) -> Result<T, BackendError> {
        self.result = match &result {
            Ok(_) => BackendResult::Ok,
            Err(error) => error.kind.into(),
        };
        result
    }
}

impl Drop for MeteredCall<'_> {
    fn drop(&mut self) {
        let Self {
            metrics,
            backend,
            operation,
            began,
            result,
        } = *self;
        metrics
            .requests
            .get_or_create(&BackendRequest {
                backend,
                operation,
                result,
            })
            .inc();
        metrics
            .duration
            .get_or_create(&BackendCall { backend, operation })
            .observe(began.elapsed().as_secs_f64());
    }
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Metered<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let call = self.begin(BackendOperation::Bind);
        call.end(self.inner.bind(query).await)
    }
}

#[async_trait]
impl<B: SecretsBackend> SecretsBackend for Metered<B> {
    async fn get_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        key: &SecretKey,
    ) -> Result<SecretString, BackendError> {
        let call = self.begin(BackendOperation::Get);
        call.end(self.inner.get_secret(namespace, name, key).await)
    }

    async fn get_all(
        &self,
        namespace: &str,
        name: &SecretName,
    ) -> Result<SecretData, BackendError> {
        let call = self.begin(BackendOperation::GetAll);
        call.end(self.inner.get_all(namespace, name).await)
    }

    async fn set_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        data: SecretData,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), BackendError> {
        let call = self.begin(BackendOperation::Set);
        call.end(self.inner.set_secret(namespace, name, data, metadata).await)
    }

    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError> {
        let call = self.begin(BackendOperation::List);
        call.end(self.inner.list_secrets(namespace, prefix).await)
    }

    async fn health_check(&self, timeout: Duration) -> HealthStatus {
        let mut call = self.begin(BackendOperation::Health);
        let status = self.inner.health_check(timeout).await;
        call.result = match status.state {
            HealthState::Healthy | HealthState::Degraded => BackendResult::Ok,
            HealthState::Unhealthy => BackendResult::Unavailable,
        };
        status
    }

    fn metadata(&self) -> BackendMetadata {
        self.inner.metadata()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ErrorKind;
    use crate::backend::memory::{Fault, MemoryBackend, query};
    use crate::backend::metrics::BackendMetrics;

    fn requests(metrics: &BackendMetrics, result: BackendResult) -> u64 {
        let labels = BackendRequest {
            backend: BackendKind::Memory,
            operation: BackendOperation::Bind,
            result,
        };
        metrics.requests.get_or_create(&labels).get()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_once_by_result() {
        let metrics = BackendMetrics::default();
        let backend = MemoryBackend::new();
        backend.put("jobs", "db", &[("user", "u")]);
        let metered = Metered::new(backend, metrics.clone());
        metered.bind(&query("jobs", "db")).await.unwrap();
        assert_eq!(
            metered.bind(&query("jobs", "gone")).await.unwrap_err().kind,
            ErrorKind::NotFound
        );
        metered.inner.next(Fault::Hang);
        let query_of_db = query("jobs", "db");
        assert!(
            tokio::time::timeout(Duration::from_millis(10), metered.bind(&query_of_db))
                .await
                .is_err()
        );
        for result in [
            BackendResult::Ok,
            BackendResult::NotFound,
            BackendResult::Cancelled,
        ] {
            assert_eq!(requests(&metrics, result), 1, "{result:?}");
        }
    }
}
