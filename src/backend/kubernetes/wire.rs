//! Secrets as the API server writes and reads them. The only file where a value is exposed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::backend::{MAX_KEY_BYTES, MAX_KEYS};
use injection::{CowStr, SecretName};

/// Written on every Secret that `set_secret` creates; a Secret without it is never written.
pub(super) const MANAGED_BY: (&str, &str) =
    ("app.kubernetes.io/managed-by", "floe-secrets-webhook");

/// Before each key of `set_secret`'s metadata. Not `secrets.floe.dev/`, where unknown keys are refused.
pub(super) const METADATA_PREFIX: &str = "metadata.secrets.floe.dev/";

/// Asks for metadata alone. Without `application/json` beside it: a server that cannot do this must refuse
/// rather than send the values after all.
pub(super) const ACCEPT_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The same for lists.
pub(super) const ACCEPT_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// Asks for the whole object.
pub(super) const ACCEPT_WHOLE: &str = "application/json";

/// Why an answer is not what was asked for, in this program's words.
pub(super) type Unreadable = String;

// === what is read ===

/// An object's head, and as much of its data as `D` keeps.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", bound = "D: Deserialize<'de> + Default")]
struct Object<D> {
    kind: String,
    api_version: String,
    metadata: Metadata,
    #[serde(default)]
    data: D,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What `set_secret` needs to know before it writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// It carries [`MANAGED_BY`].
    pub(super) managed: bool,
    /// Makes the write fail when someone else wrote in between.
    pub(super) resource_version: Option<String>,
}

/// A value that was read.
pub(super) enum Value {
    Text(SecretString),
    /// Bytes that are no UTF-8: a keystore, say.
    Binary,
    /// The API server cannot send this.
    NotBase64,
}

/// The head of a Secret, from an answer to [`ACCEPT_METADATA`].
pub(super) fn head(body: &[u8], namespace: &str, name: &SecretName) -> Result<Head, Unreadable> {
    let object: Object<IgnoredAny> = read(body)?;
    object.must_be("PartialObjectMetadata", "meta.k8s.io/v1", namespace, name)?;
    let Metadata {
        labels,
        resource_version,
        ..
    } = object.metadata;
    let managed = labels.is_some_and(|labels| {
        labels
            .get(MANAGED_BY.0)
            .is_some_and(|by| by == MANAGED_BY.1)
    });
    Ok(Head {
        managed,
        resource_version,
    })
}

/// The key names of a whole Secret; its values are skipped, never built.
/// `None` when it has more of them than are read of one Secret.
pub(super) fn key_names(
    body: &[u8],
    namespace: &str,
    name: &SecretName,
) -> Result<Option<BTreeSet<String>>, Unreadable> {
    let object: Object<KeyNames> = read(body)?;
    object.must_be("Secret", "v1", namespace, name)?;
    let KeyNames { names, bytes } = object.data;
    Ok((names.len() <= MAX_KEYS && bytes <= MAX_KEY_BYTES).then_some(names))
}

/// The values of a whole Secret.
pub(super) fn values(
    body: &[u8],
    namespace: &str,
    name: &SecretName,
) -> Result<BTreeMap<String, Value>, Unreadable> {
    let object: Object<Option<BTreeMap<String, Value>>> = read(body)?;
    object.must_be("Secret", "v1", namespace, name)?;
    Ok(object.data.unwrap_or_default())
}

/// The names on one page of a list, and where the next page begins.
pub(super) fn page(body: &[u8]) -> Result<(Vec<String>, Option<String>), Unreadable> {
    #[derive(serde::Deserialize)]
    struct List {
        kind: String,
        metadata: ListMetadata,
        items: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct ListMetadata {
        #[serde(rename = "continue")]
        more: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        metadata: Metadata,
    }
    let list: List = read(body)?;
    if list.kind != "PartialObjectMetadataList" {
        return Err("the answer is not a list of metadata".to_owned());
    }
    let names = list
        .items
        .into_iter()
        .map(|item| item.metadata.name)
        .collect();
    Ok((names, list.metadata.more.filter(|more| !more.is_empty())))
}

/// Whether an error's body is the API server's own "not found".
pub(super) fn is_not_found(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Status<'a> {
        #[serde(borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        reason: Cow<'a, str>,
    }
    serde_json::from_slice::<Status<'_>>(body)
        .is_ok_and(|status| status.kind == "Status" && status.reason == "NotFound")
}

/// `serde_json`'s messages quote what they met, so only its category and place are told.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
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

impl<D> Object<D> {
    /// An answer about another object, from a confused proxy or cache, must not be believed.
    fn must_be(
        &self,
        kind: &str,
        api_version: &str,
        namespace: &str,
        name: &SecretName,
    ) -> Result<(), Unreadable> {
        if self.kind != kind || self.api_version != api_version {
            return Err(format!("the answer is not a {api_version} {kind}"));
        }
        let Metadata {
            name: named,
            namespace: within,
            ..
        } = &self.metadata;
        if named != name.as_str() || within.as_deref() != Some(namespace) {
            return Err("the answer is about another object".to_owned());
        }
        Ok(())
    }
}

/// The keys of a map whose values are skipped; none of them is kept once there are too many.
#[derive(Default)]
struct KeyNames {
    names: BTreeSet<String>,
    bytes: usize,
}

