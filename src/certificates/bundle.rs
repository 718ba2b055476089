//! A set of CA certificates, as it stands in a `caBundle`.

use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// CA certificates, newest first, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// Reads PEM; what is no certificate is left out.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Self {
        let mut bundle = Self::default();
        for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
            bundle.push(certificate);
        }
        bundle
    }

    /// This one, then at most `keep` of the others that are still valid at `now`.
    ///
    /// A CA's key is thrown away once its leaf is signed, so that an older CA in the bundle lets nobody in but who
    /// still serves with its leaf.
    #[must_use]
    pub fn before(&self, others: &Self, keep: usize, now: Timestamp) -> Self {
        let mut all = self.clone();
        let valid = |certificate: &&CertificateDer<'static>| {
            X509Certificate::from_der(certificate)
                .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() > now.as_second())
        };
        let others = others.0.iter().filter(|other| !self.0.contains(other)).filter(valid);
        for other in others.take(keep) {
            all.push(other.clone());
        }
        all
    }

    /// Whether it holds no certificate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// PEM, one block after the other.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let line_ending = EncodeConfig::new().set_line_ending(LineEnding::LF);
        let block = |certificate: &CertificateDer<'_>| {
            pem::encode_config(&Pem::new("CERTIFICATE", certificate.as_ref()), line_ending)
        };
        self.0.iter().map(block).collect()
    }

    fn push(&mut self, certificate: CertificateDer<'static>) {
        if !self.0.contains(&certificate) {
            self.0.push(certificate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::certificates::issue;

    #[test]
    fn the_new_comes_before_what_is_still_valid() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).expect("a time");
        let names = BTreeSet::from(["a.b.svc".to_owned()]);
        let [first, second, third] = [(0, 100), (50, 1000), (200, 1000)]
            .map(|(begin, length)| issue(&names, Duration::from_secs(length), at(begin)).expect("a certificate").ca);
        let both = second.before(&first, 1, at(60));
        assert_eq!(Bundle::from_pem(both.to_pem().as_bytes()), both);
        assert_eq!(both.0, [second.0.clone(), first.0.clone()].concat());
        assert_eq!(both.before(&both, 4, at(60)), both, "each once");
        assert_eq!(third.before(&both, 4, at(201)).0, [third.0.clone(), second.0.clone()].concat(), "one has expired");
        assert_eq!(third.before(&both, 1, at(60)).0, [third.0.clone(), second.0.clone()].concat(), "one is kept");
        assert!(Bundle::from_pem(b"garbage").is_empty());
    }
}
