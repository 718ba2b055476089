//! Log of shipping: one line for each change, and not for each attempt.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::{ShippingFailure, ShippingFailureReason};
use crate::telemetry::error_chain::ErrorChain;

/// Interval of lines about failures whose reason alternates.
const CHANGE_INTERVAL: Duration = Duration::from_mins(1);

/// Last reported state.
#[derive(Debug, Default)]
pub(super) struct ShippingReport {
    failing: Option<(ShippingFailureReason, Instant)>,
}

impl ShippingReport {
    pub(super) fn succeeded(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("the audit trail is shipped again");
        }
    }

    pub(super) fn failed(&mut self, failure: &ShippingFailure) {
        if self.is_news(failure.reason(), Instant::now()) {
            tracing::warn!(
                reason = failure.reason().as_str(),
                error = %ErrorChain(failure),
                "the audit trail is not shipped: it waits in the spool"
            );
        }
    }

    fn is_news(&mut self, reason: ShippingFailureReason, now: Instant) -> bool {
        let is_known = self
            .failing
            .is_some_and(|(known, at)| known == reason || now.duration_since(at) < CHANGE_INTERVAL);
        if !is_known {
            self.failing = Some((reason, now));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_reported_once_until_its_reason_changes() {
        use ShippingFailureReason::{Connection, Timeout};
        let mut report = ShippingReport::default();
        let begin = Instant::now();
        assert!(report.is_news(Connection, begin));
        assert!(!report.is_news(Connection, begin + 2 * CHANGE_INTERVAL));
        assert!(!report.is_news(Timeout, begin + CHANGE_INTERVAL / 2));
        assert!(report.is_news(Timeout, begin + CHANGE_INTERVAL));
        report.succeeded();
        assert!(report.is_news(Timeout, begin + CHANGE_INTERVAL));
    }
}
