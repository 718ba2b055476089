//! Entries of webhook configurations: those of this webhook, and whether two configurations send the same objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;

/// Whether entries are ours: their names are frozen.
pub fn is_ours(entries: &[MutatingWebhook]) -> bool {
    entries
        .iter()
        .any(|entry| shipped().iter().any(|shipped| shipped.name == entry.name))
}

/// Whether objects may be sent by both: two installations for different namespaces are as good as one.
pub fn overlap(one: &[MutatingWebhook], other: &[MutatingWebhook]) -> bool {
    match (only(one), only(other)) {
        (Some(one), Some(other)) => !one.is_disjoint(&other),
        (None, _) | (_, None) => true,
    }
}

/// Whether labels of namespaces or of objects may keep them apart: what one has and the other has not, or has
/// otherwise. Which objects carry which labels is not known here.
pub fn apart_by_labels(one: &[MutatingWebhook], other: &[MutatingWebhook]) -> bool {
    one.iter().any(|entry| {
        find(other, &entry.name).is_some_and(|other| {
            by_labels(entry) != by_labels(other) || entry.object_selector != other.object_selector
        })
    })
}

/// An entry's conditions on labels of namespaces, beside their names.
fn by_labels(entry: &MutatingWebhook) -> (BTreeMap<&str, &str>, BTreeSet<String>) {
    let selector = entry.namespace_selector.as_ref();
    let labels = selector
        .and_then(|selector| selector.match_labels.as_ref())
        .into_iter()
        .flatten();
    let expressions = selector
        .and_then(|selector| selector.match_expressions.as_ref())
        .into_iter()
        .flatten();
    let expressions = expressions.filter(|expression| expression.key != NAME_LABEL);
    (
        labels
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect(),
        expressions
            .map(|expression| format!("{expression:?}"))
            .collect(),
    )
}

/// The namespaces that entries are limited to by name; `None` when any is not.
fn only(entries: &[MutatingWebhook]) -> Option<BTreeSet<&str>> {
    let mut all = BTreeSet::new();
    for entry in entries {
        let expressions = entry
            .namespace_selector
            .as_ref()?
            .match_expressions
            .as_ref()?;
        let names = expressions
            .iter()
            .find(|expression| expression.key == NAME_LABEL && expression.operator == "In")?;
        all.extend(names.values.iter().flatten().map(String::as_str));
    }
    Some(all)
}

/// The entries as they are shipped.
pub fn shipped() -> &'static [MutatingWebhook] {
    static SHIPPED: OnceLock<Vec<MutatingWebhook>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        let text = include_str!("../../manifests/webhook/mutatingwebhookconfiguration.yaml");
        let configuration: Option<serde_json::Value> = serde_saphyr::from_str(text).ok();
        let entries = configuration.and_then(|mut configuration| {
            serde_json::from_value(configuration.get_mut("webhooks")?.take()).ok()
        });
        entries.unwrap_or_default()
    })
}

pub fn find<'e>(entries: &'e [MutatingWebhook], name: &str) -> Option<&'e MutatingWebhook> {
    entries.iter().find(|entry| entry.name == name)
}

/// The label by which every namespace has its own name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
