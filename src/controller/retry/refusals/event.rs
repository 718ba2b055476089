//! Events of reason `FailedCreate`: lines of a watch, and the owner of the refused pod.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::owner::{Owner, OwnerKind};

/// Entries of the webhook configuration that refuse pods, as error messages of the API server quote them.
const ENTRIES: [&str; 2] = [
    r#"webhook "pods.secrets.floe.dev""#,
    r#"webhook "defaults.pods.secrets.floe.dev""#,
];

/// Change that one line of a watch reports.
pub(super) enum Change {
    Event {
        owner: Option<Owner>,
        resource_version: Option<String>,
    },
    Error,
}

#[derive(Deserialize)]
struct WatchLine<'a> {
    #[serde(rename = "type")]
    change: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct VersionedObject {
    metadata: VersionMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionMetadata {
    resource_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailedCreateEvent {
    metadata: EventMetadata,
    reason: String,
    message: String,
    involved_object: EventObject,
    #[serde(default)]
    source: EventSource,
    #[serde(default)]
    reporting_component: String,
}

#[derive(Deserialize)]
struct EventMetadata {
    namespace: String,
}

#[derive(Deserialize)]
struct EventObject {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Default, Deserialize)]
struct EventSource {
    #[serde(default)]
    component: String,
}

/// Parses one line of a watch.
pub(super) fn parse_line(line: &[u8]) -> Change {
    let Ok(WatchLine { change, object }) = serde_json::from_slice::<WatchLine<'_>>(line) else {
        return Change::Error;
    };
    if change == "ERROR" {
        return Change::Error;
    }
    let resource_version = serde_json::from_str::<VersionedObject>(object.get())
        .ok()
        .map(|object| object.metadata.resource_version);
    let owner = if matches!(change, "ADDED" | "MODIFIED") {
        refused_owner(object.get().as_bytes())
    } else {
        None
    };
    Change::Event {
        owner,
        resource_version,
    }
}

/// Returns the owner whose pod was refused by the webhook, according to an event.
///
/// Anybody with the right to create events may write one, and with `eventTime` it may be about an object in another
/// namespace: only events in the owner's own namespace count. The event's source is a hint against forged events, not a
/// proof.
pub(super) fn refused_owner(event: &[u8]) -> Option<Owner> {
    let FailedCreateEvent {
        metadata,
        reason,
        message,
        involved_object,
        source,
        reporting_component,
    } = serde_json::from_slice(event).ok()?;
    if reason != "FailedCreate" || !ENTRIES.iter().any(|entry| message.contains(entry)) {
        return None;
    }
    let EventObject {
        kind,
        namespace,
        name,
        uid,
    } = involved_object;
    let kind = OwnerKind::parse(&kind)?;
    let is_from_controller = [source.component, reporting_component]
        .iter()
        .any(|component| component == kind.controller());
    let owner = Owner {
        uid,
        kind,
        namespace,
        name,
    };
    (is_from_controller && metadata.namespace == owner.namespace && owner.has_valid_names())
        .then_some(owner)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in super::super) fn event(kind: &str, message: &str) -> Value {
        let component =
            OwnerKind::parse(kind).map_or("deployment-controller", OwnerKind::controller);
        json!({
            "reason": "FailedCreate", "message": message, "metadata": {"namespace": "jobs", "resourceVersion": "7"},
            "involvedObject": {"kind": kind, "namespace": "jobs", "name": "load", "uid": "u"},
            "source": {"component": component}, "eventTime": null, "reportingComponent": component,
        })
    }

    pub(in super::super) const REFUSAL: &str = "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: secret \"db\" not found";

    #[rstest::rstest]
    #[case("Job", REFUSAL, true)]
    #[case(
        "ReplicaSet",
        "(combined from similar events): Error creating: admission webhook \"defaults.pods.secrets.floe.dev\" denied the request: x",
        true
    )]
    #[case("Deployment", REFUSAL, false)]
    #[case(
        "Job",
        "Error creating: admission webhook \"pods.example.org\" denied the request",
        false
    )]
    #[case(
        "Job",
        "Error creating: admission webhook \"xpods.secrets.floe.dev\" denied the request",
        false
    )]
    #[case("Job", "pods \"a\" is forbidden: exceeded quota", false)]
    fn only_refusals_of_this_webhook_count(
        #[case] kind: &str,
        #[case] message: &str,
        #[case] counts: bool,
    ) {
        assert_eq!(
            refused_owner(event(kind, message).to_string().as_bytes()).is_some(),
            counts
        );
    }

    #[rstest::rstest]
    #[case("/source/component", "kubelet", true)]
    #[case("/reportingComponent", "", true)]
    #[case("/metadata/namespace", "elsewhere", false)]
    #[case("/involvedObject/namespace", "elsewhere", false)]
    #[case("/involvedObject/name", "../secrets/x", false)]
    fn event_counts_only_from_a_controller_and_in_the_owners_namespace(
        #[case] field: &str,
        #[case] value: &str,
        #[case] counts: bool,
    ) {
        let mut event = event("Job", REFUSAL);
        // With `eventTime`, the API server accepts an event about an object in any namespace.
        event["eventTime"] = "2026-01-01T00:00:00.000000Z".into();
        *event.pointer_mut(field).unwrap() = value.into();
        assert_eq!(
            refused_owner(event.to_string().as_bytes()).is_some(),
            counts
        );
    }

    #[test]
    fn event_of_another_component_does_not_count() {
        for component in ["", "queue", "replicaset-controller"] {
            let mut event = event("Job", REFUSAL);
            event["source"]["component"] = component.into();
            event["reportingComponent"] = component.into();
            assert_eq!(
                refused_owner(event.to_string().as_bytes()),
                None,
                "{component:?}"
            );
        }
    }

    #[test]
    fn repeated_events_and_bookmarks_advance_the_version() {
        for (change, has_owner) in [("ADDED", true), ("MODIFIED", true), ("DELETED", false)] {
            let line = json!({"type": change, "object": event("Job", REFUSAL)}).to_string();
            let Change::Event {
                owner,
                resource_version,
            } = parse_line(line.as_bytes())
            else {
                panic!("{change} is not an event")
            };
            assert_eq!(
                (owner.is_some(), resource_version.as_deref()),
                (has_owner, Some("7"))
            );
        }
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "9"}}});
        let Change::Event {
            owner: None,
            resource_version,
        } = parse_line(bookmark.to_string().as_bytes())
        else {
            panic!("a bookmark is not an event")
        };
        assert_eq!(resource_version.as_deref(), Some("9"));
        assert!(matches!(
            parse_line(br#"{"type":"ERROR","object":{"code":410}}"#),
            Change::Error
        ));
    }
}
