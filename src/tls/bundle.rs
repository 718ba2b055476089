//! Sets of CA certificates, as in a `caBundle`.

use std::time::Duration;

use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::ServingPair;

/// CA certificates without duplicates, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// Reads PEM; blocks that are not certificates are ignored.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Self {
        let mut bundle = Self::default();
        for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
            bundle.push(certificate);
        }
        bundle
    }

    /// Returns this bundle followed by at most `keep` of `others` that are still valid at `now`.
    ///
    /// An older CA in the bundle only admits servers with the one leaf that it signed, because a CA's key is discarded
    /// once its leaf is signed.
    #[must_use]
    pub fn prepend_to(&self, others: &Self, keep: usize, now: Timestamp) -> Self {
        let mut all = self.clone();
        let others = others
            .0
            .iter()
            .filter(|other| !self.0.contains(other) && is_valid(other, now));
        for other in others.take(keep) {
            all.push(other.clone());
        }
        all
    }

    /// Returns the CAs by which an API server accepts the pair at `now`; the pair's names are not checked.
    #[must_use]
    pub fn verifying(&self, pair: &ServingPair, provider: &CryptoProvider, now: Timestamp) -> Self {
        let verifies = |ca: &&CertificateDer<'static>| {
            is_valid(ca, now) && verifies(ca, pair, provider, now).is_some()
        };
        Self(self.0.iter().filter(verifies).cloned().collect())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

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

/// Whether the CA has not expired. Its begin of validity is not checked.
fn is_valid(ca: &CertificateDer<'_>, now: Timestamp) -> bool {
    X509Certificate::from_der(ca)
        .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() > now.as_second())
}

/// Verifies the pair's chain by this CA; `None` if it does not lead to the CA.
fn verifies(
    ca: &CertificateDer<'static>,
    pair: &ServingPair,
    provider: &CryptoProvider,
    now: Timestamp,
) -> Option<()> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).ok()?;
    let (leaf, intermediates) = pair.key.cert.split_first()?;
    let leaf = ParsedCertificate::try_from(leaf).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).ok()?));
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::tls::issue;

    #[test]
    fn bundle_is_prepended_to_cas_that_are_still_valid() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).expect("a time");
        let names = BTreeSet::from(["a.b.svc".to_owned()]);
        let [first, second, third] = [(0, 100), (50, 1000), (200, 1000)].map(|(begin, length)| {
            issue(&names, Duration::from_secs(length), at(begin))
                .expect("a certificate")
                .ca
        });
        let both = second.prepend_to(&first, 1, at(60));
        assert_eq!(Bundle::from_pem(both.to_pem().as_bytes()), both);
        assert_eq!(both.0, [second.0.clone(), first.0.clone()].concat());
        assert_eq!(both.prepend_to(&both, 4, at(60)), both, "each once");
        assert_eq!(
            third.prepend_to(&both, 4, at(201)).0,
            [third.0.clone(), second.0.clone()].concat(),
            "one has expired"
        );
        assert_eq!(
            third.prepend_to(&both, 1, at(60)).0,
            [third.0.clone(), second.0.clone()].concat(),
            "one is kept"
        );
        assert!(Bundle::from_pem(b"garbage").is_empty());
    }
}
