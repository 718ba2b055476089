//! Equality of refusals.

use crate::audit::digest::Digest;
use crate::audit::record::Record;

/// Digest of the namespace, the owner or the requester, the reason, and the secrets.
pub(super) fn refusal_key(record: &Record) -> Digest {
    let owner = record
        .object
        .as_ref()
        .and_then(|object| object.owner.as_ref());
    let requester = record.actor.as_ref().map(|actor| actor.username.as_str());
    let mut text = String::with_capacity(512);
    let mut push = |part: &str| {
        text.push_str(part);
        // Names of Kubernetes and texts of records have no control characters.
        text.push('\0');
    };
    push(record.action.as_str());
    let namespace = record
        .object
        .as_ref()
        .map(|object| object.namespace.as_str());
    push(namespace.unwrap_or_default());
    if let Some(owner) = owner {
        push("owner");
        push(owner.kind.as_str());
        push(owner.name.as_str());
        push(owner.uid.as_str());
    } else {
        push("requester");
        push(requester.unwrap_or_default());
    }
    push(record.reason);
    for target in &record.targets {
        push(target.backend.as_str());
        push(target.namespace.as_str());
        push(target.name.as_str());
        push(target.origin);
    }
    Digest::of(text.as_bytes())
}
