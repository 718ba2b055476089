//! Who waits how long for a backend that is silent.
//!
//! Each review that waits may hold one of the Job controller's five workers, and pods that ask for nothing wait
//! behind it. A slow backend is worth the whole deadline, a dead one is not, and until it speaks nobody can tell
//! which it is. So in a silence one review waits on, and the others are told.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::backend::{BackendError, ErrorKind};

/// So long without an answer to anybody is a silence. A read takes far less unless the backend is overloaded, and then
/// it answers somebody.
pub(crate) const STALL_AFTER: Duration = Duration::from_millis(750);

/// Who comes into a silence gives a backend that is well again the time to say so.
const GRACE: Duration = Duration::from_millis(100);

/// Knows when the backend last answered anybody, and who waits on.
#[derive(Debug)]
pub(crate) struct StallGuard {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_answer: Option<Instant>,
    /// The review that waits on, known by its arrival, and how many of its secrets it waits for.
    keeper: Option<(Instant, usize)>,
}

impl StallGuard {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// Takes note of an answer, whatever it says. Who was told "unavailable" may not even have been asked.
    pub(crate) fn learn<T>(&self, answer: &Result<T, BackendError>) {
        if !matches!(answer, Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Deadline))
        {
            self.state().last_answer = Some(Instant::now());
        }
    }

    /// Waits for what a review reads until its deadline, or until it turns out that nobody is being answered.
    ///
    /// # Errors
    /// [`ErrorKind::Deadline`], or [`ErrorKind::Unavailable`] in a silence in which another review waits on.
    pub(crate) async fn wait<T>(
        &self,
        arrived: Instant,
        deadline: Instant,
        read: impl Future<Output = T>,
    ) -> Result<T, ErrorKind> {
        let mut read = pin!(read);
        let mut since = Instant::now();
        let keeper = loop {
            let limit = if self.is_kept_by_another(arrived) {
                GRACE
            } else {
                self.limit
            };
            if let Ok(answer) = timeout_at(deadline.min(since + limit), read.as_mut()).await {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(ErrorKind::Deadline);
            }
            match self.last_answer() {
                // Others are answered: it is our turn that takes long.
                Some(last) if last > since => since = last,
                _ => break self.keep(arrived).ok_or(ErrorKind::Unavailable)?,
            }
        };
        let answer = timeout_at(deadline, read).await;
        drop(keeper);
        answer.map_err(|_| ErrorKind::Deadline)
    }

    fn is_kept_by_another(&self, arrived: Instant) -> bool {
        let State {
            last_answer,
            keeper,
        } = *self.state();
        // Once somebody was answered the keeper is only the one whose turn takes longest.
        let silent = last_answer.is_none_or(|last| last.elapsed() >= self.limit);
        silent && keeper.is_some_and(|(keeper, _)| keeper != arrived)
    }

    fn last_answer(&self) -> Option<Instant> {
        self.state().last_answer
    }

    /// The right to wait on, unless another review has it.
    fn keep(&self, arrived: Instant) -> Option<Probe<'_>> {
        let mut state = self.state();
        match &mut state.keeper {
            Some((keeper, secrets)) if *keeper == arrived => *secrets += 1,
            Some(_) => return None,
            none => *none = Some((arrived, 1)),
        }
        Some(Probe(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One secret for which the keeper waits on.
struct Probe<'a>(&'a StallGuard);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.keeper = state
            .keeper
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

    /// Milliseconds until the wait ended, and how.
    async fn timed<T>(
        patience: &StallGuard,
        query: &BindQuery,
        read: impl Future<Output = T>,
    ) -> (u128, Option<ErrorKind>) {
        let began = Instant::now();
        let kind = patience
            .wait(query.arrived, query.deadline, read)
            .await
            .err();
        (began.elapsed().as_millis(), kind)
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_silence_one_review_waits_on() {
        let patience = StallGuard::new(STALL_AFTER);
        let reviews = (0..5).map(async |at| {
            sleep(Duration::from_millis(at)).await;
            timed(&patience, &query("jobs", "db"), pending::<()>()).await
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
    async fn who_comes_into_a_silence_hardly_waits() {
        let patience = StallGuard::new(STALL_AFTER);
        let first = query("jobs", "db");
        let keeper = timed(&patience, &first, pending::<()>());
        let later = async {
            sleep(Duration::from_secs(2)).await;
            let told = timed(&patience, &query("jobs", "db"), pending::<()>()).await;
            let soon = sleep(Duration::from_millis(50));
            (told, timed(&patience, &query("jobs", "db"), soon).await)
        };
        let (_, (told, soon)) = tokio::join!(keeper, later);
        assert_eq!(
            (told, soon),
            ((100, Some(ErrorKind::Unavailable)), (50, None))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_backend_has_the_whole_deadline_for_all_secrets_of_a_review() {
        let patience = StallGuard::new(STALL_AFTER);
        let review = query("jobs", "db");
        let waits =
            join_all((0..3).map(|_| timed(&patience, &review, sleep(Duration::from_secs(3)))))
                .await;
        assert!(waits.iter().all(|wait| *wait == (3000, None)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_are_answered_everybody_waits() {
        let patience = StallGuard::new(STALL_AFTER);
        let answers = async {
            for _ in 0..20 {
                sleep(Duration::from_millis(200)).await;
                patience.learn(&Ok(()));
            }
        };
        let queued = (0..5).map(async |at| {
            sleep(Duration::from_millis(at)).await;
            timed(
                &patience,
                &query("jobs", "db"),
                sleep(Duration::from_secs(4)),
            )
            .await
        });
        let (waits, ()) = tokio::join!(join_all(queued), answers);
        assert!(waits.iter().all(|wait| *wait == (4000, None)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_leaves_makes_room_for_the_next() {
        let patience = StallGuard::new(STALL_AFTER);
        let first = query("jobs", "db");
        assert!(
            tokio::time::timeout(
                Duration::from_secs(1),
                patience.wait(first.arrived, first.deadline, pending::<()>())
            )
            .await
            .is_err()
        );
        let next = timed(
            &patience,
            &query("jobs", "db"),
            sleep(Duration::from_secs(2)),
        )
        .await;
        assert_eq!(next, (2000, None));
    }
}
