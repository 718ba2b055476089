//! Stops asking a backend that does not answer.
//!
//! A dead backend must not hold the Job controller's workers for seconds per pod: after a few calls in a row
//! without an answer, callers get "unavailable" at once, and one call per pause tries whether it is back.
//!
//! Only calls that were really sent are counted: whatever waits in a line of ours ([`crate::backend::limits`]) waits outside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, SecretBinder};
use crate::telemetry::error_chain::ErrorChain;
use injection::SecretBinding;

/// When to stop asking, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many calls in a row without an answer open the breaker.
    pub failures: u32,
    /// How long nobody asks before one call tries again.
    pub pause: Duration,
    /// A missed deadline says nothing about the backend when the call had less time than this.
    pub patience: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(1),
            patience: Duration::from_millis(250),
        }
    }
}

/// The state of a backend's life, and who may call: what all kinds of calls to a backend have in common.
#[derive(Debug)]
pub struct Circuit {
    settings: BreakerSettings,
    backend: BackendKind,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Everyone asks; so many calls in a row had no answer.
    Closed(u32),
    /// Nobody asks before this moment.
    Open(Instant),
    /// One call is asking whether the backend is back.
    Probing,
}

/// What a call says about the backend's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallResult {
    Alive,
    Dead,
    /// The caller left too early to tell.
    None,
}

impl Circuit {
    /// A circuit that is closed.
    #[must_use]
    pub fn new(settings: BreakerSettings, backend: BackendKind) -> Self {
        Self {
            settings,
            backend,
            state: Mutex::new(State::Closed(0)),
        }
    }

    /// Whether a call would be refused now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self.state() {
            State::Closed(_) => false,
            State::Open(until) => until > Instant::now(),
            State::Probing => true,
        }
    }

    /// Makes a call, unless the circuit is open; then `refused` is the answer.
    pub(crate) async fn call<T>(
        &self,
        deadline: Instant,
        refused: impl FnOnce() -> BackendError,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let Some(pass) = self.enter(deadline) else {
            return Err(refused().because("not asked: the calls before this one got no answer"));
        };
        let result = call.await;
        pass.end(result.as_ref().err());
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or not.
    fn enter(&self, deadline: Instant) -> Option<Permit<'_>> {
        let now = Instant::now();
        let mut state = self.state();
        let probe = match *state {
            State::Closed(_) => false,
            State::Open(until) if until <= now => {
                *state = State::Probing;
                true
            }
            State::Open(_) | State::Probing => return None,
        };
        Some(Permit {
            circuit: self,
            probe,
            began: now,
            deadline,
            reported: false,
        })
    }

    /// Takes a call's sign; whether that opened or closed the breaker, for the log.
    fn learn(&self, sign: CallResult, probe: bool) -> Option<CallResult> {
        let BreakerSettings {
            failures, pause, ..
        } = self.settings;
        let reopen = State::Open(Instant::now() + pause);
        let mut state = self.state();
        let (next, changed) = match (*state, sign) {
            // A call from before the breaker opened: its answer is as good as the probe's.
            (State::Open(_) | State::Probing, CallResult::Alive) => (State::Closed(0), true),
            (State::Closed(_), CallResult::Alive) => (State::Closed(0), false),
            (State::Closed(count), CallResult::Dead) if count + 1 >= failures => (reopen, true),
            (State::Closed(count), CallResult::Dead) => (State::Closed(count + 1), false),
            (State::Probing, CallResult::Dead) if probe => (reopen, false),
            // The probe's caller left: the next call may probe.
            (State::Probing, CallResult::None) if probe => (State::Open(Instant::now()), false),
            (same, CallResult::Dead | CallResult::None) => (same, false),
        };
        *state = next;
        changed.then_some(sign)
    }
}

/// A call that was let through. It reports when dropped, so that a probe whose caller left frees its place.
struct Permit<'a> {
    circuit: &'a Circuit,
    probe: bool,
    began: Instant,
    deadline: Instant,
    reported: bool,
}

