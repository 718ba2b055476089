//! Last known state of an awaited secret.

use injection::SecretId;

/// A secret and its namespace.
pub(super) type SecretKey = (String, SecretId);

/// Result of looking up an awaited secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretState {
    NotFound,
    Found(ObjectVersion),
    /// The API server could not be read.
    Unknown,
}

/// Identity and version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectVersion {
    pub uid: String,
    pub resource_version: String,
}
