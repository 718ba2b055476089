//! Pauses between attempts: exponential, with full jitter.

use std::time::Duration;

/// Limit of the first pause.
pub const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// Limit of all pauses.
pub const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Pauses after failures that follow each other.
#[derive(Debug, Default)]
pub(super) struct ShippingBackoff {
    failures: u32,
}

impl ShippingBackoff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Pause before the next attempt: a random part of a limit that doubles.
    pub(super) fn next_pause(&mut self) -> Duration {
        let limit = self.limit();
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(fastrand::f64())
    }

    fn limit(&self) -> Duration {
        let factor = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        MIN_BACKOFF.saturating_mul(factor).min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_limit_and_begin_again() {
        let mut backoff = ShippingBackoff::default();
        let mut limits = Vec::new();
        for _ in 0..100 {
            let limit = backoff.limit();
            assert!(backoff.next_pause() <= limit);
            limits.push(limit.as_millis());
        }
        assert_eq!(
            limits[..8],
            [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000]
        );
        assert_eq!(limits[99], 10_000);
        backoff.reset();
        assert_eq!(backoff.limit(), MIN_BACKOFF);
    }

    #[test]
    fn pauses_of_replicas_differ() {
        let mut backoff = ShippingBackoff { failures: 20 };
        let pauses: Vec<Duration> = (0..100).map(|_| backoff.next_pause()).collect();
        assert!(pauses.iter().any(|pause| *pause < MAX_BACKOFF / 3));
        assert!(pauses.iter().any(|pause| *pause > MAX_BACKOFF * 2 / 3));
    }
}