impl Permit<'_> {
    /// What a missed deadline says: nothing, if it was a short one.
    fn missed_deadline(&self) -> CallResult {
        let had = self.deadline.saturating_duration_since(self.began);
        if had >= self.circuit.settings.patience {
            CallResult::Dead
        } else {
            CallResult::None
        }
    }

    fn end(mut self, error: Option<&BackendError>) {
        let sign = match error.map(|error| error.kind) {
            Some(ErrorKind::Unavailable) => CallResult::Dead,
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
            ) => CallResult::Alive,
        };
        let backend = self.circuit.backend.as_str();
        match (self.circuit.learn(sign, self.probe), error) {
            (Some(CallResult::Dead), Some(error)) => {
                tracing::warn!(backend, error = %ErrorChain(error), "circuit breaker opened");
            }
            (Some(CallResult::Alive), _) => tracing::info!(backend, "circuit breaker closed"),
            _ => {}
        }
        self.reported = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Unreported: the call's future was dropped. A caller that leaves at its deadline waited in vain.
        if !self.reported {
            let sign = if Instant::now() >= self.deadline {
                self.missed_deadline()
            } else {
                CallResult::None
            };
            self.circuit.learn(sign, self.probe);
        }
    }
}

/// A decorator that answers [`ErrorKind::Unavailable`] in the backend's stead while it is dead.
#[derive(Debug)]
pub struct Breaker<B> {
    inner: B,
    circuit: Arc<Circuit>,
}

impl<B: SecretBinder> Breaker<B> {
    /// Guards `inner`.
    #[must_use]
    pub fn new(inner: B, settings: BreakerSettings) -> Self {
        let circuit = Arc::new(Circuit::new(settings, inner.kind()));
        Self { inner, circuit }
    }

    /// Its state, for those who would wait in line.
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
        let refused = || BackendError::about(ErrorKind::Unavailable, self.kind(), query);
        self.circuit
            .call(query.deadline, refused, self.inner.bind(query))
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

    async fn ask(breaker: &Breaker<MemoryBackend>) -> Option<ErrorKind> {
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
    async fn a_dead_backend_is_left_alone_then_tried_by_one(#[case] fault: Fault) {
        let breaker = breaker(fault);
        for _ in 0..5 {
            assert!(ask(&breaker).await.is_some());
        }
        assert_eq!(breaker.inner.calls(), 5);
        for _ in 0..100 {
            assert_eq!(ask(&breaker).await, Some(ErrorKind::Unavailable));
        }
        assert_eq!(breaker.inner.calls(), 5);

        advance(Duration::from_secs(1)).await;
        breaker
            .inner
            .always(Some(Fault::Delay(Duration::from_millis(10))));
        let (probe, other) = tokio::join!(ask(&breaker), ask(&breaker));
        assert_eq!((probe, other), (None, Some(ErrorKind::Unavailable)));
        assert_eq!(breaker.inner.calls(), 6);
        assert_eq!(ask(&breaker).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_opens_it_again() {
        let breaker = breaker(Fault::Fail(ErrorKind::Unavailable));
        for _ in 0..5 {
            ask(&breaker).await;
        }
        advance(Duration::from_secs(1)).await;
        ask(&breaker).await;
        ask(&breaker).await;
        assert_eq!(breaker.inner.calls(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_left_frees_its_place() {
        let breaker = breaker(Fault::Fail(ErrorKind::Unavailable));
        for _ in 0..5 {
            ask(&breaker).await;
        }
        advance(Duration::from_secs(1)).await;
        breaker.inner.next(Fault::Hang);
        assert!(
            timeout(Duration::from_millis(1), ask(&breaker))
                .await
                .is_err()
        );
        breaker.inner.always(None);
        assert_eq!(ask(&breaker).await, None);
    }

    #[rstest::rstest]
    #[case(Fault::Fail(ErrorKind::NotFound))]
    #[case(Fault::Fail(ErrorKind::PermissionDenied))]
    #[case(Fault::Fail(ErrorKind::RateLimited))]
    #[tokio::test(start_paused = true)]
    async fn an_answer_of_any_kind_is_a_sign_of_life(#[case] fault: Fault) {
        let breaker = breaker(fault);
        for _ in 0..20 {
            ask(&breaker).await;
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
                ask(&breaker).await;
            }
        }
        assert_eq!(breaker.inner.calls(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_in_a_hurry_says_nothing_about_the_backend() {
        let breaker = breaker(Fault::Hang);
        for _ in 0..20 {
            let mut hurried = query("jobs", "db");
            hurried.deadline = hurried.arrived + Duration::from_millis(100);
            assert_eq!(
                breaker.bind(&hurried).await.unwrap_err().kind,
                ErrorKind::Deadline
            );
        }
        assert_eq!(breaker.inner.calls(), 20);
    }
}
