//! Encoding of the bodies that create and patch Secrets. Values are exposed only here.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use super::wire::MANAGED_BY;
use crate::backend::SecretData;
use injection::SecretName;

/// Prefix of the annotations that have the metadata of `set_secret`. It is not `secrets.floe.dev/`, where unknown keys
/// are rejected.
const METADATA_PREFIX: &str = "metadata.secrets.floe.dev/";

/// Value of a Secret, encoded as base64 when it is serialized.
struct EncodedValue<'a>(&'a SecretString);

impl Serialize for EncodedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.0.expose_secret())))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretWrite<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    metadata: SecretWriteMetadata<'a>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    secret_type: Option<&'static str>,
    data: BTreeMap<&'a str, EncodedValue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretWriteMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, &'a str>,
}

/// Body that creates an Opaque Secret with the label [`MANAGED_BY`].
pub(super) fn create_body(
    name: &SecretName,
    data: &SecretData,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    encode(&SecretWrite {
        api_version: Some("v1"),
        kind: Some("Secret"),
        metadata: SecretWriteMetadata {
            name: Some(name.as_str()),
            resource_version: None,
            labels: BTreeMap::from([MANAGED_BY]),
            annotations: annotations(metadata),
        },
        secret_type: Some("Opaque"),
        data: entries(data),
    })
}

/// Merge patch that writes these keys and keeps all others, which need not even be read. It fails unless the Secret is
/// still at `resource_version`.
pub(super) fn patch_body(
    resource_version: Option<&str>,
    data: &SecretData,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    encode(&SecretWrite {
        api_version: None,
        kind: None,
        metadata: SecretWriteMetadata {
            name: None,
            resource_version,
            labels: BTreeMap::new(),
            annotations: annotations(metadata),
        },
        secret_type: None,
        data: entries(data),
    })
}

fn entries(data: &SecretData) -> BTreeMap<&str, EncodedValue<'_>> {
    data.iter()
        .map(|(key, value)| (key.as_str(), EncodedValue(value)))
        .collect()
}

fn annotations(metadata: &BTreeMap<String, String>) -> BTreeMap<String, &str> {
    metadata
        .iter()
        .map(|(key, value)| (format!("{METADATA_PREFIX}{key}"), value.as_str()))
        .collect()
}

fn encode(write: &SecretWrite<'_>) -> Vec<u8> {
    serde_json::to_vec(write).expect("maps of text to text always are JSON")
}

/// Whether `key` can be a metadata key of `set_secret`: the name part of an annotation.
pub(super) fn is_metadata_key(key: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = key.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn db() -> SecretName {
        "db".parse().unwrap()
    }

    #[test]
    fn write_bodies_contain_only_changes() {
        let data = BTreeMap::from([("user".parse().unwrap(), SecretString::from("u"))]);
        let metadata = BTreeMap::from([("owner".to_owned(), "ada".to_owned())]);
        let create: serde_json::Value =
            serde_json::from_slice(&create_body(&db(), &data, &metadata)).unwrap();
        assert_eq!(
            create,
            serde_json::json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {
                    "name": "db",
                    "labels": {"app.kubernetes.io/managed-by": "floe-secrets-webhook"},
                    "annotations": {"metadata.secrets.floe.dev/owner": "ada"},
                },
                "data": {"user": "dQ=="},
            })
        );
        let patch: serde_json::Value =
            serde_json::from_slice(&patch_body(Some("7"), &data, &BTreeMap::new())).unwrap();
        assert_eq!(
            patch,
            serde_json::json!({"metadata": {"resourceVersion": "7"}, "data": {"user": "dQ=="}})
        );
    }

    #[rstest]
    #[case("owner", true)]
    #[case("data.owner_1", true)]
    #[case("", false)]
    #[case("-x", false)]
    #[case("a/b", false)]
    fn metadata_keys_are_annotation_names(#[case] key: &str, #[case] valid: bool) {
        assert_eq!(is_metadata_key(key), valid);
    }
}
