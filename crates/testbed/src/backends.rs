//! Fixtures for the conformance suite: secrets behind an API server, and in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use floe_secrets_webhook::backend::conformance::{Fixture, InjectedFailure};
use floe_secrets_webhook::backend::kubernetes::KubernetesBackend;
use floe_secrets_webhook::backend::kubernetes::fake_api::{ApiFault, FakeApi};
use floe_secrets_webhook::backend::memory::{Fault, MemoryBackend};
use floe_secrets_webhook::backend::{ErrorKind, SecretBinder, SecretsBackend};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Fixture over a scripted backend in memory.
pub struct MemoryFixture {
    pub backend: Arc<MemoryBackend>,
    pub binder: Arc<dyn SecretBinder>,
    pub values: Arc<dyn SecretsBackend>,
}

impl MemoryFixture {
    /// Fixture whose binder is the decorated backend; its values come from the backend itself.
    pub fn binder<B: SecretBinder>(decorate: impl FnOnce(Arc<MemoryBackend>) -> B) -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let binder = Arc::new(decorate(Arc::clone(&backend)));
        Self {
            values: backend.clone(),
            binder,
            backend,
        }
    }
}

#[async_trait]
impl Fixture for MemoryFixture {
    fn binder(&self) -> Arc<dyn SecretBinder> {
        Arc::clone(&self.binder)
    }

    fn backend(&self) -> Arc<dyn SecretsBackend> {
        Arc::clone(&self.values)
    }

    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        self.backend.put(namespace, name, data);
    }

    async fn annotate(&self, namespace: &str, name: &str, key: &str, value: &str) {
        self.backend.annotate(namespace, name, key, value);
    }

    async fn annotation(&self, namespace: &str, name: &str, key: &str) -> Option<String> {
        self.backend.annotation(namespace, name, key)
    }

    async fn fail_with(&self, failure: InjectedFailure) -> bool {
        self.backend.always(Some(match failure {
            InjectedFailure::NoResponse => Fault::Hang,
            InjectedFailure::RateLimited => Fault::SlowDown(Duration::from_mins(1)),
            InjectedFailure::Denied => Fault::Fail(ErrorKind::PermissionDenied),
            InjectedFailure::Unreadable => Fault::Fail(ErrorKind::Protocol),
            InjectedFailure::Unavailable => Fault::Fail(ErrorKind::Unavailable),
            InjectedFailure::Unauthenticated => Fault::Fail(ErrorKind::Unauthenticated),
        }));
        true
    }

    fn in_flight(&self) -> Option<usize> {
        Some(self.backend.in_flight())
    }
}

/// Fixture over an API server: a fake one, which can be made to fail, or a real one, which cannot.
pub struct ApiFixture {
    /// Client that creates secrets, with other permissions than the backend.
    pub admin: Client,
    pub binder: Arc<dyn SecretBinder>,
    pub values: Arc<dyn SecretsBackend>,
    /// Both must exist, and be empty of secrets.
    pub namespaces: (String, String),
    pub fake: Option<FakeApi>,
}

impl ApiFixture {
    /// Fixture of the backend without decorators over a fake server.
    pub async fn fake() -> Self {
        Self::fake_with(|backend| (Arc::clone(&backend) as _, backend as _)).await
    }

    /// Fixture of the decorated backend over a fake server.
    pub async fn fake_with(
        decorate: impl FnOnce(
            Arc<KubernetesBackend>,
        ) -> (Arc<dyn SecretBinder>, Arc<dyn SecretsBackend>),
    ) -> Self {
        let fake = FakeApi::start(&["jobs", "other"]).await;
        let (binder, values) = decorate(Arc::new(KubernetesBackend::new(fake.client(), None)));
        let namespaces = ("jobs".to_owned(), "other".to_owned());
        Self {
            admin: fake.client(),
            binder,
            values,
            namespaces,
            fake: Some(fake),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: String,
        content_type: &str,
        body: Option<&Value>,
    ) -> Value {
        let body = body.map_or_else(Body::empty, |body| {
            Body::from(body.to_string().into_bytes())
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(body)
            .expect("a request");
        let response = self.admin.send(request).await.expect("a response");
        let status = response.status();
        let bytes = response
            .into_body()
            .collect()
            .await
            .expect("a complete response")
            .to_bytes();
        assert!(
            status.is_success(),
            "{status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

#[async_trait]
impl Fixture for ApiFixture {
    fn binder(&self) -> Arc<dyn SecretBinder> {
        Arc::clone(&self.binder)
    }

    fn backend(&self) -> Arc<dyn SecretsBackend> {
        Arc::clone(&self.values)
    }

    fn namespace(&self) -> String {
        self.namespaces.0.clone()
    }

    fn other_namespace(&self) -> String {
        self.namespaces.1.clone()
    }

    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), STANDARD.encode(value).into()))
            .collect();
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        self.call(Method::POST, path, "application/json", Some(&secret))
            .await;
    }

    async fn annotate(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let note = json!({"metadata": {"annotations": {key: value}}});
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        self.call(
            Method::PATCH,
            path,
            "application/merge-patch+json",
            Some(&note),
        )
        .await;
    }

    async fn annotation(&self, namespace: &str, name: &str, key: &str) -> Option<String> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let secret = self.call(Method::GET, path, "application/json", None).await;
        Some(
            secret
                .get("metadata")?
                .get("annotations")?
                .get(key)?
                .as_str()?
                .to_owned(),
        )
    }

    async fn fail_with(&self, failure: InjectedFailure) -> bool {
        let Some(fake) = &self.fake else { return false };
        fake.always(Some(match failure {
            InjectedFailure::Denied => ApiFault::Status(403),
            InjectedFailure::Unreadable => ApiFault::Truncated,
            InjectedFailure::Unavailable => ApiFault::Status(503),
            InjectedFailure::RateLimited => ApiFault::TooManyRequests(60),
            InjectedFailure::Unauthenticated => ApiFault::Status(401),
            InjectedFailure::NoResponse => ApiFault::NoResponse,
        }));
        true
    }

    fn in_flight(&self) -> Option<usize> {
        self.fake.as_ref().map(FakeApi::in_flight)
    }
}
