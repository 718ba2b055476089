//! Public fields of a leaf certificate.

use std::net::IpAddr;

use std::collections::BTreeSet;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::tls::TlsError;

/// Validity and names of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Begin of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// DNS names and IP addresses. API servers do not accept a certificate without names.
    pub names: BTreeSet<String>,
}

impl Leaf {
    /// Reads the first certificate of a chain, PEM.
    ///
    /// # Errors
    /// The chain has no readable certificate.
    pub fn from_chain(chain: &[u8]) -> Result<Self, TlsError> {
        let leaf = CertificateDer::pem_slice_iter(chain)
            .next()
            .and_then(Result::ok)
            .ok_or(TlsError::NoCertificate)?;
        Self::from_der(&leaf)
    }

    /// # Errors
    /// [`TlsError::BadCertificate`].
    pub fn from_der(leaf: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| TlsError::BadCertificate)?;
        let time = |time: i64| Timestamp::from_second(time).map_err(|_| TlsError::BadCertificate);
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| TlsError::BadCertificate)?;
        let names = names
            .map(|names| names.value.general_names.as_slice())
            .unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets),
            _ => None,
        });
        Ok(Self {
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
            names: names.collect(),
        })
    }

    /// Whether it is valid for this host, by its name or by a wildcard for one label.
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        let wildcard = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.contains(host) || wildcard.is_some_and(|wildcard| self.names.contains(&wildcard))
    }
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?));
    v4().or_else(v6).map(|address| address.to_string())
}
