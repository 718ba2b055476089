//! Every backend, decorator and fake keeps the contract of the traits.
#![cfg(feature = "test-util")]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use floe_secrets_webhook::backend::conformance::{Fixture, InjectedFailure};
use floe_secrets_webhook::backend::kubernetes::KubernetesBackend;
use floe_secrets_webhook::backend::layers::cached::{CacheSettings, Cached};
use floe_secrets_webhook::backend::layers::circuit_breaker::{Breaker, BreakerSettings};
use floe_secrets_webhook::backend::layers::metered::Metered;
use floe_secrets_webhook::backend::layers::retry::{RetrySettings, Retrying};
use floe_secrets_webhook::backend::limits::{LimitSettings, Limited, Limits};
use floe_secrets_webhook::backend::memory::MemoryBackend;
use floe_secrets_webhook::backend::metrics::BackendMetrics;
use floe_secrets_webhook::backend::registry::{Backend, DecoratorSettings};
use floe_secrets_webhook::backend::static_binder::StaticBinder;
use floe_secrets_webhook::backend::{SecretBinder, SecretsBackend};
use floe_secrets_webhook::kubernetes::{ClientSettings, connect};
use floe_secrets_webhook::{backend_conformance, binder_conformance};
use testbed::backends::{ApiFixture, MemoryFixture};
use testbed::control_plane::ControlPlane;
use testbed::namespace::TestNamespace;
use testbed::webhook::webhook_identity;

fn metrics() -> BackendMetrics {
    BackendMetrics::default()
}

fn memory() -> MemoryFixture {
    MemoryFixture::binder(|backend| backend)
}

fn metered() -> MemoryFixture {
    let backend = Arc::new(MemoryBackend::new());
    let metered = Arc::new(Metered::new(Arc::clone(&backend), metrics()));
    MemoryFixture {
        backend,
        binder: metered.clone(),
        values: metered,
    }
}

fn retrying() -> MemoryFixture {
    MemoryFixture::binder(|backend| Retrying::new(backend, RetrySettings::default()))
}

fn breaker() -> MemoryFixture {
    MemoryFixture::binder(|backend| Breaker::new(backend, BreakerSettings::default()))
}

fn limited() -> MemoryFixture {
    MemoryFixture::binder(|backend| {
        let breaker = Breaker::new(backend, BreakerSettings::default());
        let circuit = breaker.circuit();
        Limited::new(breaker, Limits::new(LimitSettings::default()), circuit)
    })
}

fn cached() -> MemoryFixture {
    MemoryFixture::binder(|backend| Cached::new(backend, CacheSettings::default(), metrics()))
}

fn full_stack() -> MemoryFixture {
    let backend = Arc::new(MemoryBackend::new());
    let Backend { binder, values, .. } = Backend::assemble(
        Arc::clone(&backend),
        DecoratorSettings::default(),
        &metrics(),
    );
    MemoryFixture {
        backend,
        binder,
        values,
    }
}

async fn full_stack_over_api() -> ApiFixture {
    ApiFixture::fake_with(|backend| {
        let Backend { binder, values, .. } =
            Backend::assemble(backend, DecoratorSettings::default(), &metrics());
        (binder, values)
    })
    .await
}

/// Secrets from files: nothing there can fail.
#[derive(Default)]
struct Files(Mutex<StaticBinder>);

#[async_trait]
impl Fixture for Files {
    fn binder(&self) -> Arc<dyn SecretBinder> {
        Arc::new(self.0.lock().expect("no clause panics with it").clone())
    }

    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let keys = data.iter().map(|(key, _)| (*key).to_owned());
        self.0
            .lock()
            .expect("no clause panics with it")
            .insert(namespace, name, keys);
    }

    async fn fail_with(&self, _: InjectedFailure) -> bool {
        false
    }

    fn in_flight(&self) -> Option<usize> {
        None
    }
}

fn files() -> Files {
    Files::default()
}

/// Secrets of a real API server, read with the shipped permissions.
struct RealApi {
    over: ApiFixture,
    /// Current identity.
    binder: Mutex<Arc<dyn SecretBinder>>,
    /// Identities with an invalid token, and without permissions.
    unknown: Arc<dyn SecretBinder>,
    nobody: Arc<dyn SecretBinder>,
    _namespaces: [TestNamespace; 2],
}

