//! Makes a CA and the one leaf that it ever signs.

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

/// Clocks of API servers differ; one that is five minutes behind takes a new certificate too.
const SKEW: u64 = 300;

/// Of a short validity it is only so small a part, as the next certificate is due after two thirds of the whole.
const SKEW_PART: u64 = 30;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name that no certificate can carry, or a key that could not be made.
    #[error("no certificate could be made")]
    Make(#[from] rcgen::Error),
    /// A validity that ends outside of what a certificate can say.
    #[error("a certificate cannot be valid that long")]
    Validity,
}

/// A new pair, and the CA that signed it.
pub struct Issued {
    /// The CA alone. Its key exists no more.
    pub ca: Bundle,
    /// The leaf, PEM.
    pub chain: String,
    /// The leaf's key, PEM.
    pub key: SecretString,
    /// End of validity, of both.
    pub not_after: Timestamp,
}

/// By hand: it holds a key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Makes a CA and, by it, a serving certificate for these DNS names and IP addresses (ECDSA P-256 both).
///
/// The CA's key is dropped here: whoever reads the Secret where the pair is kept can serve with it, and can sign
/// nothing.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn issue(
    names: &BTreeSet<String>,
    validity: Duration,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let not_after = now
        .checked_add(validity)
        .map_err(|_| IssueError::Validity)?;
    let time = |at: i64| OffsetDateTime::from_unix_timestamp(at).map_err(|_| IssueError::Validity);
    let skew = Duration::from_secs(SKEW.min(validity.as_secs() / SKEW_PART));
    let not_before = now.checked_sub(skew).map_err(|_| IssueError::Validity)?;
    let (begin, end) = (time(not_before.as_second())?, time(not_after.as_second())?);

    let mut authority = CertificateParams::default();
    authority.not_before = begin;
    authority.not_after = end;
    // CAs of one name and different keys in one bundle would be a riddle to whoever reads it.
    authority.distinguished_name = named(&format!("floe-secrets-webhook CA {}", now.as_second()));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    leaf.not_before = begin;
    leaf.not_after = end;
    leaf.distinguished_name = named("floe-secrets-webhook");
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

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
