//! Circuit breaker: pauses calls to a backend that does not respond.
//!
//! A dead backend must not hold the workers of the Job controller for seconds per pod: after a few calls in a row
//! without a response, calls fail with [`ErrorKind::Unavailable`] at once, and one call per `reset_timeout` checks
//! whether the backend is back.
//!
//! Only calls that were sent are counted: calls that wait in a queue of this program ([`crate::backend::limits`]) wait
//! outside of the breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::telemetry::error_chain::ErrorChain;
use injection::SecretBinding;

/// Settings of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Calls in a row without a response that open the breaker.
    pub failures: u32,
    /// Time without calls before one call tries again.
    pub reset_timeout: Duration,
    /// Shortest deadline whose miss counts as a failure: with less time, a slow call is not a failure of the backend.
    pub min_deadline: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            reset_timeout: Duration::from_secs(1),
            min_deadline: Duration::from_millis(250),
        }
    }
}

/// State that all kinds of calls to one backend share.
#[derive(Debug)]
pub struct Circuit {
    settings: BreakerSettings,
    backend: BackendKind,
    state: Mutex<CircuitState>,
}

#[derive(Clone, Copy, Debug)]
enum CircuitState {
    /// Calls are allowed; the number of calls in a row without a response.
    Closed(u32),
    /// Calls are rejected until this time.
    Open(Instant),
    /// One call checks whether the backend is back.
    HalfOpen,
}

/// Result of a call for the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallResult {
    Success,
    Failure,
    /// The caller left too early, so the call has no result.
    Ignored,
}

impl Circuit {
    /// Creates a closed circuit.
    #[must_use]
    pub fn new(settings: BreakerSettings, backend: BackendKind) -> Self {
        Self {
            settings,
            backend,
            state: Mutex::new(CircuitState::Closed(0)),
        }
    }

    /// Whether a call would be rejected now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self.state() {
            CircuitState::Closed(_) => false,
            CircuitState::Open(until) => until > Instant::now(),
            CircuitState::HalfOpen => true,
        }
    }

    /// Makes a call, unless the circuit is open: then it fails with `rejected`.
    pub(crate) async fn call<T>(
        &self,
        deadline: Instant,
        rejected: impl FnOnce() -> BackendError,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let Some(permit) = self.try_acquire(deadline) else {
            return Err(rejected().because("not asked: the calls before this one got no answer"));
        };
        let result = call.await;
        permit.end(result.as_ref().err());
        result
    }

    fn state(&self) -> MutexGuard<'_, CircuitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permits a call, unless the circuit is open.
    fn try_acquire(&self, deadline: Instant) -> Option<Permit<'_>> {
        let now = Instant::now();
        let mut state = self.state();
        let probe = match *state {
            CircuitState::Closed(_) => false,
            CircuitState::Open(until) if until <= now => {
                *state = CircuitState::HalfOpen;
                true
            }
            CircuitState::Open(_) | CircuitState::HalfOpen => return None,
        };
        Some(Permit {
            circuit: self,
            probe,
            began: now,
            deadline,
            recorded: false,
        })
    }

    /// Records the result of a call, and returns it if it opened or closed the circuit, for the log.
    fn record(&self, call_result: CallResult, probe: bool) -> Option<CallResult> {
        let BreakerSettings {
            failures,
            reset_timeout,
            ..
        } = self.settings;
        let reopen = CircuitState::Open(Instant::now() + reset_timeout);
        let mut state = self.state();
        let (next, changed) = match (*state, call_result) {
            // A call from before the breaker opened: its response counts as much as that of the probe.
            (CircuitState::Open(_) | CircuitState::HalfOpen, CallResult::Success) => {
                (CircuitState::Closed(0), true)
            }
            (CircuitState::Closed(_), CallResult::Success) => (CircuitState::Closed(0), false),
            (CircuitState::Closed(count), CallResult::Failure) if count + 1 >= failures => {
                (reopen, true)
            }
            (CircuitState::Closed(count), CallResult::Failure) => {
                (CircuitState::Closed(count + 1), false)
            }
            (CircuitState::HalfOpen, CallResult::Failure) if probe => (reopen, false),
            // The caller of the probe left: the next call may probe.
            (CircuitState::HalfOpen, CallResult::Ignored) if probe => {
                (CircuitState::Open(Instant::now()), false)
            }
            (same, CallResult::Failure | CallResult::Ignored) => (same, false),
        };
        *state = next;
        changed.then_some(call_result)
    }
}

/// A permitted call. It is recorded when dropped, so that a probe whose caller left does not block the next one.
struct Permit<'a> {
    circuit: &'a Circuit,
    probe: bool,
    began: Instant,
    deadline: Instant,
    recorded: bool,
}

impl Permit<'_> {
    /// Result of a missed deadline: ignored if the call had too little time.
    fn missed_deadline(&self) -> CallResult {
        let had = self.deadline.saturating_duration_since(self.began);
        if had >= self.circuit.settings.min_deadline {
            CallResult::Failure
        } else {
            CallResult::Ignored
        }
    }

    fn end(mut self, error: Option<&BackendError>) {
        let call_result = match error.map(|error| error.kind) {
            Some(ErrorKind::Unavailable) => CallResult::Failure,
            Some(ErrorKind::Deadline) => self.missed_deadline(),
            None
            | Some(
                ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::RateLimited
                | ErrorKind::Unauthenticated
                | ErrorKind::Protocol
                | ErrorKind::Invalid
                | ErrorKind::Conflict
                | ErrorKind::TooManyKeys,
            ) => CallResult::Success,
        };
        let backend = self.circuit.backend.as_str();
        match (self.circuit.record(call_result, self.probe), error) {
            (Some(CallResult::Failure), Some(error)) => {
                tracing::warn!(backend, error = %ErrorChain(error), "circuit breaker opened");
            }
            (Some(CallResult::Success), _) => tracing::info!(backend, "circuit breaker closed"),
            _ => {}
        }
        self.recorded = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // The future of the call was dropped. A caller that leaves at its deadline waited in vain.
        if !self.recorded {
            let call_result = if Instant::now() >= self.deadline {
                self.missed_deadline()
            } else {
                CallResult::Ignored
            };
            self.circuit.record(call_result, self.probe);
        }
    }
}

