//! Reasons for which a live pod lacks entries that its annotations ask for. Pure.

use injection::{AnnotationLayers, AnnotationOwner, ENABLED_LABEL, INJECTED, PREFIX, Record};
use jiff::Timestamp;

use super::head::ObjectHead;
use super::webhook_entry::EntryLookup;
use crate::consumers::ManagedFields;

/// Reason for the missing entries of a pod, as far as it can be determined, and what to do. `written` are the managed
/// fields of the objects that have its defaults.
pub(super) fn missing_reason(
    head: &ObjectHead<'_>,
    layers: &AnnotationLayers<'_>,
    entry: &EntryLookup,
    namespace: &str,
    written: &[(AnnotationOwner, ManagedFields)],
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
    // A pod that asks for secrets by itself and has none was not injected at all.
    if !was_injected && has_own(layers) {
        return injection_reason(was_injected, entry);
    }
    if let Some(reason) = default_written_later(head, layers, written) {
        return reason;
    }
    let reason = injection_reason(was_injected, entry);
    match undated_default(layers, written) {
        Some(default) => format!(
            "{default} may be newer than the pod: no managed field has its time. If it is not, {reason}"
        ),
        None => reason,
    }
}

/// Reason for a pod that was created when its annotations and the configuration existed.
fn injection_reason(was_injected: bool, entry: &EntryLookup) -> String {
    if was_injected {
        return format!(
            "the pod has the record {INJECTED}, so the webhook injected it: another webhook added or replaced the container later, or the pod was copied from another one. Name the container in {PREFIX}containers, or delete the pod"
        );
    }
    if matches!(entry, EntryLookup::Unknown(_)) {
        return "the pod has no record of an injection: the webhook was away when it was created, or the pod was not sent to it, because no entry of its configuration selected it or the configuration is newer. The configuration was not checked. Delete the pod, so that its controller creates it again; if the new one lacks its secrets too, an administrator finds the reason by doctor".to_owned();
    }
    "the pod was created while the webhook was away: it has no record of an injection. Delete the pod, so that its controller creates it again".to_owned()
}

/// Whether annotations of the pod or of its workload decide.
fn has_own(layers: &AnnotationLayers<'_>) -> bool {
    layers.deciding().iter().any(|deciding| {
        matches!(
            deciding.site.origin,
            AnnotationOwner::Object | AnnotationOwner::Workload
        )
    })
}

/// Default that decides and that no manager is known to have written. The API server keeps no managed fields of an
/// object that was created without any, such as the service account `default`, unless somebody applies it.
fn undated_default(
    layers: &AnnotationLayers<'_>,
    written: &[(AnnotationOwner, ManagedFields)],
) -> Option<String> {
    let mut deciding = layers.deciding().into_iter();
    let undated = deciding.find(|deciding| {
        let field = format!("f:{}", deciding.site.annotation());
        let path = ["f:metadata", "f:annotations", field.as_str()];
        written.iter().any(|(owner, fields)| {
            *owner == deciding.site.origin && fields.owning(&path).next().is_none()
        })
    })?;
    Some(undated.site.to_string())
}

/// Sentence about the label of the namespace, or a default that decides, if it was written after the pod's creation.
/// Its manager may have changed another field at that time.
fn default_written_later(
    head: &ObjectHead<'_>,
    layers: &AnnotationLayers<'_>,
    written: &[(AnnotationOwner, ManagedFields)],
) -> Option<String> {
    let created = head.creation_timestamp?;
    let fields_of = |owner: &AnnotationOwner| {
        let mut owners = written.iter();
        owners
            .find(|(known, _)| known == owner)
            .map(|(_, fields)| fields)
    };
    let defaults = layers.deciding().into_iter().find_map(|deciding| {
        let fields = fields_of(&deciding.site.origin)?;
        let time = later_time(
            fields,
            "f:annotations",
            &deciding.site.annotation(),
            created,
        )?;
        Some((deciding.site.to_string(), time))
    });
    let label = || {
        written.iter().find_map(|(owner, fields)| {
            let AnnotationOwner::Namespace(name) = owner else {
                return None;
            };
            let time = later_time(fields, "f:labels", ENABLED_LABEL.0, created)?;
            Some((
                format!("label {} of namespace \"{name}\"", ENABLED_LABEL.0),
                time,
            ))
        })
    };
    let (what, time) = defaults.or_else(label)?;
    Some(format!(
        "{what} was last written at {time}, after the pod had been created at {created}: only newer pods get the defaults. Delete the pod, so that its controller creates it again"
    ))
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
        .find_map(|name| {
            let time = later_time(&head.managed_fields, "f:annotations", &name, created)?;
            Some((name, time))
        })
}

