//! Decoding of Secrets and of their metadata, as the API server sends them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::wire::MANAGED_BY;
use crate::backend::{MAX_KEY_BYTES, MAX_KEYS};
use injection::{CowStr, SecretName};

/// Reason why a response is not the requested one, in fixed words of this program.
pub(super) type DecodeError = String;

/// Identity and metadata of an object, and as much of its data as `D` keeps.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", bound = "D: Deserialize<'de> + Default")]
struct SecretResponse<D> {
    kind: String,
    api_version: String,
    metadata: SecretMetadata,
    #[serde(default)]
    data: D,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretMetadata {
    name: String,
    namespace: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Metadata that `set_secret` needs before it writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SecretSummary {
    /// Whether the Secret has the label [`MANAGED_BY`].
    pub(super) managed: bool,
    /// Version of the Secret: a write with it fails if another writer came first.
    pub(super) resource_version: Option<String>,
}

/// Decoded value of a key.
pub(super) enum SecretValue {
    Text(SecretString),
    /// Bytes that are not UTF-8, such as a keystore.
    Binary,
    /// The API server never sends this.
    NotBase64,
}

/// Decodes the response to [`super::wire::ACCEPT_METADATA`].
pub(super) fn summary(
    body: &[u8],
    namespace: &str,
    name: &SecretName,
) -> Result<SecretSummary, DecodeError> {
    let object: SecretResponse<IgnoredAny> = parse(body)?;
    object.verify("PartialObjectMetadata", "meta.k8s.io/v1", namespace, name)?;
    let SecretMetadata {
        labels,
        resource_version,
        ..
    } = object.metadata;
    let managed = labels.is_some_and(|labels| {
        labels
            .get(MANAGED_BY.0)
            .is_some_and(|by| by == MANAGED_BY.1)
    });
    Ok(SecretSummary {
        managed,
        resource_version,
    })
}

/// Decodes the key names of a Secret; its values are skipped and never built. `None` if it has more keys than are read
/// of one Secret.
pub(super) fn key_names(
    body: &[u8],
    namespace: &str,
    name: &SecretName,
) -> Result<Option<BTreeSet<String>>, DecodeError> {
    let object: SecretResponse<KeyNames> = parse(body)?;
    object.verify("Secret", "v1", namespace, name)?;
    let KeyNames { names, bytes } = object.data;
    Ok((names.len() <= MAX_KEYS && bytes <= MAX_KEY_BYTES).then_some(names))
}

/// Decodes the values of a Secret.
pub(super) fn values(
    body: &[u8],
    namespace: &str,
    name: &SecretName,
) -> Result<BTreeMap<String, SecretValue>, DecodeError> {
    let object: SecretResponse<Option<BTreeMap<String, SecretValue>>> = parse(body)?;
    object.verify("Secret", "v1", namespace, name)?;
    Ok(object.data.unwrap_or_default())
}

/// Decodes the names on one page of a list, and the continue token of the next page.
pub(super) fn page(body: &[u8]) -> Result<(Vec<String>, Option<String>), DecodeError> {
    #[derive(serde::Deserialize)]
    struct SecretListResponse {
        kind: String,
        metadata: SecretListMetadata,
        items: Vec<SecretListItem>,
    }
    #[derive(serde::Deserialize)]
    struct SecretListMetadata {
        #[serde(rename = "continue")]
        continue_token: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct SecretListItem {
        metadata: SecretMetadata,
    }
    let list: SecretListResponse = parse(body)?;
    if list.kind != "PartialObjectMetadataList" {
        return Err("the answer is not a list of metadata".to_owned());
    }
    let names = list
        .items
        .into_iter()
        .map(|item| item.metadata.name)
        .collect();
    Ok((
        names,
        list.metadata
            .continue_token
            .filter(|continue_token| !continue_token.is_empty()),
    ))
}

/// Whether the body of an error is the "not found" of the API server itself.
pub(super) fn is_not_found(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct StatusResponse<'a> {
        #[serde(borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        reason: Cow<'a, str>,
    }
    serde_json::from_slice::<StatusResponse<'_>>(body)
        .is_ok_and(|status| status.kind == "Status" && status.reason == "NotFound")
}

/// Parses JSON. The messages of `serde_json` quote their input, so the error has only their category and position.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(body).map_err(|error| {
        let category = match error.classify() {
            serde_json::error::Category::Io => "unreadable",
            serde_json::error::Category::Syntax => "not JSON",
            serde_json::error::Category::Data => "of another shape",
            serde_json::error::Category::Eof => "cut off",
        };
        format!(
            "the answer is {category} at line {} column {}",
            error.line(),
            error.column()
        )
    })
}

impl<D> SecretResponse<D> {
    /// Checks the identity of the object: a response about another object, from a faulty proxy or cache, is rejected.
    fn verify(
        &self,
        kind: &str,
        api_version: &str,
        namespace: &str,
        name: &SecretName,
    ) -> Result<(), DecodeError> {
        if self.kind != kind || self.api_version != api_version {
            return Err(format!("the answer is not a {api_version} {kind}"));
        }
        let SecretMetadata {
            name: actual_name,
            namespace: actual_namespace,
            ..
        } = &self.metadata;
        if actual_name != name.as_str() || actual_namespace.as_deref() != Some(namespace) {
            return Err("the answer is about another object".to_owned());
        }
        Ok(())
    }
}

/// Keys of a map whose values are skipped. Once there are too many, further ones are only counted by their bytes.
#[derive(Default)]
struct KeyNames {
    names: BTreeSet<String>,
    bytes: usize,
}

