//! Renewal: decides whether the next certificate is due.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;

use crate::tls::{Bundle, ServingPair, TlsError};

/// Reason why a new certificate is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenewalReason {
    /// The certificate is missing or cannot serve.
    Unusable(String),
    /// No CA that is stored with the certificate verifies it. With these CAs published, the API server would reject it.
    Untrusted,
    /// The certificate lacks a name.
    Names,
    /// Two thirds of the validity are over.
    Age,
}

impl fmt::Display for RenewalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(reason) => f.write_str(reason),
            Self::Untrusted => f.write_str("no CA in ca.crt verifies it"),
            Self::Names => f.write_str("it lacks a name"),
            Self::Age => f.write_str("two thirds of its validity are over"),
        }
    }
}

/// Returns the reason to issue a new certificate; `None` while the present one is good. `ca` are the CAs that are stored
/// with the present one.
#[must_use]
pub fn renewal_reason(
    present: Result<&ServingPair, &TlsError>,
    ca: &Bundle,
    names: &BTreeSet<String>,
    provider: &CryptoProvider,
    now: Timestamp,
) -> Option<RenewalReason> {
    let pair = match present {
        Ok(pair) => pair,
        Err(error) => return Some(RenewalReason::Unusable(error.to_string())),
    };
    if ca.verifying(pair, provider, now).is_empty() {
        return Some(RenewalReason::Untrusted);
    }
    if !names.is_subset(&pair.names) {
        return Some(RenewalReason::Names);
    }
    let (begin, end) = (pair.not_before.as_second(), pair.not_after.as_second());
    (now.as_second() >= begin + (end - begin) / 3 * 2).then_some(RenewalReason::Age)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use rustls::crypto::aws_lc_rs;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::tls::issue;

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
    #[case::before_two_thirds(&["a.b.svc"], 2359, None)]
    #[case::two_thirds(&["a.b.svc"], 2360, Some(RenewalReason::Age))]
    #[case::a_name_more(&["a.b.svc", "x.y.svc"], 1, Some(RenewalReason::Names))]
    #[case::an_address(&["127.0.0.1", "::1"], 1, None)]
    fn certificate_is_due_after_two_thirds_or_for_a_name(
        #[case] required: &[&str],
        #[case] second: i64,
        #[case] expected: Option<RenewalReason>,
    ) {
        let issued = issue(
            &names(&["a.b.svc", "c.d.svc", "127.0.0.1", "::1"]),
            Duration::from_hours(1),
            at(0),
        )
        .expect("a certificate");
        let provider = aws_lc_rs::default_provider();
        let read = |now| {
            ServingPair::from_pem(
                issued.chain.as_bytes(),
                issued.key.expose_secret().as_bytes(),
                &provider,
                now,
            )
        };
        let due_at = |second| {
            renewal_reason(
                read(at(second)).as_ref(),
                &issued.ca,
                &names(required),
                &provider,
                at(second),
            )
        };
        assert_eq!(due_at(second), expected);
        assert_eq!(
            due_at(3600),
            Some(RenewalReason::Unusable(format!(
                "the certificate expired at {}",
                at(3600)
            )))
        );
    }

    #[test]
    fn pair_is_due_unless_a_stored_ca_verifies_it() {
        let provider = aws_lc_rs::default_provider();
        let hour = |begin| {
            issue(&names(&["a.b.svc"]), Duration::from_hours(1), at(begin)).expect("a certificate")
        };
        let (one, other) = (hour(0), hour(0));
        let pair = ServingPair::from_pem(
            one.chain.as_bytes(),
            one.key.expose_secret().as_bytes(),
            &provider,
            at(1),
        )
        .expect("a pair");
        let due_with =
            |ca: &Bundle| renewal_reason(Ok(&pair), ca, &names(&["a.b.svc"]), &provider, at(1));
        assert_eq!(due_with(&Bundle::default()), Some(RenewalReason::Untrusted));
        assert_eq!(
            due_with(&other.ca),
            Some(RenewalReason::Untrusted),
            "a CA of another pair"
        );
        let both = other.ca.prepend_to(&one.ca, 1, at(1));
        assert_eq!(due_with(&both), None);
        assert_eq!(both.verifying(&pair, &provider, at(1)), one.ca);
        assert!(
            both.verifying(&pair, &provider, at(3600)).is_empty(),
            "expired CAs do not verify"
        );
    }

    #[test]
    fn new_certificate_is_valid_for_clocks_five_minutes_behind() {
        let day =
            issue(&names(&["a.b.svc"]), Duration::from_hours(24), at(0)).expect("a certificate");
        let leaf = crate::tls::Leaf::from_chain(day.chain.as_bytes()).expect("a leaf");
        assert_eq!(leaf.not_before, at(-300));
    }
}
