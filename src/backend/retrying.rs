//! Asks again when the same question may get another answer a moment later, and never past the deadline.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};

use super::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::injection::SecretBinding;

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
        Self { attempts: 3, base: Duration::from_millis(50), cap: Duration::from_millis(500) }
    }
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
        Self { inner, settings, jitter: full_jitter }
    }

    /// The pause after failed attempt `attempt` (the first is 1). A backend that names a time knows better
    /// than we do; the jitter on top keeps its callers from returning at the same instant.
    fn pause(&self, attempt: u32, error: &BackendError) -> Duration {
        let RetrySettings { base, cap, .. } = self.settings;
        match error.retry_after {
            Some(wanted) => wanted.saturating_add((self.jitter)(base)),
            None => (self.jitter)(base.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(cap)),
        }
    }
}

/// Anything from nothing to `limit`.
fn full_jitter(limit: Duration) -> Duration {
    limit.mul_f64(fastrand::f64())
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Retrying<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let too_late = || BackendError::about(ErrorKind::Deadline, self.kind(), query);
        if Instant::now() >= query.deadline {
            return Err(too_late());
        }
        let mut attempt = 1;
        loop {
            let error = match timeout_at(query.deadline, self.inner.bind(query)).await {
                Ok(Err(error)) => error,
                Ok(Ok(binding)) => return Ok(binding),
                Err(_) => return Err(too_late()),
            };
            let pause = self.pause(attempt, &error);
            // The error says more than "deadline" would, and says it now.
            let no_time = pause >= query.deadline.saturating_duration_since(Instant::now());
            if !error.kind.is_retryable() || attempt >= self.settings.attempts || no_time {
                return Err(error);
            }
            sleep(pause).await;
            attempt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::{Fault, MemoryBackend, query};

    fn retrying() -> Retrying<MemoryBackend> {
        let backend = MemoryBackend::new();
        backend.put("jobs", "db", &[]);
        Retrying { inner: backend, settings: RetrySettings::default(), jitter: |limit| limit }
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
        retrying.inner.always(Some(Fault::Fail(ErrorKind::Unavailable)));
        assert_eq!(retrying.bind(&query("jobs", "db")).await.unwrap_err().kind, ErrorKind::Unavailable);
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
        assert_eq!(retrying.bind(&query("jobs", "db")).await.unwrap_err().kind, kind);
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
        retrying.inner.next(Fault::SlowDown(Duration::from_secs(30)));
        let began = Instant::now();
        assert_eq!(retrying.bind(&query("jobs", "db")).await.unwrap_err().kind, ErrorKind::RateLimited);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_after_the_deadline() {
        let retrying = retrying();
        let mut late = query("jobs", "db");
        late.deadline = late.arrived;
        assert_eq!(retrying.bind(&late).await.unwrap_err().kind, ErrorKind::Deadline);
        assert_eq!(retrying.inner.calls(), 0);
    }

    #[test]
    fn jitter_stays_within_its_limit() {
        let limit = Duration::from_millis(50);
        assert!((0..1000).all(|_| full_jitter(limit) <= limit));
    }
}
