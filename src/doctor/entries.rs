//! Entries of webhook configurations: the ones of this webhook, and whether two configurations match the same objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use kube::core::{Selector, SelectorExt as _};

/// Label with a namespace's own name, which every namespace has.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Returns the entries of the shipped configuration.
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

/// Whether one of the entries is an entry of this webhook. The entries' names never change.
pub fn has_shipped_entry(entries: &[MutatingWebhook]) -> bool {
    entries
        .iter()
        .any(|entry| find(shipped(), &entry.name).is_some())
}

/// Whether both may match the same object. Two installations for different namespaces do not disturb each other.
pub fn overlap(one: &[MutatingWebhook], other: &[MutatingWebhook]) -> bool {
    match (named_namespaces(one), named_namespaces(other)) {
        (Some(one), Some(other)) => !one.is_disjoint(&other),
        (None, _) | (_, None) => true,
    }
}

/// Whether conditions on labels of namespaces or of objects differ, so that both may match different objects. Objects
/// themselves are not read.
pub fn apart_by_labels(one: &[MutatingWebhook], other: &[MutatingWebhook]) -> bool {
    one.iter().any(|entry| {
        find(other, &entry.name).is_some_and(|other| {
            label_conditions(entry) != label_conditions(other)
                || entry.object_selector != other.object_selector
        })
    })
}

/// Returns the bundle of an entry, or `None` if it is absent or empty.
pub fn bundle_pem(entry: &MutatingWebhook) -> Option<&[u8]> {
    entry
        .client_config
        .ca_bundle
        .as_ref()
        .map(|bytes| bytes.0.as_slice())
        .filter(|pem| !pem.is_empty())
}

/// Whether the entry refuses objects while the webhook is down, which is also the default.
pub fn fails_closed(entry: &MutatingWebhook) -> bool {
    entry.failure_policy.as_deref() != Some("Ignore")
}

/// Whether an entry matches namespaces with these labels.
pub fn selects(entry: &MutatingWebhook, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = &entry.namespace_selector else {
        return true;
    };
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Returns an entry's conditions on labels of namespaces, except on their names.
fn label_conditions(entry: &MutatingWebhook) -> (BTreeMap<&str, &str>, BTreeSet<String>) {
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

/// Returns the namespaces that the entries match by name; `None` if one of the entries matches others too.
fn named_namespaces(entries: &[MutatingWebhook]) -> Option<BTreeSet<&str>> {
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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

    use super::*;

    /// Returns the shipped entries, each of them changed.
    fn changed(change: impl FnMut(&mut MutatingWebhook)) -> Vec<MutatingWebhook> {
        let mut entries = shipped().to_vec();
        entries.iter_mut().for_each(change);
        entries
    }

    #[test]
    fn shipped_entries_are_recognized() {
        assert_eq!(shipped().len(), 5);
        assert!(has_shipped_entry(shipped()) && !has_shipped_entry(&[]));
    }

    #[test]
    fn entries_for_different_namespaces_do_not_overlap() {
        let limited_to = |names: &[&str]| {
            changed(|entry| {
                let selector = entry.namespace_selector.as_mut().expect("a selector");
                let expressions = selector.match_expressions.as_mut().expect("expressions");
                expressions.push(LabelSelectorRequirement {
                    key: NAME_LABEL.to_owned(),
                    operator: "In".to_owned(),
                    values: Some(names.iter().map(|name| (*name).to_owned()).collect()),
                });
            })
        };
        assert!(!overlap(&limited_to(&["a", "b"]), &limited_to(&["c"])));
        assert!(overlap(&limited_to(&["a", "b"]), &limited_to(&["b"])));
        assert!(overlap(&limited_to(&["a"]), shipped()));
    }

    #[test]
    fn entries_with_other_conditions_on_labels_are_apart() {
        let labels =
            |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let of_team = changed(|entry| {
            let selector = entry.namespace_selector.as_mut().expect("a selector");
            selector.match_labels = labels("team", "data");
        });
        let of_stage = changed(|entry| {
            entry.object_selector = Some(LabelSelector {
                match_labels: labels("stage", "blue"),
                ..LabelSelector::default()
            });
        });
        assert!(!apart_by_labels(shipped(), shipped()));
        for other in [&of_team, &of_stage] {
            assert!(apart_by_labels(shipped(), other) && apart_by_labels(other, shipped()));
        }
        assert!(
            !apart_by_labels(&of_team, &of_team),
            "both match the same pods"
        );
    }
}
