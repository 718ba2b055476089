//! Limits how many reviews wait for a stalled backend.
//!
//! Each review that waits may hold one of the five workers of the Job controller, and pods without references wait
//! behind it. A slow backend is worth the whole deadline, a dead one is not, and until it responds the two look the
//! same. So while the backend is stalled one review waits until its deadline, and the others are rejected.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::backend::{BackendError, ErrorKind};

/// The backend counts as stalled when no request has been answered for this long. A read takes far less unless the
/// backend is overloaded, and then it answers other requests.
pub(crate) const STALL_AFTER: Duration = Duration::from_millis(750);

/// Time that a review waits if the backend is stalled already: enough for a response of a backend that has recovered.
const GRACE: Duration = Duration::from_millis(100);

/// Time of the last response of the backend, and the review that waits.
#[derive(Debug)]
pub(crate) struct StallGuard {
    limit: Duration,
    state: Mutex<StallState>,
}

#[derive(Debug, Default)]
struct StallState {
    last_response: Option<Instant>,
    /// Review that waits until its deadline, identified by its arrival, and the number of its secrets that it waits
    /// for.
    probe: Option<(Instant, usize)>,
}

impl StallGuard {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// Records a response, whatever its meaning. [`ErrorKind::Unavailable`] and [`ErrorKind::Deadline`] are not
    /// responses: the request may not even have been sent.
    pub(crate) fn record<T>(&self, response: &Result<T, BackendError>) {
        if !matches!(response, Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Deadline))
        {
            self.state().last_response = Some(Instant::now());
        }
    }

    /// Waits for a read of a review until its deadline, or until the backend is found to be stalled.
    ///
    /// # Errors
    /// [`ErrorKind::Deadline`], or [`ErrorKind::Unavailable`] if the backend is stalled and another review waits for
    /// it.
    pub(crate) async fn wait<T>(
        &self,
        arrived: Instant,
        deadline: Instant,
        read: impl Future<Output = T>,
    ) -> Result<T, ErrorKind> {
        let mut read = pin!(read);
        let mut since = Instant::now();
        let probe = loop {
            let limit = if self.has_other_probe(arrived) {
                GRACE
            } else {
                self.limit
            };
            if let Ok(response) = timeout_at(deadline.min(since + limit), read.as_mut()).await {
                return Ok(response);
            }
            if Instant::now() >= deadline {
                return Err(ErrorKind::Deadline);
            }
            match self.last_response() {
                // Other requests are answered: this one is only late in the queue.
                Some(last) if last > since => since = last,
                _ => break self.acquire_probe(arrived).ok_or(ErrorKind::Unavailable)?,
            }
        };
        let response = timeout_at(deadline, read).await;
        drop(probe);
        response.map_err(|_| ErrorKind::Deadline)
    }

    fn has_other_probe(&self, arrived: Instant) -> bool {
        let StallState {
            last_response,
            probe,
        } = *self.state();
        // Once any request was answered, the probe is only the request that is last in the queue.
        let stalled = last_response.is_none_or(|last| last.elapsed() >= self.limit);
        stalled && probe.is_some_and(|(probe, _)| probe != arrived)
    }

    fn last_response(&self) -> Option<Instant> {
        self.state().last_response
    }

    /// Acquires the right to wait until the deadline, unless another review has it.
    fn acquire_probe(&self, arrived: Instant) -> Option<StallProbe<'_>> {
        let mut state = self.state();
        match &mut state.probe {
            Some((probe, secrets)) if *probe == arrived => *secrets += 1,
            Some(_) => return None,
            none => *none = Some((arrived, 1)),
        }
        Some(StallProbe(self))
    }

    fn state(&self) -> MutexGuard<'_, StallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One secret that the probing review waits for.
struct StallProbe<'a>(&'a StallGuard);

impl Drop for StallProbe<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.probe = state
            .probe
            .and_then(|(arrived, secrets)| (secrets > 1).then(|| (arrived, secrets - 1)));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;
    use crate::backend::BindQuery;
    use crate::backend::memory::query;

    /// Returns the length of the wait in milliseconds, and its error.
    async fn timed<T>(
        guard: &StallGuard,
        query: &BindQuery,
        read: impl Future<Output = T>,
    ) -> (u128, Option<ErrorKind>) {
        let began = Instant::now();
        let kind = guard.wait(query.arrived, query.deadline, read).await.err();
        (began.elapsed().as_millis(), kind)
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_backend_keeps_one_review_waiting() {
        let guard = StallGuard::new(STALL_AFTER);
        let reviews = (0..5).map(async |at| {
            sleep(Duration::from_millis(at)).await;
            timed(&guard, &query("jobs", "db"), pending::<()>()).await
        });
        let waits = join_all(reviews).await;
        assert_eq!(waits[0], (10_000, Some(ErrorKind::Deadline)));
        assert!(
            waits[1..]
                .iter()
                .all(|wait| *wait == (750, Some(ErrorKind::Unavailable))),
            "{waits:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn review_hardly_waits_for_a_backend_that_is_stalled_already() {
        let guard = StallGuard::new(STALL_AFTER);
        let first = query("jobs", "db");
        let probe = timed(&guard, &first, pending::<()>());
        let later = async {
            sleep(Duration::from_secs(2)).await;
            let rejected = timed(&guard, &query("jobs", "db"), pending::<()>()).await;
            let soon = sleep(Duration::from_millis(50));
            (rejected, timed(&guard, &query("jobs", "db"), soon).await)
        };
        let (_, (rejected, soon)) = tokio::join!(probe, later);
        assert_eq!(
            (rejected, soon),
            ((100, Some(ErrorKind::Unavailable)), (50, None))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slow_backend_gets_the_whole_deadline_for_all_secrets_of_a_review() {
        let guard = StallGuard::new(STALL_AFTER);
        let review = query("jobs", "db");
        let waits =
            join_all((0..3).map(|_| timed(&guard, &review, sleep(Duration::from_secs(3))))).await;
        assert!(waits.iter().all(|wait| *wait == (3000, None)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_reviews_wait_while_other_requests_are_answered() {
        let guard = StallGuard::new(STALL_AFTER);
        let responses = async {
            for _ in 0..20 {
                sleep(Duration::from_millis(200)).await;
                guard.record(&Ok(()));
            }
        };
        let queued = (0..5).map(async |at| {
            sleep(Duration::from_millis(at)).await;
            timed(&guard, &query("jobs", "db"), sleep(Duration::from_secs(4))).await
        });
        let (waits, ()) = tokio::join!(join_all(queued), responses);
        assert!(waits.iter().all(|wait| *wait == (4000, None)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn probe_that_leaves_is_replaced_by_the_next() {
        let guard = StallGuard::new(STALL_AFTER);
        let first = query("jobs", "db");
        assert!(
            tokio::time::timeout(
                Duration::from_secs(1),
                guard.wait(first.arrived, first.deadline, pending::<()>())
            )
            .await
            .is_err()
        );
        let next = timed(&guard, &query("jobs", "db"), sleep(Duration::from_secs(2))).await;
        assert_eq!(next, (2000, None));
    }
}
