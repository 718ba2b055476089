//! Fields of a stored record by which it is found out who asked for its secrets.

use jiff::Timestamp;
use serde_json::Value;

use super::owners::{OwnerReference, OwningKind};
use crate::audit::asked_by::Requester;
use crate::store::{LinePosition, StoredEvent, UnattributedEvent};

/// Name of a secret in a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskedSecret {
    pub backend: String,
    pub namespace: String,
    pub name: String,
}

/// Object whose annotation asks for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskingOrigin {
    /// The object of the record, or its owner's template.
    Object,
    ServiceAccount,
    Namespace,
}

/// Record of an admission that asks for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskingRecord {
    pub position: LinePosition,
    pub time: Timestamp,
    /// Id of the record. Its parts share it.
    pub id: String,
    pub requester: Requester,
    /// Whether the object was created, and not changed.
    pub is_create: bool,
    pub(super) namespace: String,
    pub(super) owner: Option<OwnerReference>,
    pub(super) service_account: String,
    /// Secrets in the order of the record's targets.
    pub(super) targets: Vec<(AskedSecret, AskingOrigin)>,
}

impl AskingRecord {
    /// Record of an unattributed event.
    pub(super) fn of(event: &UnattributedEvent) -> Self {
        Self::read(event.position, &event.line)
    }

    pub(super) fn of_stored(event: &StoredEvent) -> Self {
        Self::read(event.position, &event.line)
    }

    /// Reads a line. Fields that it does not have, or that have another form, are empty.
    fn read(position: LinePosition, line: &str) -> Self {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let object = field(&record, "object");
        let text_of = |name| text(field(&record, "actor"), name);
        let username = [text_of("username"), text_of("subject"), text_of("uid")];
        let username = username.into_iter().find(|name| !name.is_empty());
        let targets = field(&record, "targets").as_array();
        Self {
            position,
            time: text(&record, "time").parse().unwrap_or_default(),
            id: text(&record, "id"),
            requester: Requester {
                username: username.unwrap_or_default(),
                uid: text_of("uid"),
            },
            is_create: text(field(&record, "request"), "method") == "CREATE",
            namespace: text(object, "namespace"),
            owner: Some(field(object, "owner"))
                .filter(|owner| owner.is_object())
                .map(owner),
            service_account: text(object, "service_account"),
            targets: targets.into_iter().flatten().map(target).collect(),
        }
    }

    /// Whether the record names a secret.
    pub(super) fn names(&self, secret: &AskedSecret) -> bool {
        self.targets.iter().any(|(named, _)| named == secret)
    }
}

fn owner(owner: &Value) -> OwnerReference {
    OwnerReference {
        // The record has no group. Objects of another group do not have the uid.
        kind: OwningKind::of_kind(&text(owner, "kind")),
        name: text(owner, "name"),
        uid: text(owner, "uid"),
    }
}

fn target(target: &Value) -> (AskedSecret, AskingOrigin) {
    let secret = AskedSecret {
        backend: text(target, "backend"),
        namespace: text(target, "namespace"),
        name: text(target, "name"),
    };
    let origin = match text(target, "origin").as_str() {
        "serviceaccount" => AskingOrigin::ServiceAccount,
        "namespace" => AskingOrigin::Namespace,
        _ => AskingOrigin::Object,
    };
    (secret, origin)
}

fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text(value: &Value, name: &str) -> String {
    field(value, name).as_str().unwrap_or_default().to_owned()
}
