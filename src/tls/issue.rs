//! Issues a CA and the only leaf that it signs.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::tls::Bundle;

/// Seconds by which a certificate is valid before it is issued, so that an API server accepts it whose clock is five
/// minutes behind.
const MAX_CLOCK_SKEW_SECONDS: u64 = 300;

/// Divisor of the validity that limits the skew of a short validity. The next certificate is due after two thirds of
/// the whole validity, skew included.
const MIN_VALIDITY_PER_SKEW: u64 = 30;

/// Reason why no certificate could be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name is not valid in a certificate, or a key could not be generated.
    #[error("no certificate could be made")]
    Make(#[from] rcgen::Error),
    /// The end of validity cannot be represented in a certificate.
    #[error("a certificate cannot be valid that long")]
    Validity,
}

/// A new pair, and the CA that signed it.
pub struct Issued {
    /// Only the new CA. Its key is already discarded.
    pub ca: Bundle,
    /// The leaf, PEM.
    pub chain: String,
    /// The leaf's key, PEM.
    pub key: SecretString,
    /// End of validity of the CA and the leaf.
    pub not_after: Timestamp,
}

/// Implemented by hand because it has a key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Issues a CA, and by it a serving certificate for these DNS names and IP addresses. Both keys are ECDSA P-256.
///
/// The CA's key is dropped here, so that the Secret with the pair allows its readers to serve, but not to sign.
///
/// # Errors
/// A name is not valid in a certificate, or the validity is too long.
pub fn issue(
    names: &BTreeSet<String>,
    validity: Duration,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let not_after = now
        .checked_add(validity)
        .map_err(|_| IssueError::Validity)?;
    let time = |at: i64| OffsetDateTime::from_unix_timestamp(at).map_err(|_| IssueError::Validity);
    let skew =
        Duration::from_secs(MAX_CLOCK_SKEW_SECONDS.min(validity.as_secs() / MIN_VALIDITY_PER_SKEW));
    let not_before = now.checked_sub(skew).map_err(|_| IssueError::Validity)?;
    let (begin, end) = (time(not_before.as_second())?, time(not_after.as_second())?);

    let mut authority = CertificateParams::default();
    authority.not_before = begin;
    authority.not_after = end;
    // Each CA has its own name, so that a reader can distinguish the CAs of a bundle.
    authority.distinguished_name =
        distinguished_name(&format!("floe-secrets-webhook CA {}", now.as_second()));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    leaf.not_before = begin;
    leaf.not_after = end;
    leaf.distinguished_name = distinguished_name("floe-secrets-webhook");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let chain = leaf.signed_by(&key, &authority)?.pem();
    Ok(Issued {
        ca: Bundle::from_pem(authority.pem().as_bytes()),
        chain,
        key: SecretString::from(key.serialize_pem()),
        not_after,
    })
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
