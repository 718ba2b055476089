//! Decoding an `AdmissionReview` (`admission.k8s.io/v1`) in one pass into a partial, borrowing view.
//!
//! A uid that the bytes hold is never lost: an answer without it counts as a failed call, and under
//! `failurePolicy: Ignore` the API server would then admit the pod without a word.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::backend::kubernetes::is_dns_label;
use injection::{CowStr, MetadataView, WrongType};

/// The only version that is spoken here; the configuration registers no other.
pub const API_VERSION: &str = "admission.k8s.io/v1";

/// The kind of both the question and the answer.
pub const KIND: &str = "AdmissionReview";

/// The longest uid: the API server's are 36 bytes long. It comes back in the answer, and stands in every log line.
const MAX_UID: usize = 128;

/// The longest name and API group: a DNS-1123 subdomain.
const MAX_NAME: usize = 253;

/// The longest resource and subresource: a DNS-1123 label.
const MAX_RESOURCE: usize = 63;

/// Objects and lists in a review, counted by their brackets wherever these stand. Two objects as large as the API server
/// stores have a tenth of that. Each may take [`NODE_BYTES`] once decoded, so that the largest body and what it decodes to
/// together fit into the bytes that large requests may hold.
const MAX_NODES: usize = 130_000;

/// An operation on an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change.
    Update,
    /// A removal.
    Delete,
    /// `exec`, `attach`, `port-forward`, `proxy`.
    Connect,
    /// None that this program knows.
    #[default]
    #[serde(other)]
    Other,
}

impl Operation {
    /// As labels and logs write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Connect => "connect",
            Self::Other => "other",
        }
    }
}

/// `AdmissionRequest`, with as much of its objects as `O` looks at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Request<'a, O> {
    /// Must be given back.
    #[serde(borrow)]
    pub uid: CowStr<'a>,
    /// The resource, as the rule that matched knows it.
    #[serde(borrow, default)]
    pub resource: Resource<'a>,
    /// `status`, `ephemeralcontainers`, …
    #[serde(borrow, default)]
    pub sub_resource: Option<CowStr<'a>>,
    /// Empty when the API server will make one from `generateName`.
    #[serde(borrow, default)]
    pub name: Option<CowStr<'a>>,
    /// The namespace; the object's own field may be empty on CREATE.
    #[serde(borrow, default)]
    pub namespace: Option<CowStr<'a>>,
    /// What is done to it.
    #[serde(default)]
    pub operation: Operation,
    /// Who does it, as the API server knows them.
    #[serde(borrow, default)]
    pub user_info: UserInfo<'a>,
    /// Nothing will be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// The object as it shall be; absent on DELETE.
    #[serde(default = "none")]
    pub object: Option<O>,
    /// The object as it was; absent on CREATE.
    #[serde(default = "none")]
    pub old_object: Option<O>,
}

fn none<O>() -> Option<O> {
    None
}

/// Group and plural of a resource.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Resource<'a> {
    /// Empty for core.
    #[serde(borrow, default)]
    pub group: CowStr<'a>,
    /// `pods`, `namespaces`, …
    #[serde(borrow, default)]
    pub resource: CowStr<'a>,
}

/// Who made the request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct UserInfo<'a> {
    /// `system:serviceaccount:<namespace>:<name>` for service accounts.
    #[serde(borrow, default)]
    pub username: CowStr<'a>,
}

impl<O> Request<'_, O> {
    /// Whether the strings that are repeated in keys, sentences and log lines are as short as an API server's.
    ///
    /// # Errors
    /// The first field that is not.
    fn check_lengths(&self) -> Result<(), &'static str> {
        let within = |text: &CowStr<'_>, most: usize| text.as_str().len() <= most;
        let absent_or =
            |text: &Option<CowStr<'_>>, most| text.as_ref().is_none_or(|text| within(text, most));
        let checks = [
            ("uid", within(&self.uid, MAX_UID)),
            (
                "namespace",
                self.namespace().is_empty() || is_dns_label(self.namespace()),
            ),
            ("name", absent_or(&self.name, MAX_NAME)),
            ("resource's group", within(&self.resource.group, MAX_NAME)),
            ("resource", within(&self.resource.resource, MAX_RESOURCE)),
            ("subresource", absent_or(&self.sub_resource, MAX_RESOURCE)),
        ];
        checks
            .into_iter()
            .find(|(_, holds)| !holds)
            .map_or(Ok(()), |(field, _)| Err(field))
    }

    /// The namespace; empty for cluster-scoped objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", CowStr::as_str)
    }

    /// Whether it is this resource itself, and not one of its subresources.
    #[must_use]
    pub fn is_resource(&self, group: &str, resource: &str) -> bool {
        self.resource.group.as_str() == group
            && self.resource.resource.as_str() == resource
            && self
                .sub_resource
                .as_ref()
                .is_none_or(|sub| sub.as_str().is_empty())
    }
}

