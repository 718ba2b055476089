//! Signing key of checkpoints, in one Secret that `admin` alone reads and writes.
//!
//! The installation creates the Secret empty, so that `admin` does not need the permission to create Secrets. A Secret
//! with other content is never written.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use thiserror::Error;

use crate::audit::signature::SigningKey;
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};

/// Entry of the Secret that has the private key, as PKCS#8 in PEM.
pub const PRIVATE_ENTRY: &str = "ed25519.key";

/// Entry of the Secret that has the public key, as `audit verify --key` reads it.
pub const PUBLIC_ENTRY: &str = "ed25519.pub";

/// Annotation that asks for a new key. It is removed when there is one.
pub const ROTATE_ANNOTATION: &str = "audit.floe.dev/rotate-key";

/// Type of the PEM block.
const PEM_TYPE: &str = "PRIVATE KEY";

/// Reason why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error(
        "Secret \"{name}\" not found in namespace \"{namespace}\": create it empty, or install the chart again"
    )]
    NotFound { namespace: String, name: String },
    #[error(
        "Secret \"{name}\" in namespace \"{namespace}\" has \"{PRIVATE_ENTRY}\", which is not an Ed25519 key (PKCS#8 in \
         PEM): restore the key, or remove all entries to have a new one made"
    )]
    NotAKey { namespace: String, name: String },
    #[error(
        "Secret \"{name}\" in namespace \"{namespace}\" has other entries than a key of the audit trail, and is not \
         changed: name another Secret, or remove its entries"
    )]
    Foreign { namespace: String, name: String },
    #[error("the response about Secret \"{name}\" in namespace \"{namespace}\" is not a Secret")]
    Unreadable { namespace: String, name: String },
    #[error("no key could be made: the system has no random numbers")]
    NotMade,
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl KeyError {
    /// Whether another process has changed the Secret since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if error.kind == ApiErrorKind::Conflict)
    }
}

/// Access to the Secret.
#[derive(Clone, Debug)]
pub struct KeySecret {
    api: ObjectApi,
    namespace: String,
    name: String,
}

/// Content of the Secret.
#[derive(Debug)]
pub struct StoredKey {
    /// Absent until the first key is made.
    pub key: Option<SigningKey>,
    /// Whether the public key is beside the private one.
    pub is_published: bool,
    /// Whether a new key is wanted.
    pub rotates: bool,
    version: String,
}

/// Key that is not in the Secret yet. Its `Debug` has the public key alone.
pub struct NewKey {
    pub key: SigningKey,
    pem: SecretString,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewKey").field(&self.key).finish()
    }
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new());
        let document = document.map_err(|_| KeyError::NotMade)?;
        let key = SigningKey::from_pkcs8(document.as_ref()).map_err(|_| KeyError::NotMade)?;
        // Of 64 characters, so one line.
        let base64 = Zeroizing::new(STANDARD.encode(document.as_ref()));
        let pem = format!(
            "-----BEGIN {PEM_TYPE}-----\n{}\n-----END {PEM_TYPE}-----\n",
            base64.as_str()
        );
        Ok(Self {
            key,
            pem: pem.into(),
        })
    }
}

impl KeySecret {
    #[must_use]
    pub fn new(api: ObjectApi, namespace: &str, name: &str) -> Self {
        Self {
            api,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/secrets/{}",
            self.namespace, self.name
        )
    }

    /// Reads the key.
    ///
    /// # Errors
    /// The Secret does not exist, cannot be read, or has other content.
    pub async fn read(&self) -> Result<StoredKey, KeyError> {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        let Some(body) = self.api.get(&self.path(), Representation::Full).await? else {
            return Err(KeyError::NotFound { namespace, name });
        };
        let Ok(secret) = serde_json::from_slice::<KeySecretObject>(&body) else {
            return Err(KeyError::Unreadable { namespace, name });
        };
        let entries = secret.data.unwrap_or_default();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        let key = match entries.get(PRIVATE_ENTRY) {
            Some(key) => Some(
                parse_key(key.0.expose_secret()).ok_or(KeyError::NotAKey { namespace, name })?,
            ),
            None if entries.is_empty() => None,
            None => return Err(KeyError::Foreign { namespace, name }),
        };
        let published = key
            .as_ref()
            .map(|key| STANDARD.encode(public_text(key)))
            .unwrap_or_default();
        let entry = entries
            .get(PUBLIC_ENTRY)
            .map(|entry| entry.0.expose_secret())
            .unwrap_or_default();
        Ok(StoredKey {
            is_published: entry == published,
            key,
            rotates: annotations.contains_key(ROTATE_ANNOTATION),
            version: secret.metadata.resource_version,
        })
    }

    /// Replaces the content that was read by a new key.
    ///
    /// # Errors
    /// [`KeyError::is_conflict`] if the Secret was changed since it was read.
    pub async fn write(&self, previous: &StoredKey, new: &NewKey) -> Result<(), KeyError> {
        let change = json!({
            "metadata": {
                "resourceVersion": previous.version,
                "annotations": {ROTATE_ANNOTATION: null},
            },
            "data": {
                PRIVATE_ENTRY: STANDARD.encode(new.pem.expose_secret()),
                PUBLIC_ENTRY: STANDARD.encode(public_text(&new.key)),
            },
        });
        Ok(self.api.merge(&self.path(), &change).await?)
    }

