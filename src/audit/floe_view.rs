//! Flat events as floe's `AuditEvent` has them, one for each secret of a stored record.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::text::Text;

/// Event with the fields of floe's schema. A missing field has no value in the record either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FloeEvent {
    pub metadata: FloeMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `get`, `set`, `list` or `delete`. A pod that gets a reference to a secret is a `get`.
    pub operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_type: Option<String>,
    /// Asker of the secret, if that is known; the requester of the record otherwise.
    pub requester_id: Text<256>,
    /// `success`, `denied` or `error`.
    pub result: &'static str,
    /// Namespace and name, with a slash.
    pub secret_path: Text<1024>,
    /// Address that sent the request: that of the API server for an admission, as `metadata.source_kind` states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FloeMetadata {
    /// Requester of the record, if somebody else asked for the secret: a controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial_reason: Option<String>,
    /// Reason of an error; never a backend's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Id of the record.
    pub event_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_kind: Option<String>,
}

/// Reason why a line has no flat events.
#[derive(Debug, Error)]
#[error("the line is not a record of the audit trail: pass a line as it was written")]
pub struct NotARecord(#[source] serde_json::Error);

/// Fields of a stored record, of this version or a later one.
#[derive(Deserialize)]
struct StoredFields {
    action: String,
    #[serde(default)]
    actor: StoredActor,
    class: String,
    id: String,
    outcome: String,
    #[serde(default)]
    phase: String,
    reason: Option<String>,
    #[serde(default)]
    source: StoredSource,
    #[serde(default)]
    targets: Vec<StoredTarget>,
    time: String,
    trace_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredActor {
    subject: String,
    uid: String,
    username: String,
}

#[derive(Default, Deserialize)]
struct StoredSource {
    ip: Option<String>,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct StoredTarget {
    backend: Option<String>,
    name: String,
    namespace: Option<String>,
}

/// Flat events of a stored line: none for records that are not about the use of a secret, and none for an intent, whose
/// completion has them. `askers` are the names of those who asked for the secrets, in the order of the targets.
///
/// # Errors
///
/// The line is not a record.
pub fn floe_events(line: &str, askers: &[Option<String>]) -> Result<Vec<FloeEvent>, NotARecord> {
    let record: StoredFields = serde_json::from_str(line).map_err(NotARecord)?;
    let Some(operation) = operation(&record).filter(|_| record.phase != "intent") else {
        return Ok(Vec::new());
    };
    let result = match record.outcome.as_str() {
        "success" => "success",
        "denied" => "denied",
        _ => "error",
    };
    let actor = requester(&record.actor);
    let event = |(index, target): (usize, &StoredTarget)| {
        let asker = askers.get(index).and_then(Option::as_deref);
        let requester_id = asker.unwrap_or(actor);
        floe_event(&record, operation, result, requester_id, target)
    };
    Ok(record.targets.iter().enumerate().map(event).collect())
}

fn floe_event(
    record: &StoredFields,
    operation: &str,
    result: &'static str,
    requester_id: &str,
    target: &StoredTarget,
) -> FloeEvent {
    let reason_of = |of: &str| record.reason.clone().filter(|_| result == of);
    let actor = requester(&record.actor);
    FloeEvent {
        metadata: FloeMetadata {
            actor: (requester_id != actor).then(|| actor.to_owned()),
            denial_reason: reason_of("denied"),
            error: reason_of("error"),
            event_id: record.id.clone(),
            source_kind: record.source.kind.clone(),
        },
        namespace: target.namespace.clone(),
        operation: operation.to_owned(),
        plugin_type: target.backend.clone(),
        requester_id: Text::new(requester_id),
        result,
        secret_path: match &target.namespace {
            Some(namespace) => Text::new(&format!("{namespace}/{}", target.name)),
            None => Text::new(&target.name),
        },
        source_ip: record.source.ip.clone(),
        timestamp: record.time.clone(),
        trace_id: record.trace_id.clone(),
    }
}

fn operation(record: &StoredFields) -> Option<&str> {
    let (_, verb) = record.action.rsplit_once('.')?;
    match record.class.as_str() {
        "injection" => Some("get"),
        "data" if matches!(verb, "get" | "set" | "list" | "delete") => Some(verb),
        _ => None,
    }
}

/// Name of the requester, or else an id. floe wants at least one character.
fn requester(actor: &StoredActor) -> &str {
    let ids = [&actor.username, &actor.subject, &actor.uid];
    let found = ids.into_iter().find(|id| !id.is_empty());
    found.map_or("unknown", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::record::{Actor, Class, Record, RecordOutcome};
    use crate::audit::test_support::{admission, emitter, id};
    use serde_json::json;

    fn events(record: Record) -> Vec<FloeEvent> {
        floe_events(&Chain::new(id("a")).append(record).json, &[]).unwrap()
    }

    #[test]
    fn view_has_an_event_for_each_secret() {
        let events = events(admission("db", 2));
        let written = serde_json::to_value(&events[1]).unwrap();
        let expected = json!({
            "metadata": {
                "event_id": "019acb1e-7d30-7000-8000-000000000001",
                "source_kind": "apiserver",
            },
            "namespace": "jobs",
            "operation": "get",
            "plugin_type": "kubernetes",
            "requester_id": "system:serviceaccount:kube-system:replicaset-controller",
            "result": "success",
            "secret_path": "jobs/db-1",
            "source_ip": "10.0.0.2",
            "timestamp": "2026-11-28T12:00:00.250000000Z",
        });
        assert_eq!((events.len(), written), (2, expected));
    }

    #[test]
    fn view_names_who_asked() {
        let line = Chain::new(id("a")).append(admission("db", 3)).json;
        let controller = "system:serviceaccount:kube-system:replicaset-controller";
        let askers = [Some("alice".to_owned()), Some(controller.to_owned()), None];
        let events = floe_events(&line, &askers).unwrap();
        let named = |event: &FloeEvent| {
            let actor = event.metadata.actor.clone().unwrap_or_default();
            (event.requester_id.as_str().to_owned(), actor)
        };
        let expected = [("alice", controller), (controller, ""), (controller, "")];
        let expected = expected.map(|(name, actor)| (name.to_owned(), actor.to_owned()));
        assert_eq!(events.iter().map(named).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn view_has_the_reason_of_a_refusal() {
        let refused = |outcome| Record {
            outcome,
            reason: "not_found",
            ..admission("db", 1)
        };
        let denied = events(refused(RecordOutcome::Denied)).remove(0);
        assert_eq!(denied.result, "denied");
        assert_eq!(denied.metadata.denial_reason.as_deref(), Some("not_found"));
        let error = events(refused(RecordOutcome::Failure)).remove(0);
        assert_eq!(
            (error.result, error.metadata.error.as_deref()),
            ("error", Some("not_found"))
        );
    }

    #[test]
    fn view_has_only_uses_of_secrets() {
        assert!(events(emitter().start(None)).is_empty());
        let policy = Record {
            class: Class::Policy,
            ..admission("db", 1)
        };
        assert!(events(policy).is_empty());
        assert!(floe_events("{}", &[]).is_err());
    }

    #[test]
    fn view_names_somebody() {
        let record = Record {
            actor: Some(Actor::default()),
            ..admission("db", 1)
        };
        assert_eq!(events(record)[0].requester_id.as_str(), "unknown");
    }
}
