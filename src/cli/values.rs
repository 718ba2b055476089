//! Values of flags: durations with their limits, ratios, collectors.

use crate::telemetry::traces::{Endpoint, InvalidEndpoint};

/// The least pause between two rounds of anything, and the least of what they measure: without one, a mistyped value
/// would keep a CPU and the API server busy.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// A collector, or none. An empty variable of the environment counts as one that is not set.
#[derive(Clone, Debug)]
pub struct Collector(pub Option<Endpoint>);

pub(crate) fn collector(text: &str) -> Result<Collector, InvalidEndpoint> {
    if text.is_empty() {
        Ok(Collector(None))
    } else {
        text.parse().map(|endpoint| Collector(Some(endpoint)))
    }
}

/// A part of the whole.
pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| format!("{text:?} is no number from 0 to 1"))
}

/// A duration as Go and Kubernetes write it: `10s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{text:?} is no duration such as 10s"))?;
    std::time::Duration::try_from(parsed).map_err(|_| format!("{text:?} is negative"))
}

/// A duration after which something is done again: never at once.
pub(crate) fn at_least_a_second(text: &str) -> Result<std::time::Duration, String> {
    let parsed = duration(text)?;
    if parsed >= MIN_INTERVAL {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is too short; the least is 1s"))
    }
}

/// A duration in which a lease can be renewed a few times; whole seconds, as a Lease says it.
pub(crate) fn lease_duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed = duration(text)?;
    let fits = parsed.subsec_nanos() == 0 && (3..=3600).contains(&parsed.as_secs());
    if fits {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is not whole seconds from 3s to 1h"))
    }
}