impl RealApi {
    async fn start(dress: impl Fn(KubernetesBackend) -> Arc<dyn SecretBinder>) -> Self {
        let cp = ControlPlane::shared().await;
        let namespaces = [
            cp.namespace("conformance").await,
            cp.namespace("other").await,
        ];
        let webhook = webhook_identity(cp).await.kubeconfig;
        let nobody = cp.identity(&namespaces[0].name, "default").await.kubeconfig;
        let mut unknown: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&nobody).expect("a kubeconfig"))
                .expect("kubeconfigs here are JSON");
        unknown["users"][0]["user"]["token"] = "no-token".into();
        let unknown = cp.folder.write(
            &format!("{}.kubeconfig", testbed::unique("unknown")),
            unknown.to_string(),
        );
        let reading = async |kubeconfig| {
            let settings = ClientSettings {
                kubeconfig: Some(kubeconfig),
                ..ClientSettings::default()
            };
            dress(KubernetesBackend::new(
                connect(&settings).await.expect("a generated kubeconfig"),
                None,
            ))
        };
        let binder = reading(webhook).await;
        Self {
            over: ApiFixture {
                admin: cp.client(),
                binder: Arc::clone(&binder),
                // The webhook itself may neither list nor write.
                values: Arc::new(KubernetesBackend::new(cp.client(), None)),
                namespaces: (namespaces[0].name.clone(), namespaces[1].name.clone()),
                fake: None,
            },
            binder: Mutex::new(binder),
            unknown: reading(unknown).await,
            nobody: reading(nobody).await,
            _namespaces: namespaces,
        }
    }

    async fn bare() -> Self {
        Self::start(|backend| Arc::new(backend)).await
    }

    async fn full_stack() -> Self {
        Self::start(|backend| {
            Backend::assemble(backend, DecoratorSettings::default(), &metrics()).binder
        })
        .await
    }
}

#[async_trait]
impl Fixture for RealApi {
    fn binder(&self) -> Arc<dyn SecretBinder> {
        Arc::clone(&self.binder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn backend(&self) -> Arc<dyn SecretsBackend> {
        self.over.backend()
    }

    fn namespace(&self) -> String {
        self.over.namespace()
    }

    fn other_namespace(&self) -> String {
        self.over.other_namespace()
    }

    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        self.over.create(namespace, name, data).await;
    }

    async fn annotate(&self, namespace: &str, name: &str, key: &str, value: &str) {
        self.over.annotate(namespace, name, key, value).await;
    }

    async fn annotation(&self, namespace: &str, name: &str, key: &str) -> Option<String> {
        self.over.annotation(namespace, name, key).await
    }

    async fn fail_with(&self, failure: InjectedFailure) -> bool {
        let in_trouble = match failure {
            InjectedFailure::Denied => &self.nobody,
            InjectedFailure::Unauthenticated => &self.unknown,
            InjectedFailure::Unreadable
            | InjectedFailure::Unavailable
            | InjectedFailure::RateLimited
            | InjectedFailure::NoResponse => {
                return false;
            }
        };
        *self.binder.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(in_trouble);
        true
    }

    fn in_flight(&self) -> Option<usize> {
        None
    }
}

binder_conformance!(memory_binder, ready(memory()));
binder_conformance!(metered_binder, ready(metered()));
binder_conformance!(retrying_binder, ready(retrying()));
binder_conformance!(breaker_binder, ready(breaker()));
binder_conformance!(limited_binder, ready(limited()));
binder_conformance!(cached_binder, ready(cached()));
binder_conformance!(full_stack_binder, ready(full_stack()));
binder_conformance!(static_binder, ready(files()));
binder_conformance!(kubernetes_binder, ApiFixture::fake());
binder_conformance!(kubernetes_full_stack_binder, full_stack_over_api());
binder_conformance!(real_kubernetes_binder, RealApi::bare());
binder_conformance!(real_kubernetes_full_stack_binder, RealApi::full_stack());

backend_conformance!(memory_backend, ready(memory()));
backend_conformance!(metered_backend, ready(metered()));
backend_conformance!(full_stack_backend, ready(full_stack()));
backend_conformance!(kubernetes_backend, ApiFixture::fake());
backend_conformance!(kubernetes_full_stack_backend, full_stack_over_api());
backend_conformance!(real_kubernetes_backend, RealApi::bare());
