//! How long a review may take: the API server's patience, less what the answer needs.

use std::time::Duration;

/// What the API server waits when its configuration says nothing (`admissionregistration.k8s.io/v1`).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that an API server may be told to wait (`timeoutSeconds`, 1 to 30). A query that says more was not written
/// by one.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// Kept back for the answer, so that we are the ones to say why.
const RESERVE: Duration = Duration::from_secs(1);

/// The time to work in: the `timeout` that the API server puts into the query, as Go writes durations
/// (`5s`, `1m30s`), at most [`MAX_TIMEOUT`], less [`RESERVE`], but at least half of it.
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
    timeout.saturating_sub(RESERVE).max(timeout / 2)
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
    fn a_second_is_kept_back_but_never_more_than_half(
        #[case] query: Option<&str>,
        #[case] millis: u64,
    ) {
        assert_eq!(budget(query), Duration::from_millis(millis));
    }
}
