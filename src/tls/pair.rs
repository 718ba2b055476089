//! Serving pairs: a certificate chain and its key, checked before they serve.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Leaf, TlsError};

/// A chain and its key that passed the checks.
pub struct ServingPair {
    /// The chain and its key, for handshakes.
    pub key: Arc<CertifiedKey>,
    /// Begin of the leaf's validity.
    pub not_before: Timestamp,
    /// End of the leaf's validity.
    pub not_after: Timestamp,
    /// DNS names and IP addresses of the leaf.
    pub names: BTreeSet<String>,
}

/// Implemented by hand because it has a key.
impl fmt::Debug for ServingPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key: _,
            not_before,
            not_after,
            names,
        } = self;
        f.debug_struct("ServingPair")
            .field("not_before", not_before)
            .field("not_after", not_after)
            .field("names", names)
            .finish_non_exhaustive()
    }
}

impl ServingPair {
    /// Reads a chain, leaf first, and its key, both PEM.
    ///
    /// # Errors
    /// The reason why the pair cannot serve at `now`.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        provider: &CryptoProvider,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
        let Leaf {
            not_before,
            not_after,
            names,
        } = Leaf::from_der(leaf)?;
        if now < not_before {
            return Err(TlsError::NotYetValid { not_before });
        }
        if not_after <= now {
            return Err(TlsError::Expired { not_after });
        }
        if names.is_empty() {
            return Err(TlsError::NoName);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|source| TlsError::Key { source })?;
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
            names,
        })
    }
}

/// Reads a client CA file. Rejects the whole file if any certificate is unusable: a partially loaded CA is hard to
/// diagnose.
///
/// # Errors
/// [`TlsError::ClientCa`].
pub fn client_roots(ca: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|source| TlsError::ClientCa {
            source: source.into(),
        })?;
        roots
            .add(certificate)
            .map_err(|source| TlsError::ClientCa {
                source: source.into(),
            })?;
    }
    Ok(roots)
}

/// Returns the common name of a caller's verified certificate, which the API server's authenticator uses as user name.
#[must_use]
pub fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    parsed
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rstest::rstest;
    use rustls::crypto::aws_lc_rs;

    fn pair(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())
                .unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 2, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[rstest]
    #[case("2026-01-15T00:00:00Z", "ok")]
    #[case(
        "2025-12-31T23:59:59Z",
        "the certificate is not valid before 2026-01-01T00:00:00Z"
    )]
    #[case(
        "2026-02-01T00:00:00Z",
        "the certificate expired at 2026-02-01T00:00:00Z"
    )]
    fn pair_serves_only_within_its_validity(#[case] now: Timestamp, #[case] expected: &str) {
        let (cert, key) = pair(&["webhook.test"]);
        let result = ServingPair::from_pem(
            cert.as_bytes(),
            key.as_bytes(),
            &aws_lc_rs::default_provider(),
            now,
        );
        assert_eq!(
            result.map_or_else(|error| error.to_string(), |_| "ok".into()),
            expected
        );
    }

    #[test]
    fn pair_error_names_the_problem_and_hides_the_key() {
        let now: Timestamp = "2026-01-15T00:00:00Z".parse().unwrap();
        let (cert, key) = pair(&["webhook.test"]);
        let (_, other) = pair(&["webhook.test"]);
        let (nameless, nameless_key) = pair(&[]);
        let error_of = |cert: &str, key: &str| {
            let error = ServingPair::from_pem(
                cert.as_bytes(),
                key.as_bytes(),
                &aws_lc_rs::default_provider(),
                now,
            )
            .map(|_| ())
            .unwrap_err();
            crate::telemetry::error_chain::ErrorChain(&error).to_string()
        };
        assert!(error_of("", &key).contains("CERTIFICATE"));
        assert!(error_of(&cert, "").contains("PRIVATE KEY"));
        assert!(error_of(&cert, &other).contains("does not belong"));
        assert!(error_of(&nameless, &nameless_key).contains("subjectAltName"));
        assert!(error_of(&key, &key).contains("CERTIFICATE"));
        let garbled = key.replace('M', "N");
        assert!(!error_of(&cert, &garbled).contains(garbled.lines().nth(1).unwrap()));
    }
}
