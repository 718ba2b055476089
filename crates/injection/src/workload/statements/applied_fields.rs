//! Fields that authors applied: the last applied configuration and the managed fields, parsed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::limits::{MAX_APPLYING_MANAGERS, MAX_STATEMENT_BYTES};

/// Fields that authors applied to an object.
#[derive(Default)]
pub(crate) struct AppliedFields {
    /// Configuration of the last client-side apply; `Null` if there is none.
    pub last_applied: Value,
    /// Fields that server-side applies own, one tree for each manager.
    pub owned: Vec<Value>,
    /// Those of them that the update under review applies.
    applied_now: Vec<Value>,
    /// Whether the update under review is an apply.
    pub is_apply: bool,
}

#[derive(Default, Deserialize)]
struct AppliedMetadata {
    #[serde(default)]
    annotations: Option<LastApplied>,
    #[serde(default, rename = "managedFields")]
    managed_fields: Option<Vec<ManagedFields>>,
}

#[derive(Default, Deserialize)]
struct LastApplied {
    #[serde(default, rename = "kubectl.kubernetes.io/last-applied-configuration")]
    configuration: Option<String>,
}

#[derive(Default, Deserialize)]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    time: Option<String>,
    #[serde(default, rename = "fieldsV1")]
    fields: Value,
}

impl ManagedFields {
    /// Identity of the entry: an object has at most one entry for each.
    fn identity(&self) -> [&str; 3] {
        [&self.manager, &self.api_version, &self.subresource]
    }

    /// Whether the manager has applied since `earlier`, its earlier entry. The time of an entry does not change when
    /// other managers take fields from it.
    fn applies_after(&self, earlier: &Self) -> bool {
        self.time != earlier.time || !is_subset(&self.fields, &earlier.fields)
    }
}

/// Whether all of `fields` are in `others`.
fn is_subset(fields: &Value, others: &Value) -> bool {
    let fields = fields.as_object().into_iter().flatten();
    fields.into_iter().all(|(name, more)| {
        others
            .get(name)
            .is_some_and(|others| is_subset(more, others))
    })
}

impl AppliedMetadata {
    /// Parses metadata. Metadata that are longer than any that the API server stores are not parsed.
    fn read(json: Option<&str>) -> Self {
        let within = json.filter(|json| json.len() <= MAX_STATEMENT_BYTES);
        within
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }

    /// Entries of server-side applies; none if there are too many.
    fn applies(&self) -> Vec<&ManagedFields> {
        let entries = self.managed_fields.iter().flatten();
        let applies: Vec<&ManagedFields> =
            entries.filter(|entry| entry.operation == "Apply").collect();
        if applies.len() > MAX_APPLYING_MANAGERS {
            Vec::new()
        } else {
            applies
        }
    }

    fn last_applied(&self) -> Option<&str> {
        self.annotations.as_ref()?.configuration.as_deref()
    }
}

impl AppliedFields {
    /// Parses the metadata of an object, and of the same object before the update.
    pub fn of(new: Option<&str>, old: Option<&str>) -> Self {
        let (new, old) = (AppliedMetadata::read(new), AppliedMetadata::read(old));
        let (applies, old_applies) = (new.applies(), old.applies());
        let earlier: BTreeMap<[&str; 3], &ManagedFields> = old_applies
            .into_iter()
            .map(|entry| (entry.identity(), entry))
            .collect();
        let is_new = |entry: &ManagedFields| {
            earlier
                .get(&entry.identity())
                .is_none_or(|earlier| entry.applies_after(earlier))
        };
        let applied_now: Vec<Value> = applies
            .iter()
            .filter(|entry| is_new(entry))
            .map(|entry| entry.fields.clone())
            .collect();
        let is_apply = new.last_applied() != old.last_applied() && new.last_applied().is_some()
            || !applied_now.is_empty();
        let last_applied = new
            .last_applied()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let owned = applies
            .into_iter()
            .map(|entry| entry.fields.clone())
            .collect();
        Self {
            last_applied,
            owned,
            applied_now,
            is_apply,
        }
    }

    /// Whether a server-side apply owns the field at `path`.
    pub fn owns(&self, path: &[String]) -> bool {
        self.owned
            .iter()
            .any(|fields| field_at(fields, path).is_some())
    }

    /// Whether the update under review is a server-side apply that owns the field at `path`, and so sent all of it. A
    /// later review cannot know this: additions of the webhook to a field do not change its owners.
    pub fn sends(&self, path: &[String]) -> bool {
        self.applied_now
            .iter()
            .any(|fields| field_at(fields, path).is_some())
    }

    /// Whether the update under review owns an atomic list as a whole, as in a custom resource without a schema for its
    /// items.
    pub fn sends_atomic_list(&self, list: &[String]) -> bool {
        self.applied_now
            .iter()
            .filter_map(|fields| field_at(fields, list)?.as_object())
            .any(Map::is_empty)
    }
}

/// Tree of fields below a path.
pub(crate) fn field_at<'v>(fields: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter()
        .try_fold(fields, |fields, step| fields.get(step))
}
