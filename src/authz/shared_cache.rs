//! Answers of the API server that are kept for a short time. Concurrent callers with the same key share one call.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use moka::sync::Cache;
use tokio::time::{Instant, timeout};

use super::limiter::{CallLimiter, MAX_TENANT_WAITING};
use super::reviewer::AccessUnavailable;

/// Time for which an answer is used, from the moment it was asked for.
pub const ANSWER_TTL: Duration = Duration::from_secs(10);
/// Answers that are kept.
pub const MAX_ANSWERS: u64 = 8192;
/// Time limit of a call, with the time it waits for others.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);

type Answer<V> = Result<V, AccessUnavailable>;

/// Cache with one flight per key. Errors are never kept.
pub(super) struct SharedCache<K, V> {
    answers: Cache<K, KeptAnswer<V>>,
    flights: Mutex<HashMap<K, AnswerFlight<V>>>,
    ids: AtomicU64,
    limiter: Arc<CallLimiter>,
}

#[derive(Clone, Debug)]
struct KeptAnswer<V> {
    value: V,
    asked: Instant,
}

/// Call under way. Its callers own it together: when the last of them leaves, it is dropped.
struct AnswerFlight<V> {
    id: u64,
    call: WeakShared<BoxFuture<'static, Answer<V>>>,
}

impl<K, V> fmt::Debug for SharedCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCache")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

impl<K, V> SharedCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(limiter: &Arc<CallLimiter>) -> Arc<Self> {
        Arc::new(Self {
            answers: Cache::builder()
                .max_capacity(MAX_ANSWERS)
                .time_to_live(ANSWER_TTL)
                .build(),
            flights: Mutex::default(),
            ids: AtomicU64::default(),
            limiter: Arc::clone(limiter),
        })
    }

    /// Returns the answer for a key: one that is kept, that of a call under way, or that of `work`.
    pub(super) async fn get<W, F>(self: &Arc<Self>, key: K, tenant: &str, work: W) -> Answer<V>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Answer<V>> + Send + 'static,
    {
        if let Some(value) = self.kept(&key) {
            return Ok(value);
        }
        self.join(key, tenant, work).await
    }

    fn kept(&self, key: &K) -> Option<V> {
        let kept = self.answers.get(key)?;
        (kept.asked.elapsed() < ANSWER_TTL).then_some(kept.value)
    }

    fn join<W, F>(
        self: &Arc<Self>,
        key: K,
        tenant: &str,
        work: W,
    ) -> Shared<BoxFuture<'static, Answer<V>>>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Answer<V>> + Send + 'static,
    {
        let mut flights = self.flights();
        if let Some(call) = flights.get(&key).and_then(|flight| flight.call.upgrade()) {
            return call;
        }
        // A flight may have ended since the cache was read.
        if let Some(value) = self.kept(&key) {
            return async { Ok(value) }.boxed().shared();
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let ticket = FlightTicket {
            cache: Arc::clone(self),
            key: key.clone(),
            id,
        };
        let call = ticket.fly(tenant.to_owned(), work).boxed().shared();
        if let Some(weak) = call.downgrade() {
            flights.insert(key, AnswerFlight { id, call: weak });
        }
        call
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<K, AnswerFlight<V>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entry of a flight, removed when the flight ends or is dropped.
struct FlightTicket<K: Eq + Hash, V> {
    cache: Arc<SharedCache<K, V>>,
    key: K,
    id: u64,
}

impl<K, V> FlightTicket<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn fly<W, F>(self, tenant: String, work: W) -> Answer<V>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Answer<V>> + Send + 'static,
    {
        let call = async {
            let Some(_permit) = self.cache.limiter.acquire(&tenant).await else {
                return Err(AccessUnavailable {
                    reason: format!("{MAX_TENANT_WAITING} reviews of this realm wait already"),
                });
            };
            let asked = Instant::now();
            work().await.map(|value| KeptAnswer { value, asked })
        };
        let answer = timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(AccessUnavailable {
                reason: format!("the API server did not respond within {seconds} s"),
            })
        })?;
        let value = answer.value.clone();
        self.cache.answers.insert(self.key.clone(), answer);
        Ok(value)
    }
}

impl<K: Eq + Hash, V> Drop for FlightTicket<K, V> {
    fn drop(&mut self) {
        let mut flights = self
            .cache
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if flights
            .get(&self.key)
            .is_some_and(|flight| flight.id == self.id)
        {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    type TestCache = Arc<SharedCache<u32, usize>>;

    fn cache() -> (TestCache, Arc<AtomicUsize>) {
        (SharedCache::new(&CallLimiter::new()), Arc::default())
    }

    /// Asks with a call that takes some time and returns the number of calls so far.
    async fn ask(cache: &TestCache, calls: &Arc<AtomicUsize>, key: u32, ms: u64) -> Answer<usize> {
        let calls = Arc::clone(calls);
        let work = move || async move {
            sleep(Duration::from_millis(ms)).await;
            Ok(calls.fetch_add(1, Ordering::Relaxed) + 1)
        };
        cache.get(key, "tenant", work).await
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_kept_from_the_moment_it_was_asked_for() {
        let (cache, calls) = cache();
        assert_eq!(ask(&cache, &calls, 1, 1000).await, Ok(1));
        advance(Duration::from_millis(8_999)).await;
        assert_eq!(ask(&cache, &calls, 1, 0).await, Ok(1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&cache, &calls, 1, 0).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_with_one_key_share_a_call() {
        let (cache, calls) = cache();
        let answers = join_all((0..100).map(|_| ask(&cache, &calls, 1, 10))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(1)));
        assert_eq!(ask(&cache, &calls, 2, 10).await, Ok(2));
        assert!(cache.flights().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn errors_are_not_kept() {
        let (cache, calls) = cache();
        let unavailable = AccessUnavailable {
            reason: "away".to_owned(),
        };
        let error = unavailable.clone();
        let failed = cache.get(1, "tenant", || async { Err(error) }).await;
        assert_eq!(failed, Err(unavailable));
        let late = ask(&cache, &calls, 1, 3_000).await.unwrap_err();
        assert!(late.reason.contains("within 2 s"), "{late}");
        assert_eq!(ask(&cache, &calls, 1, 10).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn call_ends_with_its_last_caller() {
        let (cache, calls) = cache();
        let first = timeout(Duration::from_millis(1), ask(&cache, &calls, 1, 1_000));
        assert!(first.await.is_err());
        assert!(cache.flights().is_empty());
        assert_eq!(ask(&cache, &calls, 1, 10).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_bounded() {
        let (cache, calls) = cache();
        for key in 0..9_000 {
            ask(&cache, &calls, key, 0).await.unwrap();
        }
        cache.answers.run_pending_tasks();
        assert!(cache.answers.entry_count() <= MAX_ANSWERS);
    }
}
