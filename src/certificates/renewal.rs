//! When the next certificate is due.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use super::{Pair, TlsError};

/// Why a new certificate is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// None serves: there is none, or what is there cannot serve.
    Unusable(String),
    /// It serves, but not under all names.
    Names,
    /// Two thirds of its time are over.
    Age,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => f.write_str(why),
            Self::Names => f.write_str("it lacks a name"),
            Self::Age => f.write_str("two thirds of its validity are over"),
        }
    }
}

/// Whether a new certificate is due; `None` while the present one is good.
#[must_use]
pub fn due(present: Result<&Pair, &TlsError>, names: &BTreeSet<String>, now: Timestamp) -> Option<Due> {
    let pair = match present {
        Ok(pair) => pair,
        Err(error) => return Some(Due::Unusable(error.to_string())),
    };
    if !names.is_subset(&pair.names) {
        return Some(Due::Names);
    }
    let (begin, end) = (pair.not_before.as_second(), pair.not_after.as_second());
    (now.as_second() >= begin + (end - begin) / 3 * 2).then_some(Due::Age)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use rustls::crypto::aws_lc_rs;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::certificates::issue;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).expect("a time")
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[rstest]
    #[case::new(&["a.b.svc"], 1, None)]
    #[case::a_name_less(&["a.b.svc", "c.d.svc"], 1, None)]
    #[case::before_two_thirds(&["a.b.svc"], 2379, None)]
    #[case::two_thirds(&["a.b.svc"], 2380, Some(Due::Age))]
    #[case::a_name_more(&["a.b.svc", "x.y.svc"], 1, Some(Due::Names))]
    #[case::an_address(&["127.0.0.1", "::1"], 1, None)]
    fn the_next_is_due_in_time(#[case] wanted: &[&str], #[case] second: i64, #[case] expected: Option<Due>) {
        let issued = issue(&names(&["a.b.svc", "c.d.svc", "127.0.0.1", "::1"]), Duration::from_hours(1), at(0))
            .expect("a certificate");
        let provider = aws_lc_rs::default_provider();
        let read = |now| Pair::from_pem(issued.chain.as_bytes(), issued.key.expose_secret().as_bytes(), &provider, now);
        assert_eq!(due(read(at(second)).as_ref(), &names(wanted), at(second)), expected);
        assert_eq!(
            due(read(at(3600)).as_ref(), &names(wanted), at(3600)),
            Some(Due::Unusable(format!("the certificate expired at {}", at(3600))))
        );
    }
}
