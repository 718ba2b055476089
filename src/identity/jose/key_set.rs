//! Keys of an issuer that verify signatures.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use super::algorithm::{KeyFamily, SignatureAlgorithm};
use super::compact::decode;
use super::jwk::{Jwk, Jwks, JwksError, KeyMaterial, SkippedKey};
use super::key_id::KeyId;
use crate::identity::error::TokenRejection;

/// Keys of an issuer: never changed, replaced as a whole.
pub struct KeySet {
    keys: HashMap<KeyId, Vec<VerificationKey>>,
    skipped: BTreeMap<SkippedKey, usize>,
}

/// Key with the algorithms that it may be used with.
struct VerificationKey {
    /// All of the key's kind.
    algorithms: Vec<SignatureAlgorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a key set that an issuer published.
    ///
    /// # Errors
    /// The set is too large, is not one, or has no key that can be used with an algorithm in `allowed`.
    pub fn parse(bytes: &[u8], allowed: &[SignatureAlgorithm]) -> Result<Self, JwksError> {
        let Jwks { keys, mut skipped } = Jwks::parse(bytes, allowed)?;
        let mut by_id: HashMap<KeyId, Vec<VerificationKey>> = HashMap::new();
        for jwk in keys {
            match decoding_key(&jwk) {
                Some(key) => by_id.entry(jwk.key_id).or_default().push(VerificationKey {
                    algorithms: jwk.algorithms,
                    key,
                }),
                None => *skipped.entry(SkippedKey::Malformed).or_default() += 1,
            }
        }
        if by_id.is_empty() {
            return Err(JwksError::NoUsableKey);
        }
        Ok(Self {
            keys: by_id,
            skipped,
        })
    }

    /// Number of keys that are used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// A key set has at least one key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that are not used, by reason.
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<SkippedKey, usize> {
        &self.skipped
    }

    /// Whether the issuer published a key that must be secret.
    #[must_use]
    pub fn has_published_secrets(&self) -> bool {
        self.skipped.contains_key(&SkippedKey::Secret)
    }

    /// Verifies a signature with the key of this id.
    ///
    /// # Errors
    /// No key has the id ([`TokenRejection::UnknownKey`]), the key is for other algorithms, or the signature is wrong.
    pub(super) fn verify(
        &self,
        key_id: &KeyId,
        algorithm: SignatureAlgorithm,
        signed: &str,
        signature: &str,
    ) -> Result<(), TokenRejection> {
        let keys = self.keys.get(key_id).ok_or(TokenRejection::UnknownKey)?;
        let key = keys
            .iter()
            .find(|key| key.algorithms.contains(&algorithm))
            .ok_or(TokenRejection::WrongAlgorithm)?;
        let verified = crypto::verify(
            signature,
            signed.as_bytes(),
            &key.key,
            algorithm_of(algorithm),
        );
        match verified {
            Ok(true) => Ok(()),
            Ok(false) => Err(TokenRejection::BadSignature),
            // The kind of the key is right, so that only its base64url can be wrong.
            Err(_) => Err(TokenRejection::Malformed),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("keys", &self.len())
            .field("skipped", &self.skipped)
            .finish()
    }
}

fn algorithm_of(algorithm: SignatureAlgorithm) -> Algorithm {
    match algorithm {
        SignatureAlgorithm::RS256 => Algorithm::RS256,
        SignatureAlgorithm::PS256 => Algorithm::PS256,
        SignatureAlgorithm::ES256 => Algorithm::ES256,
        SignatureAlgorithm::ES384 => Algorithm::ES384,
        SignatureAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// Key that verifies; `None` if its point is not on its curve.
fn decoding_key(jwk: &Jwk) -> Option<DecodingKey> {
    match &jwk.material {
        KeyMaterial::Rsa { n, e } => DecodingKey::from_rsa_components(n, e).ok(),
        KeyMaterial::Ec { x, y } => {
            let curve: &'static dyn VerificationAlgorithm = match jwk.family {
                KeyFamily::P384 => &ECDSA_P384_SHA384_FIXED,
                _ => &ECDSA_P256_SHA256_FIXED,
            };
            // Uncompressed point (SEC 1, section 2.3.3).
            let mut point = vec![4];
            point.extend(decode(x)?);
            point.extend(decode(y)?);
            ParsedPublicKey::new(curve, &point).ok()?;
            DecodingKey::from_ec_components(x, y).ok()
        }
        KeyMaterial::Ed25519 { x } => DecodingKey::from_ed_components(x).ok(),
    }
}
