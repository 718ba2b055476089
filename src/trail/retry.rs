//! Retries of work that fails: pauses that grow, and one report for each change of state.

use std::time::Duration;

/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause.
pub(super) const MAX_PAUSE: Duration = Duration::from_mins(1);

/// State of work that is repeated.
#[derive(Debug, Default)]
pub(super) struct RetryState {
    failures: u32,
}

impl RetryState {
    /// Counts a failure. Returns whether it is the first one since the last success.
    pub(super) fn fail(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// Ends the failures. Returns whether there were any.
    pub(super) fn succeed(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// Pause before the next attempt: twice the one before, up to [`MAX_PAUSE`]. `None` after a success.
    pub(super) fn pause(&self) -> Option<Duration> {
        let doublings = self.failures.checked_sub(1)?.min(6);
        Some((FIRST_PAUSE * (1 << doublings)).min(MAX_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_limit_and_reports_are_few() {
        let mut state = RetryState::default();
        assert!(!state.succeed());
        assert_eq!(state.pause(), None);
        assert!(state.fail() && !state.fail());
        assert_eq!(state.pause(), Some(FIRST_PAUSE * 2));
        for _ in 0..99 {
            state.fail();
        }
        assert_eq!(state.pause(), Some(MAX_PAUSE));
        assert!(state.succeed() && state.fail());
        assert_eq!(state.pause(), Some(FIRST_PAUSE));
    }
}
