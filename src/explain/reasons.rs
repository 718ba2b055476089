//! Reasons for which a live pod lacks entries that its annotations ask for. Pure.

use injection::{AnnotationLayers, AnnotationOwner, INJECTED, PREFIX, Record};
use jiff::Timestamp;

use super::head::ObjectHead;
use super::webhook_entry::EntryLookup;
use crate::consumers::ManagedFields;

/// Reason for the missing entries of a pod, as far as it can be determined, and what to do.
pub(super) fn missing_reason(
    head: &ObjectHead<'_>,
    layers: &AnnotationLayers<'_>,
    entry: &EntryLookup,
    namespace: &str,
) -> String {
    if entry.is_not_sent() {
        return entry.sentence(namespace).unwrap_or_default();
    }
    if let Some((name, time)) = added_later(head, layers) {
        return format!(
            "annotation {name} was added to the pod at {time}, after the pod had been created; only a new pod gets what it asks for"
        );
    }
    if let (
        EntryLookup::Handled {
            created: Some(configured),
            configuration,
            ..
        },
        Some(created),
    ) = (entry, head.creation_timestamp)
        && created < *configured
    {
        return format!(
            "the pod was created at {created}, before MutatingWebhookConfiguration \"{configuration}\" ({configured}); delete the pod, so that its controller creates it again"
        );
    }
    let record = layers
        .object
        .and_then(|annotations| annotations.get("injected"));
    let was_injected = record
        .and_then(Record::read)
        .is_some_and(|record| !record.is_empty());
    if was_injected {
        return format!(
            "the pod has the record {INJECTED}, so the webhook injected it: another webhook added or replaced the container later, or the pod was copied from another one. Name the container in {PREFIX}containers, or delete the pod"
        );
    }
    "the pod was created while the webhook was away: it has no record of an injection. Delete the pod, so that its controller creates it again".to_owned()
}

/// Annotation of the pod itself that another manager than the pod's creator added, and the time of that.
fn added_later(
    head: &ObjectHead<'_>,
    layers: &AnnotationLayers<'_>,
) -> Option<(String, Timestamp)> {
    let created = head.creation_timestamp?;
    let own = layers
        .deciding()
        .into_iter()
        .filter(|deciding| deciding.site.origin == AnnotationOwner::Object);
    own.map(|deciding| deciding.site.annotation())
        .find_map(|name| later_time(&head.managed_fields, &name, created).map(|time| (name, time)))
}

/// Time at which an annotation was written, if every manager that owns it did so after the creation, and none of them
/// created the pod.
fn later_time(fields: &ManagedFields, annotation: &str, created: Timestamp) -> Option<Timestamp> {
    let field = format!("f:{annotation}");
    let path = ["f:metadata", "f:annotations", field.as_str()];
    let mut times = Vec::new();
    for entry in fields.owning(&path) {
        let is_creator = !entry.names_below(&["f:spec"]).is_empty();
        let time = entry.time.filter(|time| !is_creator && *time > created)?;
        times.push(time);
    }
    times.into_iter().min()
}

#[cfg(test)]
mod tests {
    use injection::{Annotations, PodView};
    use serde_json::{Value, json};

    use super::*;

    const CREATED: &str = "2026-11-28T10:00:00Z";

    fn reason(annotations: &Value, managed_fields: &Value, entry: &EntryLookup) -> String {
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": CREATED, "annotations": annotations,
            "managedFields": managed_fields}, "spec": {"containers": [{"name": "c"}]}});
        let text = pod.to_string();
        let view: PodView<'_> = serde_json::from_str(&text).unwrap();
        let object: Option<&Annotations<'_>> = view.annotations();
        let layers = AnnotationLayers {
            object,
            ..AnnotationLayers::default()
        };
        missing_reason(&ObjectHead::parse(text.as_bytes()), &layers, entry, "jobs")
    }

    fn handled(created: &str) -> EntryLookup {
        EntryLookup::Handled {
            entry: "pods.secrets.floe.dev",
            configuration: "zz".to_owned(),
            created: Some(created.parse().unwrap()),
            fails_closed: true,
        }
    }

    #[test]
    fn reason_depends_on_entry_times_and_record() {
        let asks = json!({"secrets.floe.dev/env-from": "db"});
        let creator = json!([{"time": CREATED, "fieldsV1": {"f:spec": {"f:containers": {}},
            "f:metadata": {"f:annotations": {"f:secrets.floe.dev/env-from": {}}}}}]);
        let before = handled("2026-11-01T00:00:00Z");
        let away = reason(&asks, &creator, &before);
        assert!(
            away.starts_with("the pod was created while the webhook was away"),
            "{away}"
        );
        let later = reason(&asks, &creator, &handled("2026-11-28T11:00:00Z"));
        assert!(
            later.contains("before MutatingWebhookConfiguration \"zz\""),
            "{later}"
        );
        let none = reason(&asks, &creator, &EntryLookup::NotInstalled);
        assert!(
            none.starts_with("no MutatingWebhookConfiguration"),
            "{none}"
        );
        let annotated = json!([{"time": "2026-11-28T10:00:05Z",
            "fieldsV1": {"f:metadata": {"f:annotations": {"f:secrets.floe.dev/env-from": {}}}}}]);
        let added = reason(&asks, &annotated, &before);
        assert!(
            added.contains("was added to the pod at 2026-11-28T10:00:05Z"),
            "{added}"
        );
        let recorded = json!({"secrets.floe.dev/env-from": "db",
            "secrets.floe.dev/injected": r#"{"containers":{"c":{"envFrom":["db"]}}}"#});
        let replaced = reason(&recorded, &creator, &before);
        assert!(
            replaced.contains("another webhook added or replaced"),
            "{replaced}"
        );
    }
}
