//! Certificates and keys that cannot be used.

use std::path::PathBuf;

use jiff::Timestamp;
use thiserror::Error;

/// Why a certificate, key or client CA is refused.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No certificate in what should hold one.
    #[error("the certificate holds no readable PEM block \"CERTIFICATE\"")]
    NoCertificate,
    /// PEM, but not a certificate.
    #[error("the first certificate of the chain is not a valid X.509 certificate")]
    BadCertificate,
    /// No key in what should hold one.
    #[error("the key holds no readable PEM block \"PRIVATE KEY\"")]
    NoKey,
    /// A key that is not usable, or that does not match. The latter is also how reading in the middle of a swap looks.
    #[error("the private key is not usable or does not belong to the certificate")]
    Key {
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// A certificate without names.
    #[error("the certificate has no subjectAltName; the API server accepts none without")]
    NoName,
    /// Valid only later.
    #[error("the certificate is not valid before {not_before}")]
    NotYetValid {
        /// From when.
        not_before: Timestamp,
    },
    /// Valid no more.
    #[error("the certificate expired at {not_after}")]
    Expired {
        /// Since when.
        not_after: Timestamp,
    },
    /// The client CA is not usable.
    #[error("the client CA holds no usable certificate")]
    ClientCa {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
