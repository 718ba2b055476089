//! Decoding of an `AdmissionReview` (`admission.k8s.io/v1`) in one pass into a partial, borrowing view.
//!
//! A uid in the bytes is never lost: a response without it counts as a failed call, and under `failurePolicy: Ignore`
//! the API server would then admit the pod silently.

mod request;
mod size;
mod uid;

use std::fmt;

use serde::Deserialize;

pub use request::{AdmissionRequest, Operation, RequestUser, Resource, SourceView, UserExtra};
pub use size::decoded_bytes;

use injection::{CowStr, WrongType};
use request::none;
use size::{MAX_NODES, count_nodes};
use uid::recover_uid;

/// The only supported version; the webhook configuration registers no other.
pub const API_VERSION: &str = "admission.k8s.io/v1";

/// Kind of both the request and the response.
pub const KIND: &str = "AdmissionReview";

/// Bytes that are not a review. `Display` never quotes them, because they contain literal values of pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable {
    /// Uid of the request, if it could be found.
    pub uid: Option<String>,
    /// Problem and its position.
    pub problem: String,
    /// The problem is in the object under review, where its author can fix it.
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

/// `AdmissionReview` with a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Review<'a, O> {
    #[serde(borrow, default)]
    api_version: CowStr<'a>,
    #[serde(borrow, default)]
    kind: CowStr<'a>,
    #[serde(default = "none", borrow)]
    request: Option<AdmissionRequest<'a, O>>,
}

/// Decodes a review.
///
/// # Errors
/// [`Unreadable`], with the uid that could be recovered, for anything but an `AdmissionReview` of
/// `admission.k8s.io/v1` with a request that has a uid.
pub fn decode<'a, O: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<AdmissionRequest<'a, O>, Unreadable> {
    let unreadable = |problem: String| Unreadable {
        uid: recover_uid(bytes),
        problem,
        in_object: false,
    };
    let nodes = count_nodes(bytes);
    if nodes > MAX_NODES {
        return Err(unreadable(format!(
            "it has {nodes} objects and lists, more than {MAX_NODES}"
        )));
    }
    // Checked once for all strings; RFC 8259 (8.1) allows nothing else.
    let text = std::str::from_utf8(bytes)
        .map_err(|error| unreadable(format!("not UTF-8 after {} bytes", error.valid_up_to())))?;
    let review: Review<'a, O> = serde_json::from_str(text).map_err(|error| {
        let wrong = error
            .is_data()
            .then(|| WrongType::find::<Review<'_, O>>(text))
            .flatten();
        match wrong {
            Some(wrong) => wrong_type(wrong, unreadable),
            None => unreadable(position(&error)),
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

/// Error for a field of another type. The author of the object does not know the review around it, so a path into the
/// object starts there.
fn wrong_type(wrong: WrongType, unreadable: impl Fn(String) -> Unreadable) -> Unreadable {
    let path = wrong
        .path()
        .strip_prefix("request.object.")
        .map(str::to_owned);
    match path {
        Some(path) => Unreadable {
            in_object: true,
            ..unreadable(wrong.with_path(|_| path).to_string())
        },
        None => unreadable(wrong.to_string()),
    }
}

/// Category and position of a JSON error. Its own message is not used because it quotes the input.
fn position(error: &serde_json::Error) -> String {
    let category = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a field of another type",
        serde_json::error::Category::Eof => "cut off",
    };
    format!(
        "{category} at line {}, column {}",
        error.line(),
        error.column()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use injection::{PodView, WorkloadView};

    const HEAD: &str =
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1""#;

    #[test]
    fn review_is_decoded_with_all_fields_that_are_used() {
        let json = format!(
            r#"{HEAD},"resource":{{"group":"","version":"v1","resource":"pods"}},"namespace":"jobs","operation":"CREATE",
            "userInfo":{{"username":"alice","uid":"u-2","groups":["a"],"extra":{{"authentication.kubernetes.io/credential-id":["JTI=6f1c"],"more":["x"]}}}},"dryRun":true,"object":{{"metadata":{{"generateName":"p-"}}}},"oldObject":null}}}}"#
        );
        let request = decode::<PodView<'_>>(json.as_bytes()).unwrap();
        assert_eq!(request.uid.as_str(), "u-1");
        assert_eq!(request.namespace(), "jobs");
        assert_eq!(request.operation, Operation::Create);
        assert!(request.is_resource("", "pods"));
        assert_eq!(request.user_info.username.as_str(), "alice");
        assert_eq!(request.user_info.uid.as_str(), "u-2");
        assert_eq!(request.user_info.credential_id(), "JTI=6f1c");
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
    fn unreadable_review_keeps_its_uid_and_quotes_nothing(
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
    fn string_longer_than_an_api_servers_is_rejected(
        #[case] field: &str,
        #[case] max: usize,
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
        assert!(decode::<PodView<'_>>(json(max).as_bytes()).is_ok());
        let error = decode::<PodView<'_>>(json(max + 1).as_bytes()).unwrap_err();
        assert_eq!(error.uid.as_deref(), uid);
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[rstest::rstest]
    #[case("../kube-system")]
    #[case("Jobs")]
    #[case("a.b")]
    fn malformed_namespace_is_rejected(#[case] namespace: &str) {
        let json = format!(r#"{HEAD},"namespace":"{namespace}"}}}}"#);
        let error = decode::<PodView<'_>>(json.as_bytes()).unwrap_err();
        assert_eq!(
            error.problem,
            "its namespace is not one that an API server writes"
        );
    }

    #[test]
    fn field_of_another_type_is_named_with_its_container_and_variable() {
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
            "the sentence addresses the author of the object"
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
    fn review_with_too_many_objects_is_rejected_undecoded() {
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
    fn invalid_utf_8_is_reported_with_its_position() {
        let bytes = [HEAD.as_bytes(), b",\"object\":{\"status\":\"\xff\"}}}"].concat();
        let error = decode::<PodView<'_>>(&bytes).unwrap_err();
        assert_eq!(error.uid.as_deref(), Some("u-1"));
        assert_eq!(
            error.problem,
            format!("not UTF-8 after {} bytes", HEAD.len() + 21)
        );
    }
}
