//! Retries of temporary failures, never past the deadline.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use injection::SecretBinding;

/// Number of attempts, and the backoff between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts in total, the first included.
    pub max_attempts: u32,
    /// Longest backoff before the second attempt; it doubles for each further one.
    pub initial_backoff: Duration,
    /// Limit of the backoff.
    pub max_backoff: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
        }
    }
}

impl RetrySettings {
    /// Repeats `call` as long as its failures are retryable and `deadline` leaves time: exponential backoff with
    /// jitter. Returns `deadline_error` when the deadline passes.
    pub(crate) async fn retry<T, F>(
        self,
        jitter: fn(Duration) -> Duration,
        deadline: Instant,
        deadline_error: impl Fn() -> BackendError,
        mut call: impl FnMut() -> F,
    ) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        if Instant::now() >= deadline {
            return Err(deadline_error());
        }
        let mut attempt = 1;
        loop {
            let error = match timeout_at(deadline, call()).await {
                Ok(Err(error)) => error,
                Ok(Ok(value)) => return Ok(value),
                Err(_) => return Err(deadline_error()),
            };
            let backoff = self.backoff(jitter, attempt, &error);
            // The error has more information than "deadline", and is available now.
            let no_time = backoff >= deadline.saturating_duration_since(Instant::now());
            if !error.kind.is_retryable() || attempt >= self.max_attempts || no_time {
                return Err(error);
            }
            sleep(backoff).await;
            attempt += 1;
        }
    }

    /// Backoff after failed attempt number `attempt`, beginning with 1. A Retry-After of the backend replaces it, as
    /// long as the deadline allows. The jitter on top keeps its callers from returning at the same time.
    fn backoff(
        self,
        jitter: fn(Duration) -> Duration,
        attempt: u32,
        error: &BackendError,
    ) -> Duration {
        let Self {
            initial_backoff,
            max_backoff,
            ..
        } = self;
        match error.retry_after {
            Some(requested) => requested.saturating_add(jitter(initial_backoff)),
            None => jitter(
                initial_backoff
                    .saturating_mul(2_u32.saturating_pow(attempt - 1))
                    .min(max_backoff),
            ),
        }
    }
}

/// Random duration of at most `limit`.
pub(crate) fn full_jitter(limit: Duration) -> Duration {
    limit.mul_f64(fastrand::f64())
}

/// Decorator that repeats retryable failures: exponential backoff with full jitter, so that replicas that failed
/// together do not retry together.
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
        let deadline_error = || BackendError::about(ErrorKind::Deadline, self.kind(), query);
        self.settings
            .retry(self.jitter, query.deadline, deadline_error, || {
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
    async fn retryable_failures_are_repeated_with_growing_backoff() {
        let retrying = retrying();
        retrying.inner.next(Fault::Fail(ErrorKind::Unavailable));
        retrying.inner.next(Fault::Fail(ErrorKind::RateLimited));
        let began = Instant::now();
        retrying.bind(&query("jobs", "db")).await.unwrap();
        assert_eq!(retrying.inner.calls(), 3);
        assert_eq!(began.elapsed(), Duration::from_millis(50 + 100));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_limited() {
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
    async fn verdicts_are_not_retried(#[case] kind: ErrorKind) {
        let retrying = retrying();
        retrying.inner.always(Some(Fault::Fail(kind)));
        assert_eq!(
            retrying.bind(&query("jobs", "db")).await.unwrap_err().kind,
            kind
        );
        assert_eq!(retrying.inner.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_within_the_deadline() {
        let retrying = retrying();
        retrying.inner.next(Fault::SlowDown(Duration::from_secs(2)));
        let began = Instant::now();
        retrying.bind(&query("jobs", "db")).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(2050));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_beyond_the_deadline_fails_at_once() {
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
    async fn no_call_is_made_after_the_deadline() {
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
