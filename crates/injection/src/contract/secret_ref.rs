//! Names in a reference: source, Secret name, data key, environment variable.
//!
//! They are parsed once, into types that cannot hold an invalid value.
//! The rules are those of Kubernetes (`DNS-1123 subdomain` for Secret names, `IsConfigMapKey` for data
//! keys) and of the floe spec's `SecretReference`; where the two differ on dots in a Secret name,
//! Kubernetes wins, because such Secrets exist.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::excerpt::excerpt;

/// Data key of a reference without a key (floe spec: `SecretReference.key` unset).
pub const DEFAULT_KEY: &str = "value";

/// Limit of Kubernetes for the name of a Secret, and for a data key.
pub const MAX_NAME: usize = 253;

/// Source of a secret, as in the floe spec's `SecretSource`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// A Kubernetes Secret in the pod's own namespace.
    #[default]
    Kubernetes,
    /// Infisical, through a Secret that its operator keeps in the pod's namespace.
    Infisical,
    /// The External Secrets Operator: the target Secret of an `ExternalSecret`.
    ExternalSecrets,
    /// The container's environment, which has the variable already: there is nothing to inject.
    Env,
    /// Part of the spec, not supported by this webhook.
    Vault,
}

impl SecretSource {
    /// Every source of the spec, in the order in which messages list them.
    pub const ALL: [Self; 5] = [
        Self::Kubernetes,
        Self::Infisical,
        Self::ExternalSecrets,
        Self::Env,
        Self::Vault,
    ];

    /// Name of the source in the spec and in annotations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Infisical => "infisical",
            Self::ExternalSecrets => "external-secrets",
            Self::Env => "env",
            Self::Vault => "vault",
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SecretSource {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or_else(|| NameError::UnknownSource(excerpt(text).into_owned()))
    }
}

/// An invalid name. `Display` is a sentence, to follow the annotation's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not one of [`SecretSource::ALL`].
    #[error(
        "unknown source {0:?}; the sources are kubernetes, infisical, external-secrets and env, in lower case"
    )]
    UnknownSource(String),
    /// Not a DNS-1123 subdomain.
    #[error(
        "{0:?} is not a Secret name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters"
    )]
    SecretName(String),
    /// Not a data key of a Secret.
    #[error(
        "{0:?} is not a key of a Secret: letters, digits, '-', '_' and '.', at most 253 characters"
    )]
    SecretKey(String),
    /// Not a C identifier.
    #[error("{0:?} is not a variable name: letters, digits and '_', not starting with a digit")]
    EnvVarName(String),
}

/// The name of a Secret: a DNS-1123 subdomain of at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SecretName(String);

/// A data key of a Secret: `[-._a-zA-Z0-9]+`, at most 253 characters, not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SecretKey(String);

/// A variable name that every Kubernetes version and every shell accepts: `[A-Za-z_][A-Za-z0-9_]*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EnvVarName(String);

