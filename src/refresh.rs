//! Values that are fetched again and again: one fetch at a time, on a task of its own, with pauses after failures.
//!
//! Callers that need a newer value share a fetch. A caller that leaves does not end it. A fetch that fails keeps the
//! value of the one before, and delays the next one, whoever needs it: an outage does not become one fetch for each
//! request. Readers of the value take no lock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Longest pause after the first failure. Each further failure doubles it.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause after many failures. A pause is a random part of its length, so that replicas do not retry together.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Shortest pause.
pub(crate) const MIN_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause that an error may request.
pub(crate) const MAX_REQUESTED_PAUSE: Duration = Duration::from_mins(5);

/// Error of a fetch.
pub(crate) trait FetchFailure: Clone + Send + Sync + 'static {
    /// Pause that the error requests, such as `Retry-After`.
    fn requested_pause(&self) -> Option<Duration>;
}

/// A fetched value.
#[derive(Debug)]
pub(crate) struct Fetched<T> {
    pub value: T,
    /// Number of the value, from 1.
    pub generation: u64,
    /// Beginning of its fetch: the value is at least as old.
    pub began: Instant,
    /// End of its fetch.
    pub ended: Instant,
    /// Random number in 0..1, by which owners spread the time of the next fetch.
    pub spread: f64,
}

/// Reason why there is no newer value now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchMissed<E> {
    /// Error of the last fetch; `None` if it is still running or gave no result.
    pub error: Option<E>,
    /// Time until another attempt makes sense.
    pub retry_in: Duration,
}

type Fetch<T, E> = dyn Fn() -> BoxFuture<'static, Result<T, E>> + Send + Sync;

/// Keeper of a value and of the fetches of it. Clones are the same keeper.
pub(crate) struct Refresher<T, E>(Arc<RefreshState<T, E>>);

struct RefreshState<T, E> {
    fetch: Box<Fetch<T, E>>,
    current: ArcSwapOption<Fetched<T>>,
    progress: Mutex<FetchProgress<E>>,
}

struct FetchProgress<E> {
    /// Ends when the sender of the running fetch is dropped.
    running: Option<watch::Receiver<()>>,
    generation: u64,
    failures: u32,
    error: Option<E>,
    retry_at: Option<Instant>,
}

impl<T, E> Clone for Refresher<T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, E> fmt::Debug for Refresher<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher")
            .field("failures", &self.0.lock().failures)
            .finish_non_exhaustive()
    }
}

impl<T, E> RefreshState<T, E> {
    fn lock(&self) -> MutexGuard<'_, FetchProgress<E>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static, E: FetchFailure> Refresher<T, E> {
    pub(crate) fn new(
        fetch: impl Fn() -> BoxFuture<'static, Result<T, E>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(RefreshState {
            fetch: Box::new(fetch),
            current: ArcSwapOption::empty(),
            progress: Mutex::new(FetchProgress {
                running: None,
                generation: 0,
                failures: 0,
                error: None,
                retry_at: None,
            }),
        }))
    }

    /// Value of the last fetch that succeeded.
    pub(crate) fn current(&self) -> Option<Arc<Fetched<T>>> {
        self.0.current.load_full()
    }

    /// Whether the last fetch failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.lock().failures > 0
    }

    /// Ends the pause after failures, because their reason may be gone.
    pub(crate) fn end_pause(&self) {
        self.0.lock().retry_at = None;
    }

    /// Starts a fetch in the background, unless one is running or the pause after a failure is not over.
    pub(crate) fn start(&self) {
        self.join_or_start();
    }

    /// Value of the fetch that is running, or of a new one. Waits for at most `limit`.
    pub(crate) async fn fetch(&self, limit: Duration) -> Result<Arc<Fetched<T>>, FetchMissed<E>> {
        let (mut end, before) = self.join_or_start().ok_or_else(|| self.missed())?;
        // Nothing is sent: the channel closes.
        if timeout(limit, end.changed()).await.is_err() {
            return Err(FetchMissed {
                error: None,
                retry_in: FIRST_PAUSE,
            });
        }
        match self.current() {
            Some(current) if current.generation > before => Ok(current),
            _ => Err(self.missed()),
        }
    }

    fn missed(&self) -> FetchMissed<E> {
        let progress = self.0.lock();
        let retry_in = progress
            .retry_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        FetchMissed {
            error: progress.error.clone(),
            retry_in: retry_in.unwrap_or_default().max(MIN_PAUSE),
        }
    }

    /// End of a fetch, and the generation before it. `None` during the pause after a failure.
    fn join_or_start(&self) -> Option<(watch::Receiver<()>, u64)> {
        let mut progress = self.0.lock();
        if let Some(running) = &progress.running {
            return Some((running.clone(), progress.generation));
        }
        if progress.retry_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let (running, end) = watch::channel(());
        progress.running = Some(end.clone());
        let generation = progress.generation;
        drop(progress);
        let attempt = FetchAttempt {
            shared: Arc::clone(&self.0),
            began: Instant::now(),
            is_recorded: false,
            _running: running,
        };
        let work = (self.0.fetch)();
        tokio::spawn(async move {
            let result = work.await;
            attempt.record(result);
        });
        Some((end, generation))
    }
}

