//! Time limit of a review: the API server's timeout, less the time that the response needs.

use std::time::Duration;

/// Timeout of the API server if the webhook configuration sets none (`admissionregistration.k8s.io/v1`).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest timeout of an API server (`timeoutSeconds`, 1 to 30). A query with a larger one was not written by an API
/// server.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// Time reserved for the response: otherwise the API server would time out first and report that instead of the reason.
const RESPONSE_TIME: Duration = Duration::from_secs(1);

/// Time in which to decide: the `timeout` in the query of the API server, in the format of Go's durations
/// (`5s`, `1m30s`), at most [`MAX_TIMEOUT`], less [`RESPONSE_TIME`], but at least half of it.
#[must_use]
pub fn budget(query: Option<&str>) -> Duration {
    let timeout = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("timeout="))
        .and_then(|text| text.parse::<jiff::SignedDuration>().ok())
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .unwrap_or(DEFAULT_TIMEOUT)
        .min(MAX_TIMEOUT);
    timeout.saturating_sub(RESPONSE_TIME).max(timeout / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(Some("timeout=5s"), 4000)]
    #[case(Some("timeout=1s"), 500)]
    #[case(Some("a=b&timeout=30s"), 29_000)]
    #[case(Some("timeout=31s"), 29_000)]
    #[case(Some("timeout=1m0s"), 29_000)]
    #[case(Some("timeout=9999h"), 29_000)]
    #[case(Some("timeout=9223372036854775807s"), 29_000)]
    #[case(Some("timeout=9223372036854775808s"), 9000)]
    #[case(Some("timeout=1500ms"), 750)]
    #[case(Some("timeout=-5s"), 9000)]
    #[case(Some("timeout=0s"), 9000)]
    #[case(Some("timeout=soon"), 9000)]
    #[case(None, 9000)]
    fn budget_reserves_one_second_but_at_most_half_of_the_timeout(
        #[case] query: Option<&str>,
        #[case] millis: u64,
    ) {
        assert_eq!(budget(query), Duration::from_millis(millis));
    }
}