/// Time at which an annotation or label was written, if every manager that owns it did so after the creation of the
/// pod, and none of them created the object.
fn later_time(
    fields: &ManagedFields,
    map: &str,
    name: &str,
    created: Timestamp,
) -> Option<Timestamp> {
    let field = format!("f:{name}");
    let path = ["f:metadata", map, field.as_str()];
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
        let head = ObjectHead::parse(text.as_bytes());
        missing_reason(&head, &layers, entry, "jobs", &[])
    }

    /// Reason for a pod with defaults of its namespace, which a manager wrote at a time.
    fn reason_by_default(pod: &Value, fields: &Value, time: &str) -> String {
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": CREATED, "annotations": pod},
            "spec": {"containers": [{"name": "c"}]}});
        let text = pod.to_string();
        let view: PodView<'_> = serde_json::from_str(&text).unwrap();
        let default = Annotations::from_pairs([("secrets.floe.dev/env-from", "db")]);
        let layers = AnnotationLayers {
            object: view.annotations(),
            namespace: Some(("jobs", &default)),
            ..AnnotationLayers::default()
        };
        let entry = json!([{"time": time, "fieldsV1": {"f:metadata": fields}}]);
        let written = [(
            AnnotationOwner::Namespace("jobs".to_owned()),
            serde_json::from_value(entry).unwrap(),
        )];
        let head = ObjectHead::parse(text.as_bytes());
        let handled = handled("2026-11-01T00:00:00Z");
        missing_reason(&head, &layers, &handled, "jobs", &written)
    }

    fn handled(created: &str) -> EntryLookup {
        EntryLookup::Handled {
            entry: "pods.secrets.floe.dev",
            configuration: "zz".to_owned(),
            created: Some(created.parse().unwrap()),
            fails_closed: true,
        }
    }

    #[rstest::rstest]
    #[case::annotation(json!({"f:annotations": {"f:secrets.floe.dev/env-from": {}}}), "annotation secrets.floe.dev/env-from of namespace")]
    #[case::label(json!({"f:labels": {"f:secrets.floe.dev/inject": {}}}), "label secrets.floe.dev/inject of namespace")]
    fn default_from_after_the_creation_is_a_reason(#[case] fields: Value, #[case] expected: &str) {
        let later = "2026-11-28T10:00:05Z";
        let found = reason_by_default(&json!({}), &fields, later);
        let expected = format!("{expected} \"jobs\" was last written at {later}");
        assert!(found.starts_with(&expected), "{found}");
        let away = "the pod was created while the webhook was away";
        let before = reason_by_default(&json!({}), &fields, CREATED);
        let is_dated = fields["f:labels"].is_null();
        assert!(before.contains(away), "{before}");
        assert_eq!(before.starts_with(away), is_dated, "{before}");
        assert_eq!(
            before.contains("may be newer than the pod"),
            !is_dated,
            "{before}"
        );
        // The pod would lack only the default if the webhook had not been away.
        let own = reason_by_default(&json!({"secrets.floe.dev/refs": "db/k"}), &fields, later);
        assert!(own.starts_with(away), "{own}");
    }

    #[test]
    fn reason_names_both_causes_without_the_configuration() {
        let requesting = json!({"secrets.floe.dev/env-from": "db"});
        let unknown = EntryLookup::Unknown("forbidden".to_owned());
        let both = reason(&requesting, &json!([]), &unknown);
        assert!(
            both.contains("the webhook was away") && both.contains("was not sent to it"),
            "{both}"
        );
    }

    #[test]
    fn reason_depends_on_entry_times_and_record() {
        let requesting = json!({"secrets.floe.dev/env-from": "db"});
        let creator = json!([{"time": CREATED, "fieldsV1": {"f:spec": {"f:containers": {}},
            "f:metadata": {"f:annotations": {"f:secrets.floe.dev/env-from": {}}}}}]);
        let before = handled("2026-11-01T00:00:00Z");
        let away = reason(&requesting, &creator, &before);
        assert!(
            away.starts_with("the pod was created while the webhook was away"),
            "{away}"
        );
        let later = reason(&requesting, &creator, &handled("2026-11-28T11:00:00Z"));
        assert!(
            later.contains("before MutatingWebhookConfiguration \"zz\""),
            "{later}"
        );
        let none = reason(&requesting, &creator, &EntryLookup::NotInstalled);
        assert!(
            none.starts_with("no MutatingWebhookConfiguration"),
            "{none}"
        );
        let annotated = json!([{"time": "2026-11-28T10:00:05Z",
            "fieldsV1": {"f:metadata": {"f:annotations": {"f:secrets.floe.dev/env-from": {}}}}}]);
        let added = reason(&requesting, &annotated, &before);
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
