//! Managed fields of an object: which fields were set, and when each manager last changed its own.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Fields of the metadata of an object, by manager.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct ManagedFields(Vec<ManagedEntry>);

/// Fields of one manager. The API server updates the time whenever the manager changes one of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagedEntry {
    /// `None` for fields from before there were managers.
    #[serde(default)]
    pub time: Option<Timestamp>,
    #[serde(default)]
    fields_v1: Map<String, Value>,
}

impl ManagedFields {
    /// Entries with this field, given as a path such as `["f:metadata", "f:labels"]`.
    pub fn owning<'m>(
        &'m self,
        path: &'m [&'m str],
    ) -> impl Iterator<Item = &'m ManagedEntry> + 'm {
        self.0.iter().filter(|entry| entry.fields(path).is_some())
    }
}

impl ManagedEntry {
    /// The map at a path; `None` if the entry does not have the field.
    fn fields(&self, path: &[&str]) -> Option<&Map<String, Value>> {
        let mut fields = &self.fields_v1;
        for name in path {
            fields = fields.get(*name)?.as_object()?;
        }
        Some(fields)
    }

    /// Names below a field, without their prefix.
    pub fn names_below(&self, path: &[&str]) -> BTreeSet<&str> {
        let fields = self.fields(path).into_iter().flat_map(Map::keys);
        fields.filter_map(|name| name.strip_prefix("f:")).collect()
    }

    /// Whether the entry has no other fields than these, and no other annotations than those.
    pub fn has_only(&self, fields: &[&str], annotations: &[&str]) -> bool {
        let metadata = self.fields(&["f:metadata"]);
        let is_allowed = |name: &String| fields.contains(&name.as_str()) || name == "f:metadata";
        let has_annotations_alone =
            metadata.is_none_or(|metadata| metadata.keys().all(|name| name == "f:annotations"));
        let path = ["f:metadata", "f:annotations"];
        self.fields_v1.keys().all(is_allowed)
            && has_annotations_alone
            && self
                .names_below(&path)
                .into_iter()
                .all(|name| annotations.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_fields() {
        let fields: ManagedFields = serde_json::from_value(serde_json::json!([
            {"manager": "a", "operation": "Update", "time": "2026-11-28T10:00:00Z",
             "fieldsV1": {"f:data": {".": {}, "f:user": {}}, "f:type": {}}},
            {"manager": "b", "fieldsV1": {"f:metadata": {"f:labels": {"f:x/y": {}}}}},
            {"manager": "c"},
        ]))
        .unwrap();
        let owners: Vec<&ManagedEntry> = fields.owning(&["f:data"]).collect();
        assert_eq!(owners.len(), 1);
        assert_eq!(owners[0].names_below(&["f:data"]), BTreeSet::from(["user"]));
        assert!(owners[0].has_only(&["f:data", "f:type"], &[]));
        assert!(!owners[0].has_only(&["f:data"], &[]));
        assert_eq!(
            fields.owning(&["f:metadata", "f:labels", "f:x/y"]).count(),
            1
        );
        assert_eq!(fields.owning(&["f:metadata", "f:labels", "f:z"]).count(), 0);
    }
}
