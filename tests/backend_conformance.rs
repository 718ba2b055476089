//! Every backend, decorator and fake keeps the contract that the traits write down.
#![cfg(feature = "test-util")]

mod support;

use std::future::ready;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use floe_secrets_webhook::backend::SecretBinder;
use floe_secrets_webhook::backend::breaker::{Breaker, BreakerSettings};
use floe_secrets_webhook::backend::cached::{CacheSettings, Cached};
use floe_secrets_webhook::backend::conformance::{Fixture, Trouble};
use floe_secrets_webhook::backend::memory::MemoryBackend;
use floe_secrets_webhook::backend::metered::Metered;
use floe_secrets_webhook::backend::registry::{Backend, Tuning};
use floe_secrets_webhook::backend::retrying::{RetrySettings, Retrying};
use floe_secrets_webhook::backend::static_binder::StaticBinder;
use floe_secrets_webhook::metrics::{Metrics, registry};
use floe_secrets_webhook::{backend_conformance, binder_conformance};
use support::{InMemory, OverApi};

fn metrics() -> Metrics {
    registry().1
}

fn memory() -> InMemory {
    InMemory::binder(|backend| backend)
}

fn metered() -> InMemory {
    let backend = Arc::new(MemoryBackend::new());
    let metered = Arc::new(Metered::new(Arc::clone(&backend), metrics()));
    InMemory { backend, binder: metered.clone(), values: metered }
}

fn retrying() -> InMemory {
    InMemory::binder(|backend| Retrying::new(backend, RetrySettings::default()))
}

fn breaker() -> InMemory {
    InMemory::binder(|backend| Breaker::new(backend, BreakerSettings::default()))
}

fn cached() -> InMemory {
    InMemory::binder(|backend| Cached::new(backend, CacheSettings::default(), metrics()))
}

fn full_stack() -> InMemory {
    let backend = Arc::new(MemoryBackend::new());
    let Backend { binder, values, .. } = Backend::assemble(Arc::clone(&backend), Tuning::default(), &metrics());
    InMemory { backend, binder, values }
}

async fn full_stack_over_api() -> OverApi {
    OverApi::fake_with(|backend| {
        let Backend { binder, values, .. } = Backend::assemble(backend, Tuning::default(), &metrics());
        (binder, values)
    })
    .await
}

/// Secrets known from files: nothing there can fail.
#[derive(Default)]
struct Files(Mutex<StaticBinder>);

#[async_trait]
impl Fixture for Files {
    fn binder(&self) -> Arc<dyn SecretBinder> {
        Arc::new(self.0.lock().expect("no clause panics with it").clone())
    }

    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let keys = data.iter().map(|(key, _)| (*key).to_owned());
        self.0.lock().expect("no clause panics with it").insert(namespace, name, keys);
    }

    async fn trouble(&self, _: Trouble) -> bool {
        false
    }

    fn in_flight(&self) -> Option<usize> {
        None
    }
}

fn files() -> Files {
    Files::default()
}

binder_conformance!(memory_binder, ready(memory()));
binder_conformance!(metered_binder, ready(metered()));
binder_conformance!(retrying_binder, ready(retrying()));
binder_conformance!(breaker_binder, ready(breaker()));
binder_conformance!(cached_binder, ready(cached()));
binder_conformance!(full_stack_binder, ready(full_stack()));
binder_conformance!(static_binder, ready(files()));
binder_conformance!(kubernetes_binder, OverApi::fake());
binder_conformance!(kubernetes_full_stack_binder, full_stack_over_api());

backend_conformance!(memory_backend, ready(memory()));
backend_conformance!(metered_backend, ready(metered()));
backend_conformance!(full_stack_backend, ready(full_stack()));
backend_conformance!(kubernetes_backend, OverApi::fake());
backend_conformance!(kubernetes_full_stack_backend, full_stack_over_api());