/// A Namespace or ServiceAccount: nothing but its metadata.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SourceView<'a> {
    /// Name and annotations.
    #[serde(borrow, default)]
    pub metadata: MetadataView<'a>,
}

/// Bytes that are no review. `Display` never quotes them: a pod's literal values are in there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable {
    /// The request's uid, if the bytes hold one.
    pub uid: Option<String>,
    /// What and where.
    pub problem: String,
    /// The problem is one of the object that is reviewed: its author can mend it.
    pub in_object: bool,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.in_object {
            write!(f, "not an AdmissionReview of {API_VERSION}: ")?;
        }
        f.write_str(&self.problem)
    }
}

/// Bytes that an object or list of a review takes once decoded, at the most.
const NODE_BYTES: usize = 128;

/// Objects and lists in a review's bytes, or more: brackets within strings count as well.
fn nodes(bytes: &[u8]) -> usize {
    // In bytes as far as they hold the count, so that the compiler counts many at once: a count in `usize` took half of
    // the time of decoding.
    let opened = |chunk: &[u8]| {
        chunk
            .iter()
            .map(|byte| u8::from(byte | 0x20 == b'{'))
            .sum::<u8>()
    };
    bytes
        .chunks(usize::from(u8::MAX))
        .map(|chunk| usize::from(opened(chunk)))
        .sum()
}

/// Memory that a review takes once it is decoded, beside its own bytes: at most 17 MB. None if it has so many objects and
/// lists that [`decode`] rejects it.
#[must_use]
pub fn decoded_bytes(bytes: &[u8]) -> usize {
    let nodes = nodes(bytes);
    if nodes > MAX_NODES {
        0
    } else {
        nodes * NODE_BYTES
    }
}

/// The envelope of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Review<'a, O> {
    #[serde(borrow, default)]
    api_version: CowStr<'a>,
    #[serde(borrow, default)]
    kind: CowStr<'a>,
    #[serde(default = "none", borrow)]
    request: Option<Request<'a, O>>,
}

/// Decodes a review.
///
/// # Errors
/// [`Unreadable`], with the uid that could be saved, for anything but an `AdmissionReview` of
/// `admission.k8s.io/v1` that holds a request with a uid.
pub fn decode<'a, O: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Request<'a, O>, Unreadable> {
    let unreadable = |problem: String| Unreadable {
        uid: rescue_uid(bytes),
        problem,
        in_object: false,
    };
    let nodes = nodes(bytes);
    if nodes > MAX_NODES {
        return Err(unreadable(format!(
            "it has {nodes} objects and lists, more than {MAX_NODES}"
        )));
    }
    // Once for all strings; RFC 8259 (8.1) allows nothing else.
    let text = std::str::from_utf8(bytes)
        .map_err(|error| unreadable(format!("not UTF-8 after {} bytes", error.valid_up_to())))?;
    let review: Review<'a, O> = serde_json::from_str(text).map_err(|error| {
        let wrong = if error.is_data() {
            WrongType::find::<Review<'_, O>>(text)
        } else {
            None
        };
        match wrong.map(|wrong| {
            (
                wrong
                    .path()
                    .strip_prefix("request.object.")
                    .map(str::to_owned),
                wrong,
            )
        }) {
            // The author of the object knows nothing of the review around it.
            Some((Some(path), wrong)) => Unreadable {
                in_object: true,
                ..unreadable(wrong.with_path(|_| path).to_string())
            },
            Some((None, wrong)) => unreadable(wrong.to_string()),
            None => unreadable(place(&error)),
        }
    })?;
    if review.api_version.as_str() != API_VERSION || review.kind.as_str() != KIND {
        return Err(unreadable("another apiVersion or kind".to_owned()));
    }
    let request = review
        .request
        .ok_or_else(|| unreadable("it holds no request".to_owned()))?;
    if request.uid.as_str().is_empty() {
        return Err(unreadable("its request has no uid".to_owned()));
    }
    match request.check_lengths() {
        Ok(()) => Ok(request),
        Err(field) => Err(unreadable(format!(
            "its {field} is not one that an API server writes"
        ))),
    }
}