/// Decorator that returns [`ErrorKind::Unavailable`] without a call while the backend does not respond.
#[derive(Debug)]
pub struct Breaker<B> {
    inner: B,
    circuit: Arc<Circuit>,
}

impl<B: SecretBinder> Breaker<B> {
    /// Puts a breaker around `inner`.
    #[must_use]
    pub fn new(inner: B, settings: BreakerSettings) -> Self {
        let circuit = Arc::new(Circuit::new(settings, inner.kind()));
        Self { inner, circuit }
    }

    /// State of the breaker, for callers that would wait in a queue.
    #[must_use]
    pub fn circuit(&self) -> Arc<Circuit> {
        Arc::clone(&self.circuit)
    }
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Breaker<B> {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let rejected = || BackendError::about(ErrorKind::Unavailable, self.kind(), query);
        self.circuit
            .call(query.deadline, rejected, self.inner.bind(query))
            .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::backend::memory::{Fault, MemoryBackend, query};

    fn breaker(fault: Fault) -> Breaker<MemoryBackend> {
        let backend = MemoryBackend::new();
        backend.put("jobs", "db", &[]);
        backend.always(Some(fault));
        Breaker::new(backend, BreakerSettings::default())
    }

    async fn bind(breaker: &Breaker<MemoryBackend>) -> Option<ErrorKind> {
        breaker
            .bind(&query("jobs", "db"))
            .await
            .err()
            .map(|error| error.kind)
    }

    #[rstest::rstest]
    #[case(Fault::Fail(ErrorKind::Unavailable))]
    #[case(Fault::Hang)]
    #[tokio::test(start_paused = true)]
    async fn open_breaker_rejects_calls_then_permits_one_probe(#[case] fault: Fault) {
        let breaker = breaker(fault);
        for _ in 0..5 {
            assert!(bind(&breaker).await.is_some());
        }
        assert_eq!(breaker.inner.calls(), 5);
        for _ in 0..100 {
            assert_eq!(bind(&breaker).await, Some(ErrorKind::Unavailable));
        }
        assert_eq!(breaker.inner.calls(), 5);

        advance(Duration::from_secs(1)).await;
        breaker
            .inner
            .always(Some(Fault::Delay(Duration::from_millis(10))));
        let (probe, other) = tokio::join!(bind(&breaker), bind(&breaker));
        assert_eq!((probe, other), (None, Some(ErrorKind::Unavailable)));
        assert_eq!(breaker.inner.calls(), 6);
        assert_eq!(bind(&breaker).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_probe_opens_the_breaker_again() {
        let breaker = breaker(Fault::Fail(ErrorKind::Unavailable));
        for _ in 0..5 {
            bind(&breaker).await;
        }
        advance(Duration::from_secs(1)).await;
        bind(&breaker).await;
        bind(&breaker).await;
        assert_eq!(breaker.inner.calls(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn probe_whose_caller_left_is_replaced() {
        let breaker = breaker(Fault::Fail(ErrorKind::Unavailable));
        for _ in 0..5 {
            bind(&breaker).await;
        }
        advance(Duration::from_secs(1)).await;
        breaker.inner.next(Fault::Hang);
        assert!(
            timeout(Duration::from_millis(1), bind(&breaker))
                .await
                .is_err()
        );
        breaker.inner.always(None);
        assert_eq!(bind(&breaker).await, None);
    }

    #[rstest::rstest]
    #[case(Fault::Fail(ErrorKind::NotFound))]
    #[case(Fault::Fail(ErrorKind::PermissionDenied))]
    #[case(Fault::Fail(ErrorKind::RateLimited))]
    #[tokio::test(start_paused = true)]
    async fn response_of_any_kind_keeps_the_breaker_closed(#[case] fault: Fault) {
        let breaker = breaker(fault);
        for _ in 0..20 {
            bind(&breaker).await;
        }
        assert_eq!(breaker.inner.calls(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_count_only_in_a_row() {
        let breaker = breaker(Fault::Fail(ErrorKind::NotFound));
        for _ in 0..5 {
            for _ in 0..4 {
                breaker.inner.next(Fault::Fail(ErrorKind::Unavailable));
            }
            for _ in 0..5 {
                bind(&breaker).await;
            }
        }
        assert_eq!(breaker.inner.calls(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn short_deadlines_do_not_open_the_breaker() {
        let breaker = breaker(Fault::Hang);
        for _ in 0..20 {
            let mut short_query = query("jobs", "db");
            short_query.deadline = short_query.arrived + Duration::from_millis(100);
            assert_eq!(
                breaker.bind(&short_query).await.unwrap_err().kind,
                ErrorKind::Deadline
            );
        }
        assert_eq!(breaker.inner.calls(), 20);
    }
}