    /// Writes the public key beside the private one that was read.
    ///
    /// # Errors
    /// [`KeyError::is_conflict`] if the Secret was changed since it was read.
    pub async fn publish(&self, previous: &StoredKey, key: &SigningKey) -> Result<(), KeyError> {
        let change = json!({
            "metadata": {"resourceVersion": previous.version},
            "data": {PUBLIC_ENTRY: STANDARD.encode(public_text(key))},
        });
        Ok(self.api.merge(&self.path(), &change).await?)
    }
}

/// Public key as a file of trusted keys has it.
fn public_text(key: &SigningKey) -> String {
    format!("{}\n", key.public_key())
}

/// Reads a private key from the base64 of a Secret's entry.
fn parse_key(entry: &str) -> Option<SigningKey> {
    let text = Zeroizing::new(STANDARD.decode(entry).ok()?);
    let block = pem::parse(text.as_slice()).ok()?;
    let is_key = block.tag() == PEM_TYPE;
    let document = Zeroizing::new(block.into_contents());
    SigningKey::from_pkcs8(&document).ok().filter(|_| is_key)
}

#[derive(Deserialize)]
struct KeySecretObject {
    metadata: KeySecretMetadata,
    #[serde(default)]
    data: Option<BTreeMap<String, SecretEntry>>,
}

/// Entry of the Secret, in base64.
struct SecretEntry(SecretString);

impl<'de> Deserialize<'de> for SecretEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|entry| Self(entry.into()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeySecretMetadata {
    resource_version: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::kubernetes::fake_api::{ApiFault, FakeApi};
    use rstest::rstest;

    fn secret(api: &FakeApi) -> KeySecret {
        KeySecret::new(ObjectApi::new(api.client()), "floe", "audit-key")
    }

    async fn api(entries: &[(&str, &str)]) -> FakeApi {
        let api = FakeApi::start(&["floe"]).await;
        api.put("floe", "audit-key", entries);
        api
    }

    #[tokio::test]
    async fn empty_secret_gets_a_key_that_is_read_again() {
        let api = api(&[]).await;
        let secret = secret(&api);
        let stored = secret.read().await.unwrap();
        assert!(stored.key.is_none() && !stored.rotates);
        let new = NewKey::generate().unwrap();
        secret.write(&stored, &new).await.unwrap();
        let read = secret.read().await.unwrap();
        assert!(read.is_published);
        assert_eq!(read.key.unwrap().public_key(), new.key.public_key());
        let object = api.stored("floe", "audit-key").unwrap();
        let entry = |name: &str| {
            let entry = STANDARD.decode(object["data"][name].as_str().unwrap());
            String::from_utf8(entry.unwrap()).unwrap()
        };
        assert_eq!(entry(PUBLIC_ENTRY), format!("{}\n", new.key.public_key()));
        assert!(entry(PRIVATE_ENTRY).starts_with("-----BEGIN PRIVATE KEY-----\n"));
        // A second process that has read the empty Secret does not replace the key.
        let other = NewKey::generate().unwrap();
        let conflict = secret.write(&stored, &other).await.unwrap_err();
        assert!(conflict.is_conflict(), "{conflict}");
        assert_ne!(other.key.public_key(), new.key.public_key());
    }

    #[tokio::test]
    async fn private_key_is_in_no_text() {
        let new = NewKey::generate().unwrap();
        let pem = new.pem.expose_secret().to_owned();
        let api = api(&[(PRIVATE_ENTRY, &pem)]).await;
        let stored = secret(&api).read().await.unwrap();
        assert!(!stored.is_published);
        let texts = format!("{new:?} {stored:?} {:?}", secret(&api));
        let key = pem.lines().nth(1).unwrap();
        assert!(
            !texts.contains(key) && !texts.contains(&key[20..40]),
            "{texts}"
        );
        assert!(texts.contains(&new.key.public_key().to_string()), "{texts}");
    }

    #[tokio::test]
    async fn public_key_is_published_beside_a_key_that_was_restored() {
        let new = NewKey::generate().unwrap();
        let api = api(&[(PRIVATE_ENTRY, new.pem.expose_secret())]).await;
        let secret = secret(&api);
        let stored = secret.read().await.unwrap();
        let key = stored.key.as_ref().unwrap();
        secret.publish(&stored, key).await.unwrap();
        let read = secret.read().await.unwrap();
        assert!(read.is_published && read.key.is_some());
    }

    #[rstest]
    #[case::text("not a key")]
    #[case::certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    #[case::empty("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")]
    #[tokio::test]
    async fn content_that_is_not_a_key_is_rejected_without_being_quoted(#[case] entry: &str) {
        let api = api(&[(PRIVATE_ENTRY, entry)]).await;
        let error = secret(&api).read().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, KeyError::NotAKey { .. }), "{text}");
        assert!(
            !text.contains("AAAA") && !text.contains("not a key"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn secret_of_another_program_is_left_alone() {
        let api = api(&[("password", "s3cr3t-canary")]).await;
        let error = secret(&api).read().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, KeyError::Foreign { .. }) && !text.contains("canary"));
        api.delete("floe", "audit-key");
        let error = secret(&api).read().await.unwrap_err();
        assert!(matches!(error, KeyError::NotFound { .. }), "{error}");
        api.next(ApiFault::Status(403));
        let error = secret(&api).read().await.unwrap_err();
        assert!(matches!(error, KeyError::Api(_)), "{error}");
    }
}