/// Category and place of a JSON error: its own text quotes what it met.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a field of another type",
        serde_json::error::Category::Eof => "cut off",
    };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

/// The uid of a review that cannot be read as a whole: whatever stands before the first error is looked at.
fn rescue_uid(bytes: &[u8]) -> Option<String> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // The error is known already; what was found before it is what counts.
    drop(
        Path {
            keys: &["request", "uid"],
            found: &mut found,
        }
        .deserialize(&mut deserializer),
    );
    found.filter(|uid| !uid.is_empty() && uid.len() <= MAX_UID)
}

/// Walks to the string behind a path of keys, and keeps it even if the document breaks later.
struct Path<'p> {
    keys: &'p [&'p str],
    found: &'p mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Path<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.keys.is_empty() {
            *self.found = Some(String::deserialize(deserializer)?);
            Ok(())
        } else {
            deserializer.deserialize_map(self)
        }
    }
}

impl<'de> Visitor<'de> for Path<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<CowStr<'de>>()? {
            match self.keys.split_first() {
                Some((first, rest)) if *first == key.as_str() => {
                    map.next_value_seed(Path {
                        keys: rest,
                        found: &mut *self.found,
                    })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injection::{PodView, WorkloadView};

    const HEAD: &str =
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1""#;

    #[test]
    fn a_review_is_read_with_what_matters() {
        let json = format!(
            r#"{HEAD},"resource":{{"group":"","version":"v1","resource":"pods"}},"namespace":"jobs","operation":"CREATE",
            "userInfo":{{"username":"alice","groups":["a"]}},"dryRun":true,"object":{{"metadata":{{"generateName":"p-"}}}},"oldObject":null}}}}"#
        );
        let request = decode::<PodView<'_>>(json.as_bytes()).unwrap();
        assert_eq!(request.uid.as_str(), "u-1");
        assert_eq!(request.namespace(), "jobs");
        assert_eq!(request.operation, Operation::Create);
        assert!(request.is_resource("", "pods"));
        assert_eq!(request.user_info.username.as_str(), "alice");
        assert_eq!(request.dry_run, Some(true));
        assert!(request.old_object.is_none());
        let object = request.object.unwrap();
        assert_eq!(
            object.metadata.unwrap().generate_name.unwrap().as_str(),
            "p-"
        );
    }

    #[rstest::rstest]
    #[case::not_json("<html>canary</html>".to_owned(), None)]
    #[case::empty(String::new(), None)]
    #[case::no_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_owned(), None)]
    #[case::null_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#.to_owned(), None)]
    #[case::empty_uid(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":""}}"#.to_owned(), None)]
    #[case::uid_of_another_type(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}"#.to_owned(), None)]
    #[case::cut_off_after_the_uid(format!(r#"{HEAD},"object":{{"spec":{{"containers":[{{"na"#), Some("u-1"))]
    #[case::a_field_of_another_type(format!(r#"{HEAD},"object":{{"metadata":{{"annotations":"canary"}}}}}}}}"#), Some("u-1"))]
    #[case::uid_behind_the_broken_object(r#"{"request":{"object":{"metadata":{"annotations":"canary"}},"uid":"u-1"}}"#.to_owned(), Some("u-1"))]
    #[case::another_version(format!("{HEAD}}}}}").replace("k8s.io/v1", "k8s.io/v1beta1"), Some("u-1"))]
    #[case::another_kind(format!("{HEAD}}}}}").replace("AdmissionReview", "Pod"), Some("u-1"))]
    #[case::an_array("[1,2]".to_owned(), None)]
    fn what_cannot_be_read_keeps_its_uid_and_quotes_nothing(
        #[case] json: String,
        #[case] uid: Option<&str>,
    ) {
        let error = decode::<PodView<'_>>(json.as_bytes()).unwrap_err();
        assert_eq!(error.uid.as_deref(), uid);
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[rstest::rstest]
    #[case::uid("uid", 128, None)]
    #[case::namespace("namespace", 63, Some("u-1"))]
    #[case::name("name", 253, Some("u-1"))]
    #[case::subresource("subResource", 63, Some("u-1"))]
    fn a_string_longer_than_an_api_servers_is_refused(
        #[case] field: &str,
        #[case] most: usize,
        #[case] uid: Option<&str>,
    ) {
        let json = |length: usize| {
            let text = "a".repeat(length);
            let fields = if field == "uid" {
                String::new()
            } else {
                r#""uid":"u-1","#.to_owned()
            };
            let head = HEAD.replace(r#""uid":"u-1""#, "");
            format!(r#"{head}{fields}"{field}":"{text}"}}}}"#)
        };
        assert!(decode::<PodView<'_>>(json(most).as_bytes()).is_ok());
        let error = decode::<PodView<'_>>(json(most + 1).as_bytes()).unwrap_err();
        assert_eq!(error.uid.as_deref(), uid);
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[rstest::rstest]
    #[case("../kube-system")]
    #[case("Jobs")]
    #[case("a.b")]
    fn a_namespace_that_is_none_is_refused(#[case] namespace: &str) {
        let json = format!(r#"{HEAD},"namespace":"{namespace}"}}}}"#);
        let error = decode::<PodView<'_>>(json.as_bytes()).unwrap_err();
        assert_eq!(
            error.problem,
            "its namespace is not one that an API server writes"
        );
    }

    #[test]
    fn a_field_of_another_type_is_named_with_its_container_and_variable() {
        let container = r#"{"name":"c","env":[{"name":"PORT","value":54327}]}"#;
        let json = |object: &str| format!(r#"{HEAD},"operation":"UPDATE",{object}}}}}"#);
        let pod = json(&format!(
            r#""object":{{"spec":{{"containers":[{container}]}}}}"#
        ));
        let error = decode::<PodView<'_>>(pod.as_bytes());
        let expected = r#"spec.containers[0].env[0].value (container "c", variable "PORT") is a number, and Kubernetes takes a string there; write it in quotes"#;
        assert_eq!(
            error.unwrap_err().to_string(),
            expected,
            "the sentence is for the object's author"
        );
        let rollout = format!(
            r#""oldObject":{{"spec":{{"template":{{"spec":{{"containers":[{container}]}}}}}}}}"#
        );
        let rollout = json(&rollout);
        let error = decode::<WorkloadView<'_>>(rollout.as_bytes()).unwrap_err();
        assert_eq!(error.uid.as_deref(), Some("u-1"));
        assert_eq!(
            error.problem,
            format!("request.oldObject.spec.template.{expected}")
        );
    }

    #[test]
    fn more_objects_than_any_review_has_are_refused_unread() {
        let json = |nodes: usize| {
            format!(
                r#"{HEAD},"object":{{"spec":{{"containers":[{{}}{}]}}}}}}}}"#,
                ",{}".repeat(nodes - 6)
            )
        };
        assert!(decode::<PodView<'_>>(json(MAX_NODES).as_bytes()).is_ok());
        let error = decode::<PodView<'_>>(json(MAX_NODES + 1).as_bytes())
            .err()
            .unwrap();
        assert_eq!(
            (error.uid.as_deref(), error.problem.contains("130001")),
            (Some("u-1"), true),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_utf_8_is_told_by_its_place() {
        let bytes = [HEAD.as_bytes(), b",\"object\":{\"status\":\"\xff\"}}}"].concat();
        let error = decode::<PodView<'_>>(&bytes).unwrap_err();
        assert_eq!(error.uid.as_deref(), Some("u-1"));
        assert_eq!(
            error.problem,
            format!("not UTF-8 after {} bytes", HEAD.len() + 21)
        );
    }
}