impl<'de> Deserialize<'de> for KeyNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
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
        deserializer.deserialize_any(Names)
    }
}

impl<'de> Deserialize<'de> for Value {
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

// === what is written ===

/// A value on its way into a Secret.
struct Encoded<'a>(&'a SecretString);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.0.expose_secret())))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Write<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    metadata: WriteMetadata<'a>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    secret_type: Option<&'static str>,
    data: BTreeMap<&'a str, Encoded<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WriteMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, &'a str>,
}

/// The body that creates an Opaque Secret under our label.
pub(super) fn create_body(
    name: &SecretName,
    data: &crate::backend::SecretData,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    encode(&Write {
        api_version: Some("v1"),
        kind: Some("Secret"),
        metadata: WriteMetadata {
            name: Some(name.as_str()),
            resource_version: None,
            labels: BTreeMap::from([MANAGED_BY]),
            annotations: annotations(metadata),
        },
        secret_type: Some("Opaque"),
        data: entries(data),
    })
}

/// The merge patch that writes these keys, and leaves all that it does not name: other keys need not even be
/// read. It fails unless the Secret still is at `resource_version`.
pub(super) fn patch_body(
    resource_version: Option<&str>,
    data: &crate::backend::SecretData,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    encode(&Write {
        api_version: None,
        kind: None,
        metadata: WriteMetadata {
            name: None,
            resource_version,
            labels: BTreeMap::new(),
            annotations: annotations(metadata),
        },
        secret_type: None,
        data: entries(data),
    })
}

fn entries(data: &crate::backend::SecretData) -> BTreeMap<&str, Encoded<'_>> {
    data.iter()
        .map(|(key, value)| (key.as_str(), Encoded(value)))
        .collect()
}

fn annotations(metadata: &BTreeMap<String, String>) -> BTreeMap<String, &str> {
    metadata
        .iter()
        .map(|(key, value)| (format!("{METADATA_PREFIX}{key}"), value.as_str()))
        .collect()
}

fn encode(write: &Write<'_>) -> Vec<u8> {
    serde_json::to_vec(write).expect("maps of text to text always are JSON")
}

/// Whether `set_secret`'s metadata may use this key: the name part of an annotation.
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

    fn whole(data: &str) -> String {
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
    fn key_names_are_kept_and_values_skipped(#[case] data: &str, #[case] expected: &[&str]) {
        let names = key_names(whole(data).as_bytes(), "jobs", &db())
            .unwrap()
            .unwrap();
        assert!(names.iter().eq(expected), "{names:?}");
    }

    #[rstest]
    #[case::few(1000, 8, true)]
    #[case::many(1001, 8, false)]
    #[case::short_enough(512, 256, true)]
    #[case::long(512, 257, false)]
    fn keys_are_read_up_to_a_number_and_a_length(
        #[case] count: usize,
        #[case] length: usize,
        #[case] read: bool,
    ) {
        let keys: Vec<String> = (0..count)
            .map(|n| format!("\"{n:0length$}\":\"dg==\""))
            .collect();
        let body = whole(&format!("\"data\":{{{}}},", keys.join(",")));
        let names = key_names(body.as_bytes(), "jobs", &db()).unwrap();
        assert_eq!(names.map(|names| names.len()), read.then_some(count));
    }

    #[rstest]
    #[case::other_name("jobs", "else")]
    #[case::other_namespace("elsewhere", "db")]
    fn an_answer_about_another_object_is_not_believed(#[case] namespace: &str, #[case] name: &str) {
        assert!(key_names(whole("").as_bytes(), namespace, &name.parse().unwrap()).is_err());
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
    #[case::no_json("CANARY")]
    #[case::no_utf8("\u{fffd}")]
    fn an_unreadable_answer_is_not_quoted(#[case] body: &str) {
        for cause in [
            key_names(body.as_bytes(), "jobs", &db()).err().unwrap(),
            values(body.as_bytes(), "jobs", &db()).err().unwrap(),
            head(body.as_bytes(), "jobs", &db()).err().unwrap(),
            page(body.as_bytes()).err().unwrap(),
        ] {
            assert!(!cause.contains("CANARY"), "{cause}");
        }
    }

    #[test]
    fn values_are_decoded_each_by_itself() {
        let body = whole(r#""data":{"text":"aMOp","binary":"/w==","broken":"%"},"#);
        let values = values(body.as_bytes(), "jobs", &db()).unwrap();
        assert!(matches!(&values["text"], Value::Text(text) if text.expose_secret() == "hé"));
        assert!(matches!(&values["binary"], Value::Binary));
        assert!(matches!(&values["broken"], Value::NotBase64));
    }

    #[test]
    fn a_head_says_whether_the_secret_is_ours() {
        let body = |labels: &str| {
            format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"name":"db","namespace":"jobs","resourceVersion":"7"{labels}}}}}"#
            )
        };
        let read = |labels| head(body(labels).as_bytes(), "jobs", &db()).unwrap();
        assert_eq!(
            read(""),
            Head {
                managed: false,
                resource_version: Some("7".to_owned())
            }
        );
        assert!(!read(r#","labels":{"app.kubernetes.io/managed-by":"Helm"}"#).managed);
        assert!(
            read(r#","labels":{"app.kubernetes.io/managed-by":"floe-secrets-webhook"}"#).managed
        );
    }

    #[test]
    fn writes_name_only_what_they_change() {
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
