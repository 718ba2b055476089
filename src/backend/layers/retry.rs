//! Asks again when the same question may get another answer a moment later, and never past the deadline.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use injection::SecretBinding;

/// How often and how fast to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The longest pause before the second attempt; it doubles for each further one.
    pub base: Duration,
    /// The longest pause of all.
    pub cap: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Duration::from_millis(50),
            cap: Duration::from_millis(500),
        }
    }
}

impl RetrySettings {
    /// Repeats `call` as long as its failures are retryable and `deadline` leaves time: exponential backoff with
    /// jitter. `too_late` is the answer when the deadline passes.
    pub(crate) async fn repeat<T, F>(
        self,
        jitter: fn(Duration) -> Duration,
        deadline: Instant,
        too_late: impl Fn() -> BackendError,
        mut call: impl FnMut() -> F,
    ) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        if Instant::now() >= deadline {
            return Err(too_late());
        }
        let mut attempt = 1;
        loop {
            let error = match timeout_at(deadline, call()).await {
                Ok(Err(error)) => error,
                Ok(Ok(answer)) => return Ok(answer),
                Err(_) => return Err(too_late()),
            };
            let pause = self.pause(jitter, attempt, &error);
            // The error says more than "deadline" would, and says it now.
            let no_time = pause >= deadline.saturating_duration_since(Instant::now());
            if !error.kind.is_retryable() || attempt >= self.attempts || no_time {
                return Err(error);
            }
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// The pause after failed attempt `attempt` (the first is 1). A backend that names a time knows better
    /// than we do, and is believed as long as the deadline lets it; the jitter on top keeps its callers from
    /// returning at the same instant.
    fn pause(
        self,
        jitter: fn(Duration) -> Duration,
        attempt: u32,
        error: &BackendError,
    ) -> Duration {
        let Self { base, cap, .. } = self;
        match error.retry_after {
            Some(wanted) => wanted.saturating_add(jitter(base)),
            None => jitter(
                base.saturating_mul(2_u32.saturating_pow(attempt - 1))
                    .min(cap),
            ),
        }
    }
}

/// Anything from nothing to `limit`.
pub(crate) fn full_jitter(limit: Duration) -> Duration {
    limit.mul_f64(fastrand::f64())
}

/// A decorator that repeats retryable failures: exponential backoff with full jitter, so that the replicas
/// that failed together do not come back together.
#[derive(Debug)]
pub struct Retrying<B> {
    inner: B,
    settings: RetrySettings,
    jitter: fn(Duration) -> Duration,
}

impl<B: SecretBinder> Retrying<B> {
    /// Repeats the retryable failures of `inner`.
    #[must_use]
    pub fn new(inner: B, settings: RetrySettings) -> Self {
        Self {
            inner,
            settings,
            jitter: full_jitter,
        }
    }
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Retrying<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let too_late = || BackendError::about(ErrorKind::Deadline, self.kind(), query);
        self.settings
            .repeat(self.jitter, query.deadline, too_late, || {
                self.inner.bind(query)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::{Fault, MemoryBackend, query};

    fn retrying() -> Retrying<MemoryBackend> {
        let backend = MemoryBackend::new();
        backend.put("jobs", "db", &[]);
        Retrying {
            inner: backend,
            settings: RetrySettings::default(),
            jitter: |limit| limit,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retryable_failures_are_repeated_with_growing_pauses() {
        let retrying = retrying();
        retrying.inner.next(Fault::Fail(ErrorKind::Unavailable));
        retrying.inner.next(Fault::Fail(ErrorKind::RateLimited));
        let began = Instant::now();
        retrying.bind(&query("jobs", "db")).await.unwrap();
        assert_eq!(retrying.inner.calls(), 3);
        assert_eq!(began.elapsed(), Duration::from_millis(50 + 100));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_few() {
        let retrying = retrying();
        retrying
            .inner
            .always(Some(Fault::Fail(ErrorKind::Unavailable)));
        assert_eq!(
            retrying.bind(&query("jobs", "db")).await.unwrap_err().kind,
            ErrorKind::Unavailable
        );
        assert_eq!(retrying.inner.calls(), 3);
    }

    #[rstest::rstest]
    #[case(ErrorKind::NotFound)]
    #[case(ErrorKind::PermissionDenied)]
    #[case(ErrorKind::Unauthenticated)]
    #[case(ErrorKind::Protocol)]
    #[case(ErrorKind::Invalid)]
    #[tokio::test(start_paused = true)]
    async fn verdicts_are_not_questioned(#[case] kind: ErrorKind) {
        let retrying = retrying();
        retrying.inner.always(Some(Fault::Fail(kind)));
        assert_eq!(
            retrying.bind(&query("jobs", "db")).await.unwrap_err().kind,
            kind
        );
        assert_eq!(retrying.inner.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_when_it_fits() {
        let retrying = retrying();
        retrying.inner.next(Fault::SlowDown(Duration::from_secs(2)));
        let began = Instant::now();
        retrying.bind(&query("jobs", "db")).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(2050));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_beyond_the_deadline_gives_up_at_once() {
        let retrying = retrying();
        for beyond in [
            Duration::from_secs(10),
            Duration::from_secs(30),
            Duration::from_hours(1),
        ] {
            retrying.inner.next(Fault::SlowDown(beyond));
            let began = Instant::now();
            assert_eq!(
                retrying.bind(&query("jobs", "db")).await.unwrap_err().kind,
                ErrorKind::RateLimited
            );
            assert_eq!(began.elapsed(), Duration::ZERO, "{beyond:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_after_the_deadline() {
        let retrying = retrying();
        let mut late = query("jobs", "db");
        late.deadline = late.arrived;
        assert_eq!(
            retrying.bind(&late).await.unwrap_err().kind,
            ErrorKind::Deadline
        );
        assert_eq!(retrying.inner.calls(), 0);
    }

    #[test]
    fn jitter_stays_within_its_limit() {
        let limit = Duration::from_millis(50);
        assert!((0..1000).all(|_| full_jitter(limit) <= limit));
    }
}