/// Implements `FromStr` by a rule, and the read-only views that all three names have.
macro_rules! name_type {
    ($type:ident, $error:path, $rule:expr) => {
        impl $type {
            /// The name, borrowed.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($error(excerpt(text).into_owned()))
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        // Valid because the newtype has the Ord and Hash of its text.
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(SecretName, NameError::SecretName, is_dns1123_subdomain);
name_type!(SecretKey, NameError::SecretKey, is_secret_key);
name_type!(EnvVarName, NameError::EnvVarName, is_c_identifier);

/// `apimachinery` `IsDNS1123Subdomain`: labels of `[a-z0-9]([-a-z0-9]*[a-z0-9])?` joined by dots.
fn is_dns1123_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        !bytes.is_empty()
            && bytes.iter().all(inner)
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    text.len() <= MAX_NAME && text.split('.').all(label)
}

/// `apimachinery` `IsConfigMapKey`.
fn is_secret_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text != "."
        && !text.starts_with("..")
}

fn is_c_identifier(text: &str) -> bool {
    text.bytes()
        .enumerate()
        .all(|(at, b)| b.is_ascii_alphabetic() || b == b'_' || (at > 0 && b.is_ascii_digit()))
        && !text.is_empty()
}

impl SecretKey {
    /// Key of a reference without a key.
    ///
    /// # Panics
    /// Never: [`DEFAULT_KEY`] is a valid key.
    #[must_use]
    pub fn default_key() -> Self {
        Self(DEFAULT_KEY.to_owned())
    }
}

impl EnvVarName {
    /// Variable by the floe spec's naming of references (`SecretReference.to_env_var_name`):
    /// `FLOE_SECRET_{NAME}` and, with a key, `_{KEY}`; upper case, every other character an underscore.
    /// Not injective: the planner rejects two references that result in the same name.
    #[must_use]
    pub fn for_reference(name: &SecretName, key: Option<&str>) -> Self {
        let mut text = String::from("FLOE_SECRET_");
        let parts = [Some(name.as_str()), key];
        for (at, part) in parts.into_iter().flatten().enumerate() {
            if at > 0 {
                text.push('_');
            }
            text.extend(part.chars().map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            }));
        }
        Self(text)
    }

    /// Expression by which a dbt profile reads the variable: `{{ env_var('NAME') }}`. The name is a C identifier, so
    /// nothing in it can end the string or the expression.
    #[must_use]
    pub fn to_env_var_syntax(&self) -> String {
        format!("{{{{ env_var('{self}') }}}}")
    }
}

/// Identity of a secret: its source and its name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId {
    /// Source that has the secret.
    pub source: SecretSource,
    /// Name in the source.
    pub name: SecretName,
}

/// Writes the syntax of annotations: the source only if it is not the default.
impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source != SecretSource::default() {
            write!(f, "{}:", self.source)?;
        }
        self.name.fmt(f)
    }
}

/// Keys of a secret that a reference refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyChoice {
    /// No key given: the data key [`DEFAULT_KEY`], and no key part in the variable's name.
    Default,
    /// One key by name.
    Key(SecretKey),
    /// `name/*`: every key that the secret has when the pod is created.
    All,
}

/// The floe spec's `SecretReference{source, name, key?}`, which never has a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretReference {
    /// Referenced secret.
    pub secret: SecretId,
    /// Referenced keys.
    pub key: KeyChoice,
}

impl SecretReference {
    /// Variable by the floe spec's naming; `None` for all keys of a secret, which are many variables.
    #[must_use]
    pub fn to_env_var_name(&self) -> Option<EnvVarName> {
        let key = match &self.key {
            KeyChoice::Default => None,
            KeyChoice::Key(key) => Some(key.as_str()),
            KeyChoice::All => return None,
        };
        Some(EnvVarName::for_reference(&self.secret.name, key))
    }

    /// Expression by which a dbt profile reads the secret (FR-050); `None` for all keys of a secret.
    #[must_use]
    pub fn to_env_var_syntax(&self) -> Option<String> {
        self.to_env_var_name().map(|name| name.to_env_var_syntax())
    }

    /// Data key of the Secret; `None` for all keys.
    #[must_use]
    pub fn data_key(&self) -> Option<SecretKey> {
        match &self.key {
            KeyChoice::Default => Some(SecretKey::default_key()),
            KeyChoice::Key(key) => Some(key.clone()),
            KeyChoice::All => None,
        }
    }
}

/// Writes the spec's document: `source`, `name`, `key`, in this order.
impl Serialize for SecretReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = match &self.key {
            KeyChoice::Default => None,
            KeyChoice::Key(key) => Some(key.as_str()),
            KeyChoice::All => Some("*"),
        };
        let mut document = serializer.serialize_struct("SecretReference", 3)?;
        document.serialize_field("source", &self.secret.source)?;
        document.serialize_field("name", &self.secret.name)?;
        document.serialize_field("key", &key)?;
        document.end()
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            KeyChoice::Default => self.secret.fmt(f),
            KeyChoice::Key(key) => write!(f, "{}/{key}", self.secret),
            KeyChoice::All => write!(f, "{}/*", self.secret),
        }
    }
}
