//! Key sets of issuers (RFC 7517), as far as they can be read without cryptography.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::algorithm::{KeyFamily, SignatureAlgorithm};
use super::compact::decode;
use super::json::parse_object;
use super::key_id::KeyId;
use super::limits::{MAX_KEY_SET_BYTES, MAX_KEYS, MAX_RSA_BITS, MIN_RSA_BITS};

/// Key set of an issuer, with the keys that may sign.
#[derive(Debug)]
pub struct Jwks {
    pub(super) keys: Vec<Jwk>,
    /// Keys that are not used, by reason.
    pub(super) skipped: BTreeMap<SkippedKey, usize>,
}

/// Public key, with the algorithms that it may be used with.
#[derive(Debug)]
pub(super) struct Jwk {
    pub key_id: KeyId,
    pub family: KeyFamily,
    pub algorithms: Vec<SignatureAlgorithm>,
    pub material: KeyMaterial,
}

/// Numbers of a public key in base64url, which is known to be right.
#[derive(Debug)]
pub(super) enum KeyMaterial {
    Rsa { n: String, e: String },
    Ec { x: String, y: String },
    Ed25519 { x: String },
}

/// Reason why a key of a set is not used. The others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkippedKey {
    /// Another kind of key, curve or algorithm, or one that is not allowed for the issuer.
    Unsupported,
    /// For encryption, or for something else than signatures.
    NotForSignatures,
    /// RSA with fewer than [`MIN_RSA_BITS`] bits, more than [`MAX_RSA_BITS`], or another exponent than an odd one from
    /// 3 to 2^33.
    RsaSize,
    /// A key that must be secret was published: the issuer has a problem that an operator must hear of.
    Secret,
    /// Without a `kid` that can be used.
    InvalidKeyId,
    /// Another key of the same kind has the same `kid`: neither is used.
    Duplicate,
    /// Members are missing or cannot be read, or the point is not on the curve.
    Malformed,
}

/// Reason why a key set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwksError {
    #[error(
        "the key set has more than {MAX_KEY_SET_BYTES} bytes or {MAX_KEYS} keys: remove old keys at the issuer"
    )]
    TooLarge,
    #[error("the key set is not a JSON object with a list of keys: correct the URL of the key set")]
    Malformed,
    #[error(
        "the key set has no key that can be used: publish one for signatures, with a kid and an algorithm that is allowed"
    )]
    NoUsableKey,
}

/// Members of keys that are not public (RFC 7518, section 6).
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Bytes of the longest exponent, which has 33 bits at most.
const MAX_EXPONENT: u64 = (1 << 33) - 1;

impl Jwks {
    /// Reads a key set, and keeps the keys that may sign with an algorithm in `allowed`.
    ///
    /// # Errors
    /// The set is too large, or is not one. A key that cannot be used is not an error.
    pub fn parse(bytes: &[u8], allowed: &[SignatureAlgorithm]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_KEY_SET_BYTES {
            return Err(JwksError::TooLarge);
        }
        let set = parse_object(bytes, 4).ok_or(JwksError::Malformed)?;
        let entries = set.get("keys").and_then(Value::as_array);
        let entries = entries.ok_or(JwksError::Malformed)?;
        if entries.len() > MAX_KEYS {
            return Err(JwksError::TooLarge);
        }
        let (mut keys, mut skipped) = (Vec::new(), BTreeMap::new());
        for entry in entries {
            let key = entry.as_object().ok_or(SkippedKey::Malformed);
            match key.and_then(|members| Jwk::parse(members, allowed)) {
                Ok(key) => keys.push(key),
                Err(reason) => *skipped.entry(reason).or_default() += 1,
            }
        }
        let is_duplicate = |key: &Jwk, keys: &[Jwk]| {
            let is_same = |other: &&Jwk| (&other.key_id, other.family) == (&key.key_id, key.family);
            keys.iter().filter(is_same).count() > 1
        };
        let duplicates: Vec<bool> = keys.iter().map(|key| is_duplicate(key, &keys)).collect();
        let mut duplicates = duplicates.into_iter();
        let before = keys.len();
        keys.retain(|_| duplicates.next() == Some(false));
        if keys.len() < before {
            skipped.insert(SkippedKey::Duplicate, before - keys.len());
        }
        Ok(Self { keys, skipped })
    }