impl<'de> Deserialize<'de> for KeyNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyNamesVisitor;
        impl<'de> Visitor<'de> for KeyNamesVisitor {
            type Value = KeyNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map or null")
            }

            fn visit_unit<E>(self) -> Result<KeyNames, E> {
                Ok(KeyNames::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyNames, A::Error> {
                let mut keys = KeyNames::default();
                while let Some((CowStr(name), IgnoredAny)) = map.next_entry()? {
                    keys.bytes += name.len();
                    if keys.names.len() <= MAX_KEYS && keys.bytes <= MAX_KEY_BYTES {
                        keys.names.insert(name.into_owned());
                    }
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_any(KeyNamesVisitor)
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Zeroizing::new(String::deserialize(deserializer)?);
        let Ok(bytes) = STANDARD.decode(encoded.as_bytes()) else {
            return Ok(Self::NotBase64);
        };
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Self::Text(SecretString::from(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Self::Binary
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret;

    use super::*;

    fn db() -> SecretName {
        "db".parse().unwrap()
    }

    fn secret(data: &str) -> String {
        format!(
            r#"{{"kind":"Secret","apiVersion":"v1","metadata":{{"name":"db","namespace":"jobs","uid":"u","annotations":{{"a":"CANARY"}}}},{data}"type":"Opaque"}}"#
        )
    }

    #[rstest]
    #[case::none("", &[])]
    #[case::null(r#""data":null,"#, &[])]
    #[case::empty(r#""data":{},"#, &[])]
    #[case::two(r#""data":{"user":"dQ==","pass.word":"cA=="},"#, &["pass.word", "user"])]
    #[case::odd_values(r#""data":{"user":null,"n":[1,{"x":"}"}]},"#, &["n", "user"])]
    #[case::escaped_key("\"data\":{\"us\\u0065r\":\"\"},", &["user"])]
    fn key_names_are_decoded_and_values_skipped(#[case] data: &str, #[case] expected: &[&str]) {
        let names = key_names(secret(data).as_bytes(), "jobs", &db())
            .unwrap()
            .unwrap();
        assert!(names.iter().eq(expected), "{names:?}");
    }

    #[rstest]
    #[case::few(1000, 8, true)]
    #[case::many(1001, 8, false)]
    #[case::short_enough(512, 256, true)]
    #[case::long(512, 257, false)]
    fn keys_are_decoded_up_to_a_number_and_a_length(
        #[case] count: usize,
        #[case] length: usize,
        #[case] is_within_limits: bool,
    ) {
        let keys: Vec<String> = (0..count)
            .map(|n| format!("\"{n:0length$}\":\"dg==\""))
            .collect();
        let body = secret(&format!("\"data\":{{{}}},", keys.join(",")));
        let names = key_names(body.as_bytes(), "jobs", &db()).unwrap();
        assert_eq!(
            names.map(|names| names.len()),
            is_within_limits.then_some(count)
        );
    }

    #[rstest]
    #[case::other_name("jobs", "else")]
    #[case::other_namespace("elsewhere", "db")]
    fn response_about_another_object_is_rejected(#[case] namespace: &str, #[case] name: &str) {
        assert!(key_names(secret("").as_bytes(), namespace, &name.parse().unwrap()).is_err());
    }

    #[rstest]
    #[case::cut_off(r#"{"kind":"Secret","apiVersion":"v1","data":{"k":"CANARY"#)]
    #[case::wrong_type(
        r#"{"kind":"Secret","apiVersion":"v1","metadata":"CANARY","data":"CANARY"}"#
    )]
    #[case::wrong_data(
        r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"jobs"},"data":"CANARY"}"#
    )]
    #[case::status(r#"{"kind":"Status","apiVersion":"v1","metadata":{"name":"CANARY"}}"#)]
    #[case::not_json("CANARY")]
    #[case::not_utf8("\u{fffd}")]
    fn unreadable_response_is_not_quoted(#[case] body: &str) {
        for cause in [
            key_names(body.as_bytes(), "jobs", &db()).err().unwrap(),
            values(body.as_bytes(), "jobs", &db()).err().unwrap(),
            summary(body.as_bytes(), "jobs", &db()).err().unwrap(),
            page(body.as_bytes()).err().unwrap(),
        ] {
            assert!(!cause.contains("CANARY"), "{cause}");
        }
    }

    #[test]
    fn values_are_decoded_one_by_one() {
        let body = secret(r#""data":{"text":"aMOp","binary":"/w==","broken":"%"},"#);
        let values = values(body.as_bytes(), "jobs", &db()).unwrap();
        assert!(matches!(&values["text"], SecretValue::Text(text) if text.expose_secret() == "hé"));
        assert!(matches!(&values["binary"], SecretValue::Binary));
        assert!(matches!(&values["broken"], SecretValue::NotBase64));
    }

    #[test]
    fn summary_has_the_managed_label() {
        let body = |labels: &str| {
            format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"name":"db","namespace":"jobs","resourceVersion":"7"{labels}}}}}"#
            )
        };
        let summary_of = |labels| summary(body(labels).as_bytes(), "jobs", &db()).unwrap();
        assert_eq!(
            summary_of(""),
            SecretSummary {
                managed: false,
                resource_version: Some("7".to_owned())
            }
        );
        assert!(!summary_of(r#","labels":{"app.kubernetes.io/managed-by":"Helm"}"#).managed);
        assert!(
            summary_of(r#","labels":{"app.kubernetes.io/managed-by":"floe-secrets-webhook"}"#)
                .managed
        );
    }
}