/// A running fetch. Without a result, because it panicked or the runtime ends, it counts as failed.
struct FetchAttempt<T, E> {
    shared: Arc<RefreshState<T, E>>,
    began: Instant,
    is_recorded: bool,
    /// Dropped after the result is recorded.
    _running: watch::Sender<()>,
}

impl<T, E: FetchFailure> FetchAttempt<T, E> {
    fn record(mut self, result: Result<T, E>) {
        self.is_recorded = true;
        let mut progress = self.shared.lock();
        match result {
            Ok(value) => {
                progress.generation += 1;
                let fetched = Fetched {
                    value,
                    generation: progress.generation,
                    began: self.began,
                    ended: Instant::now(),
                    spread: fastrand::f64(),
                };
                self.shared.current.store(Some(Arc::new(fetched)));
                progress.succeed();
            }
            Err(error) => progress.fail(error.requested_pause(), Some(error)),
        }
    }
}

impl<T, E> Drop for FetchAttempt<T, E> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.shared.lock().fail(None, None);
        }
    }
}

impl<E> FetchProgress<E> {
    fn succeed(&mut self) {
        self.running = None;
        self.failures = 0;
        self.error = None;
        self.retry_at = None;
    }

    fn fail(&mut self, requested: Option<Duration>, error: Option<E>) {
        self.running = None;
        let longest = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(5))
            .min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.error = error;
        let random = longest.mul_f64(fastrand::f64()).max(MIN_PAUSE);
        let requested = requested.unwrap_or_default().min(MAX_REQUESTED_PAUSE);
        self.retry_at = Some(Instant::now() + random.max(requested));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Away(Option<Duration>);

    impl FetchFailure for Away {
        fn requested_pause(&self) -> Option<Duration> {
            self.0
        }
    }

    const LIMIT: Duration = Duration::from_secs(2);

    /// Refresher whose fetch takes a second and returns the result that the script has for its number, and the number
    /// of fetches.
    fn scripted(
        script: impl Fn(usize) -> Result<usize, Away> + Send + Sync + Clone + 'static,
    ) -> (Refresher<usize, Away>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let refresher = Refresher::new(move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let script = script.clone();
            async move {
                sleep(Duration::from_secs(1)).await;
                script(number)
            }
            .boxed()
        });
        (refresher, count)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_a_fetch_that_outlives_them() {
        let (refresher, count) = scripted(Ok);
        let results = join_all((0..1000).map(|_| refresher.fetch(LIMIT))).await;
        assert!(results.iter().all(|result| {
            let fetched = result.as_ref().unwrap();
            (fetched.value, fetched.generation) == (0, 1)
        }));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        // A caller that does not wait for the end.
        let short = refresher.fetch(Duration::from_millis(10)).await;
        assert_eq!(
            short.unwrap_err(),
            FetchMissed {
                error: None,
                retry_in: FIRST_PAUSE
            }
        );
        let joined = refresher.fetch(LIMIT).await.unwrap();
        assert_eq!((joined.value, joined.generation), (1, 2));
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(joined.began < joined.ended && (0.0..1.0).contains(&joined.spread));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_keep_the_value_and_delay_every_fetch() {
        let (refresher, count) = scripted(|number| match number {
            0 => Ok(0),
            _ => Err(Away(None)),
        });
        refresher.fetch(LIMIT).await.unwrap();
        let began = Instant::now();
        for _ in 0..6000 {
            let missed = refresher.fetch(LIMIT).await.unwrap_err();
            assert_eq!(missed.error, Some(Away(None)));
            assert!((MIN_PAUSE..=MAX_PAUSE).contains(&missed.retry_in));
            advance(Duration::from_millis(100)).await;
        }
        assert!(began.elapsed() >= Duration::from_mins(10));
        // Pauses of 15 s on average, and a second for each fetch.
        let fetches = count.load(Ordering::Relaxed);
        assert!((20..=100).contains(&fetches), "{fetches}");
        assert!(refresher.is_failing());
        assert_eq!(refresher.current().unwrap().value, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn error_asks_for_a_pause_up_to_the_limit() {
        for (requested, pause) in [(60, 60), (3600, 300)] {
            let (refresher, count) =
                scripted(move |_| Err(Away(Some(Duration::from_secs(requested)))));
            let missed = refresher.fetch(LIMIT).await.unwrap_err();
            assert_eq!(missed.retry_in, Duration::from_secs(pause));
            advance(Duration::from_secs(pause - 1)).await;
            refresher.fetch(LIMIT).await.unwrap_err();
            assert_eq!(count.load(Ordering::Relaxed), 1);
            refresher.end_pause();
            refresher.fetch(LIMIT).await.unwrap_err();
            assert_eq!(count.load(Ordering::Relaxed), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fetch_without_a_result_counts_as_failed() {
        let (refresher, count) = scripted(|number| {
            assert!(number > 0, "the first fetch panics");
            Ok(number)
        });
        let missed = refresher.fetch(LIMIT).await.unwrap_err();
        assert_eq!(missed.error, None);
        assert!(refresher.is_failing());
        sleep(FIRST_PAUSE).await;
        assert_eq!(refresher.fetch(LIMIT).await.unwrap().value, 1);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(!refresher.is_failing());
    }
}
