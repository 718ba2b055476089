//! Algorithms of signatures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Algorithm of a signature (RFC 7518, RFC 8037). There is no symmetric one, so a public key is never a secret key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum SignatureAlgorithm {
    RS256,
    PS256,
    ES256,
    ES384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Keys that an algorithm is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum KeyFamily {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl SignatureAlgorithm {
    /// All algorithms.
    pub const ALL: &[Self] = &[
        Self::RS256,
        Self::PS256,
        Self::ES256,
        Self::ES384,
        Self::EdDsa,
    ];

    /// Algorithms that are allowed unless the settings have others: those of Keycloak and of API servers.
    pub const DEFAULT: &[Self] = &[Self::RS256, Self::ES256];

    /// Algorithm of an `alg`, whose spelling is exact.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|algorithm| algorithm.as_str() == name)
    }

    /// Value of `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn family(self) -> KeyFamily {
        match self {
            Self::RS256 | Self::PS256 => KeyFamily::Rsa,
            Self::ES256 => KeyFamily::P256,
            Self::ES384 => KeyFamily::P384,
            Self::EdDsa => KeyFamily::Ed25519,
        }
    }
}
