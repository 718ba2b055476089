//! Parsers of flag values: durations with limits, ratios, collectors.

use crate::telemetry::traces::{Endpoint, InvalidEndpoint};

/// Minimum of intervals and of the durations that they measure. Without one, a typo could keep a CPU and the API server
/// busy.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Optional collector. An empty environment variable counts as not set.
#[derive(Clone, Debug)]
pub struct Collector(pub Option<Endpoint>);

pub(crate) fn collector(text: &str) -> Result<Collector, InvalidEndpoint> {
    if text.is_empty() {
        Ok(Collector(None))
    } else {
        text.parse().map(|endpoint| Collector(Some(endpoint)))
    }
}

/// Parses a ratio.
pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| format!("invalid ratio {text:?}: expected a number from 0 to 1"))
}

/// Parses a duration in the format of Go and Kubernetes: `10s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("invalid duration {text:?}: expected e.g. 10s or 1m30s"))?;
    std::time::Duration::try_from(parsed).map_err(|_| format!("{text:?} is negative"))
}

/// Parses a duration of at least [`MIN_INTERVAL`].
pub(crate) fn at_least_a_second(text: &str) -> Result<std::time::Duration, String> {
    let parsed = duration(text)?;
    if parsed >= MIN_INTERVAL {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is too short; the least is 1s"))
    }
}

/// Parses the duration of a lease: long enough for a few renewals, and in whole seconds as in a Lease.
pub(crate) fn lease_duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed = duration(text)?;
    let fits = parsed.subsec_nanos() == 0 && (3..=3600).contains(&parsed.as_secs());
    if fits {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is not whole seconds from 3s to 1h"))
    }
}
