//! Tests of the cache, in paused time over a scripted backend.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::backend::memory::{Fault, MemoryBackend, query};
use crate::backend::{ErrorKind, KeyQuery};

mod lifetimes;
mod outages;
mod sharing;

const READ: Duration = Duration::from_millis(20);

type TestCache = Arc<Cached<Arc<MemoryBackend>>>;

fn fixture_with(settings: CacheSettings) -> (TestCache, Arc<MemoryBackend>, BackendMetrics) {
    let metrics = BackendMetrics::default();
    let backend = Arc::new(MemoryBackend::new());
    backend.put("jobs", "db", &[("user", "u"), ("password", "p")]);
    backend.always(Some(Fault::Delay(READ)));
    (
        Arc::new(Cached::new(Arc::clone(&backend), settings, metrics.clone())),
        backend,
        metrics,
    )
}

fn fixture() -> (TestCache, Arc<MemoryBackend>, BackendMetrics) {
    fixture_with(CacheSettings::default())
}

fn counted(metrics: &BackendMetrics, result: CacheResult) -> u64 {
    metrics
        .cache
        .get_or_create(&BackendCache {
            backend: BackendKind::Memory,
            result,
        })
        .get()
}

fn keys_query(keys: KeyQuery) -> BindQuery {
    BindQuery {
        keys,
        ..query("jobs", "db")
    }
}

fn key_query(key: &str) -> BindQuery {
    keys_query(KeyQuery::of(BTreeSet::from([key.parse().unwrap()])))
}

fn kind<T>(result: Result<T, BackendError>) -> ErrorKind {
    result.err().expect("an error").kind
}

/// Lets spawned tasks run. The clock moves by ten microseconds.
async fn run_spawned_tasks() {
    sleep(Duration::from_micros(10)).await;
}
