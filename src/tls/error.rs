//! Errors of certificates and keys that cannot be used.

use std::path::PathBuf;

use jiff::Timestamp;
use thiserror::Error;

/// Reason why a certificate, key or client CA is rejected.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The chain has no certificate.
    #[error("the certificate holds no readable PEM block \"CERTIFICATE\"")]
    NoCertificate,
    /// The chain is PEM, but its first block is not a certificate.
    #[error("the first certificate of the chain is not a valid X.509 certificate")]
    BadCertificate,
    /// The key file has no key.
    #[error("the key holds no readable PEM block \"PRIVATE KEY\"")]
    NoKey,
    /// The key is not usable, or does not match. A read during an update of the files also leads to a mismatch.
    #[error("the private key is not usable or does not belong to the certificate")]
    Key {
        #[source]
        source: rustls::Error,
    },
    #[error("the certificate has no subjectAltName; the API server accepts none without")]
    NoName,
    #[error("the certificate is not valid before {not_before}")]
    NotYetValid { not_before: Timestamp },
    #[error("the certificate expired at {not_after}")]
    Expired { not_after: Timestamp },
    #[error("the client CA holds no usable certificate")]
    ClientCa {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
