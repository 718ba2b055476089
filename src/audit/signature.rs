//! Ed25519 signatures of checkpoints, and of other records that `admin` alone may write.
//!
//! Signed are the bytes of the line without its field `signature`, which is the RFC 8785 form of the rest.

use std::fmt;

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Serialize, Serializer};

/// Public key. Written in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Signature of a line. Written in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SignatureBytes([u8; 64]);

/// Field `signature` of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    pub key: PublicKey,
    value: SignatureBytes,
}

/// Private key. Its `Debug` has the public key alone.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Key of a seed of 32 random bytes.
    ///
    /// # Errors
    ///
    /// The seed does not have 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyRejected> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self::of)
    }

    /// Key in PKCS#8.
    ///
    /// # Errors
    ///
    /// The bytes are not an Ed25519 key in PKCS#8.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyRejected> {
        Ed25519KeyPair::from_pkcs8(document).map(Self::of)
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self {
            pair,
            public: PublicKey(public),
        }
    }

    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Signature of the bytes; the same each time.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        let mut value = [0; 64];
        value.copy_from_slice(self.pair.sign(bytes).as_ref());
        Signature {
            key: self.public,
            value: SignatureBytes(value),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

impl PublicKey {
    /// Reads a key as it is written in records.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }
}

impl Signature {
    /// Reads the two fields of a signature.
    pub(super) fn parse(key: &str, value: &str) -> Option<Self> {
        Some(Self {
            key: PublicKey::parse(key)?,
            value: SignatureBytes(decode(value)?),
        })
    }

    /// Whether the key that it names has signed the bytes. Whether that key is trusted is another question.
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.key.0);
        key.verify(bytes, &self.value.0).is_ok()
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl Serialize for SignatureBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032, section 7.1.
    #[test]
    fn signature_is_ed25519() {
        let seed =
            Digits::bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public =
            Digits::bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let key = SigningKey::from_seed(&seed).unwrap();
        assert_eq!(key.public_key().0.to_vec(), public);
        let signature = key.sign(b"");
        assert_eq!(signature.value.0[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert!(signature.is_of(b"") && !signature.is_of(b"x"));
        assert!(!format!("{key:?}").contains(&BASE64_STANDARD.encode(seed)));
        assert!(SigningKey::from_seed(&[1; 31]).is_err());
    }

    #[test]
    fn signature_is_read_as_it_is_written() {
        let signature = SigningKey::from_seed(&[7; 32]).unwrap().sign(b"line");
        let written = serde_json::to_value(&signature).unwrap();
        let field = |name: &str| written[name].as_str().unwrap();
        let parsed = Signature::parse(field("key"), field("value"));
        assert_eq!(parsed, Some(signature));
        assert_eq!(Signature::parse(field("value"), field("key")), None);
    }

    struct Digits;

    impl Digits {
        fn bytes(text: &str) -> Vec<u8> {
            let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        }
    }
}
