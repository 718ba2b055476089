//! Parsers of flag values: durations with limits, ratios, collectors, log filters.

use crate::telemetry::logs::is_filter;
use crate::telemetry::traces::{Endpoint, InvalidEndpoint};

/// Minimum of intervals and of the durations that they measure. Without one, a typo could keep a CPU and the API server
/// busy.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Maximum of durations: ten years. Deadlines are sums of durations and of the time now, and must not overflow.
pub(crate) const MAX_DURATION: std::time::Duration = std::time::Duration::from_hours(10 * 365 * 24);

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

/// Parses a duration in the format of Go and Kubernetes, up to [`MAX_DURATION`]: `10s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed = go_duration(text)
        .ok_or_else(|| format!("invalid duration {text:?}: expected e.g. 10s or 1m30s"))?;
    if parsed > MAX_DURATION {
        let hours = MAX_DURATION.as_secs() / 3600;
        return Err(format!(
            "{text:?} is too long; the most is {hours}h (10 years)"
        ));
    }
    Ok(parsed)
}

/// Units of durations in nanoseconds. A unit comes before those that are its prefixes.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Digits of a fraction that count: more are below a nanosecond, even of an hour.
const MAX_FRACTION_DIGITS: usize = 15;

/// Sum of numbers with units, without sign and spaces. A duration that is too long for the type is the longest one.
fn go_duration(text: &str) -> Option<std::time::Duration> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("0", after),
        };
        if whole.is_empty() || fraction.is_empty() {
            return None;
        }
        let (unit, after) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((*unit, after.strip_prefix(name)?)))?;
        // Numbers have digits only, so what does not parse is too large.
        let whole = whole.parse().unwrap_or(u128::MAX);
        let fraction = fraction.get(..MAX_FRACTION_DIGITS).unwrap_or(fraction);
        let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10);
        let fraction: u128 = fraction.parse().ok()?;
        nanos = nanos
            .saturating_add(unit.saturating_mul(whole))
            .saturating_add(unit * fraction / scale);
        rest = after;
    }
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    Some(std::time::Duration::from_nanos(nanos))
}

/// Units of sizes, as in quantities of Kubernetes. A unit comes before those that are its suffixes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("", 1),
];

/// Range of sizes of stores. Below the least one, the reserve of a store would be larger than the store.
const STORE_SIZES: std::ops::RangeInclusive<u64> = 16 << 20..=16 << 40;

/// Parses the size of a store: whole bytes with a unit of Kubernetes, `4Gi`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = SIZE_UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, &1));
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = number
        .parse()
        .ok()
        .filter(|_| is_number)
        .map(|number: u64| number.saturating_mul(*unit));
    match bytes {
        Some(bytes) if STORE_SIZES.contains(&bytes) => Ok(bytes),
        Some(_) => Err(format!("{text:?} is not a size from 16Mi to 16Ti")),
        None => Err(format!("invalid size {text:?}: expected e.g. 512Mi or 4Gi")),
    }
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

/// Checks a log filter. Messages do not quote it, because it may come from the configuration file.
pub(crate) fn log_filter(text: &str) -> Result<String, &'static str> {
    if is_filter(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a level or directives, such as info or info,floe_secrets_webhook=debug")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;

    #[rstest]
    #[case("10s", Duration::from_secs(10))]
    #[case("1m30s", Duration::from_secs(90))]
    #[case("30s1m", Duration::from_secs(90))]
    #[case("1.5h0.5m", Duration::from_secs(90 * 60 + 30))]
    #[case("2160h", Duration::from_hours(2160))]
    #[case("7ns5us3µs2μs1ms", Duration::from_nanos(1_010_007))]
    #[case("0.0000000000000000001h", Duration::ZERO)]
    #[case("0s", Duration::ZERO)]
    #[case("87600h", MAX_DURATION)]
    fn duration_has_the_grammar_of_go(#[case] text: &str, #[case] expected: Duration) {
        assert_eq!(duration(text), Ok(expected));
    }

    #[rstest]
    #[case("")]
    #[case("5")]
    #[case("s")]
    #[case("1m 30s")]
    #[case(" 1m")]
    #[case("-5s")]
    #[case("1.s")]
    #[case(".5s")]
    #[case("1d")]
    #[case("PT5M")]
    #[case("1 hour")]
    #[case("1m30")]
    fn other_duration_is_rejected(#[case] text: &str) {
        let error = duration(text).unwrap_err();
        assert_eq!(
            error,
            format!("invalid duration {text:?}: expected e.g. 10s or 1m30s")
        );
    }

    #[rstest]
    #[case("87600h1ns")]
    #[case("2562047788015215h")]
    #[case("99999999999999999999999999999999999999999999999999h")]
    fn duration_above_the_maximum_is_rejected(#[case] text: &str) {
        let error = duration(text).unwrap_err();
        assert!(
            error.ends_with("is too long; the most is 87600h (10 years)"),
            "{error}"
        );
    }

    #[rstest]
    #[case("4Gi", 4 << 30)]
    #[case("16Mi", 16 << 20)]
    #[case("16Ti", 16 << 40)]
    #[case("5G", 5_000_000_000)]
    #[case("20000k", 20_000_000)]
    #[case("16777216", 16 << 20)]
    fn size_has_the_units_of_kubernetes(#[case] text: &str, #[case] expected: u64) {
        assert_eq!(size(text), Ok(expected));
    }

    #[test]
    fn other_size_is_rejected() {
        for wrong in ["", "Gi", "-1Gi", "+1Gi", "1.5Gi", "4GiB", "4 Gi", "4gi"] {
            let error = size(wrong).unwrap_err();
            assert!(error.starts_with("invalid size"), "{wrong}: {error}");
        }
        for wrong in ["0", "16777215", "17Ti", "18446744073709551615Ti"] {
            let error = size(wrong).unwrap_err();
            assert!(
                error.ends_with("is not a size from 16Mi to 16Ti"),
                "{error}"
            );
        }
    }

    #[test]
    fn invalid_log_filter_is_not_quoted() {
        assert_eq!(log_filter("info,hyper=debug").unwrap(), "info,hyper=debug");
        let error = log_filter("info,=,hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