    /// Number of keys that may sign.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key may sign.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that are not used, by reason.
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<SkippedKey, usize> {
        &self.skipped
    }
}

impl Jwk {
    fn parse(
        members: &Map<String, Value>,
        allowed: &[SignatureAlgorithm],
    ) -> Result<Self, SkippedKey> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let kind = text("kty").ok_or(SkippedKey::Malformed)?;
        let has_secret = SECRET_MEMBERS
            .iter()
            .any(|name| members.contains_key(*name));
        if kind == "oct" || has_secret {
            return Err(SkippedKey::Secret);
        }
        let family = match (kind, text("crv")) {
            ("RSA", _) => KeyFamily::Rsa,
            ("EC", Some("P-256")) => KeyFamily::P256,
            ("EC", Some("P-384")) => KeyFamily::P384,
            ("OKP", Some("Ed25519")) => KeyFamily::Ed25519,
            _ => return Err(SkippedKey::Unsupported),
        };
        check_use(members)?;
        let algorithms = algorithms(members, family, allowed)?;
        let key_id = text("kid").and_then(KeyId::parse);
        let key_id = key_id.ok_or(SkippedKey::InvalidKeyId)?;
        let number = |name: &str| {
            let text = text(name).ok_or(SkippedKey::Malformed)?;
            let bytes = decode(text).ok_or(SkippedKey::Malformed)?;
            Ok((text.to_owned(), bytes))
        };
        let coordinate = |name: &str, length: usize| {
            let (text, bytes) = number(name)?;
            (bytes.len() == length)
                .then_some(text)
                .ok_or(SkippedKey::Malformed)
        };
        let point = |length: usize| {
            Ok(KeyMaterial::Ec {
                x: coordinate("x", length)?,
                y: coordinate("y", length)?,
            })
        };
        let material = match family {
            KeyFamily::Rsa => {
                let ((n, modulus), (e, exponent)) = (number("n")?, number("e")?);
                check_rsa(&modulus, &exponent)?;
                KeyMaterial::Rsa { n, e }
            }
            KeyFamily::P256 => point(32)?,
            KeyFamily::P384 => point(48)?,
            KeyFamily::Ed25519 => KeyMaterial::Ed25519 {
                x: coordinate("x", 32)?,
            },
        };
        Ok(Self {
            key_id,
            family,
            algorithms,
            material,
        })
    }
}

/// Checks `use` and `key_ops`, which may be absent.
fn check_use(members: &Map<String, Value>) -> Result<(), SkippedKey> {
    let is_for_signatures = match members.get("use") {
        None => true,
        Some(value) => value.as_str() == Some("sig"),
    };
    let may_verify = match members.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations
            .iter()
            .any(|operation| operation.as_str() == Some("verify")),
        Some(_) => false,
    };
    (is_for_signatures && may_verify)
        .then_some(())
        .ok_or(SkippedKey::NotForSignatures)
}

/// Algorithms of a key: its own, or all that are allowed for its kind.
fn algorithms(
    members: &Map<String, Value>,
    family: KeyFamily,
    allowed: &[SignatureAlgorithm],
) -> Result<Vec<SignatureAlgorithm>, SkippedKey> {
    let mut algorithms = allowed.to_vec();
    algorithms.retain(|algorithm| algorithm.family() == family);
    if let Some(name) = members.get("alg") {
        algorithms.retain(|algorithm| name.as_str() == Some(algorithm.as_str()));
    }
    if algorithms.is_empty() {
        return Err(SkippedKey::Unsupported);
    }
    Ok(algorithms)
}

/// Checks the size of a modulus without leading zeros, and the exponent.
fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), SkippedKey> {
    let leading_zeros = modulus.first().map_or(8, |first| first.leading_zeros());
    if leading_zeros == 8 || exponent.first().is_none_or(|first| *first == 0) {
        return Err(SkippedKey::Malformed);
    }
    let bits = modulus.len() * 8 - usize::try_from(leading_zeros).unwrap_or_default();
    let exponent = exponent.iter().try_fold(0_u64, |number, byte| {
        let number = number.checked_mul(256)?.checked_add(u64::from(*byte))?;
        (number <= MAX_EXPONENT).then_some(number)
    });
    let is_right = (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)
        && exponent.is_some_and(|exponent| exponent >= 3 && exponent % 2 == 1);
    is_right.then_some(()).ok_or(SkippedKey::RsaSize)
}
