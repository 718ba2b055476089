//! Metadata of a Secret: its keys, and the time of the last change of its data. Its values are never read.

use std::collections::BTreeSet;

use injection::Annotations;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ConsumersError;
use super::limits::MAX_KEYS;
use super::managed_fields::ManagedFields;
use crate::kubernetes::{ObjectApi, Representation};

/// Fields of a Secret with values. Managers that apply `stringData` own it under that name too.
const DATA_FIELDS: [&str; 2] = ["f:data", "f:stringData"];

/// Fields that change only together with the data: the type of a Secret is immutable.
const CHANGED_WITH_DATA: [&str; 3] = ["f:data", "f:stringData", "f:type"];

/// Annotation that `kubectl apply` writes together with the data.
const APPLIED_WITH_DATA: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

/// A Secret without its values.
#[derive(Clone, Debug)]
pub struct SecretHead {
    pub name: String,
    /// Time of the creation.
    pub created: Option<Timestamp>,
    /// Keys that its managed fields list; `None` if they list none, or more than [`MAX_KEYS`], so that the keys are
    /// unknown.
    pub keys: Option<BTreeSet<String>>,
    /// Last change of the data; `None` if no managed field has its time.
    pub changed: Option<DataChange>,
    /// Annotations for programs that restart workloads.
    pub(crate) annotations: Annotations<'static>,
}

/// Time of a Secret's last change of data: not before `earliest`, and not after `latest`. Both are the same if the
/// managers of the data have changed nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataChange {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl DataChange {
    /// Whether the time is exact.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.earliest == self.latest
    }
}

#[derive(Deserialize)]
struct HeadObject<'a> {
    kind: String,
    #[serde(borrow)]
    metadata: HeadMetadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata<'a> {
    name: String,
    #[serde(default)]
    creation_timestamp: Option<Timestamp>,
    #[serde(borrow, default)]
    annotations: Option<Annotations<'a>>,
    #[serde(default)]
    managed_fields: ManagedFields,
}

impl SecretHead {
    /// Reads the metadata of a Secret; `None` if it does not exist.
    ///
    /// # Errors
    /// The metadata could not be read.
    pub async fn read(
        api: &ObjectApi,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Self>, ConsumersError> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let Some(body) = api.get(&path, Representation::Metadata).await? else {
            return Ok(None);
        };
        let head = Self::parse(&body).ok_or_else(|| ConsumersError::Unreadable {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        })?;
        Ok(Some(head))
    }

    /// Parses metadata; `None` for any other response, in particular for a Secret with its values.
    fn parse(body: &[u8]) -> Option<Self> {
        let HeadObject { kind, metadata } = serde_json::from_slice::<HeadObject<'_>>(body).ok()?;
        if kind != "PartialObjectMetadata" {
            return None;
        }
        let keys: BTreeSet<String> = DATA_FIELDS
            .iter()
            .flat_map(|field| {
                let owners = metadata.managed_fields.owning(std::slice::from_ref(field));
                owners.flat_map(move |entry| entry.names_below(&[field]))
            })
            .map(str::to_owned)
            .collect();
        // An incomplete list would make existing keys look missing.
        let is_complete = (1..=MAX_KEYS).contains(&keys.len());
        Some(Self {
            changed: last_change(&metadata.managed_fields, metadata.creation_timestamp),
            name: metadata.name,
            created: metadata.creation_timestamp,
            keys: is_complete.then_some(keys),
            annotations: metadata.annotations.unwrap_or_default().into_owned(),
        })
    }
}

/// Last change of the data. A manager that owns other fields too may have changed only those at its time, unless that
/// is the time of the creation.
fn last_change(fields: &ManagedFields, created: Option<Timestamp>) -> Option<DataChange> {
    let owners = || {
        DATA_FIELDS
            .iter()
            .flat_map(|field| fields.owning(std::slice::from_ref(field)))
    };
    let is_exact = |time: Timestamp| Some(time) == created;
    let latest = owners().filter_map(|entry| entry.time).max()?;
    let earliest = owners()
        .filter(|entry| {
            entry.has_only(&CHANGED_WITH_DATA, &APPLIED_WITH_DATA)
                || entry.time.is_some_and(is_exact)
        })
        .filter_map(|entry| entry.time)
        .chain(created)
        .max()
        .unwrap_or(latest);
    // A Secret that was restored from a backup may have times from before its creation.
    let latest = created.map_or(latest, |created| latest.max(created));
    Some(DataChange {
        earliest: earliest.min(latest),
        latest,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CREATED: &str = "2026-11-28T10:00:00Z";
    const LATER: &str = "2026-11-28T11:00:00Z";
    const LAST: &str = "2026-11-28T12:00:00Z";

    fn entry(time: &str, fields: &Value) -> Value {
        json!({"manager": "m", "time": time, "fieldsV1": fields})
    }

    fn head(entries: &[Value]) -> SecretHead {
        let object = json!({"kind": "PartialObjectMetadata", "metadata": {
            "name": "db", "creationTimestamp": CREATED, "managedFields": entries,
        }});
        SecretHead::parse(object.to_string().as_bytes()).unwrap()
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with an option")]
    fn change(earliest: &str, latest: &str) -> Option<DataChange> {
        Some(DataChange {
            earliest: earliest.parse().unwrap(),
            latest: latest.parse().unwrap(),
        })
    }

    #[test]
    fn change_is_exact_if_managers_of_the_data_own_nothing_else() {
        let created = entry(
            CREATED,
            &json!({"f:data": {"f:a": {}}, "f:metadata": {}, "f:type": {}}),
        );
        assert_eq!(
            head(std::slice::from_ref(&created)).changed,
            change(CREATED, CREATED)
        );
        let data = entry(LATER, &json!({"f:data": {"f:b": {}}}));
        assert_eq!(head(&[created.clone(), data]).changed, change(LATER, LATER));
        let applied = json!({"f:data": {"f:a": {}}, "f:metadata": {"f:annotations":
            {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}}});
        assert_eq!(
            head(&[entry(LATER, &applied)]).changed,
            change(LATER, LATER)
        );
        let labels = entry(LAST, &json!({"f:metadata": {"f:labels": {}}}));
        assert_eq!(head(&[created, labels]).changed, change(CREATED, CREATED));
    }

    #[test]
    fn change_by_manager_of_other_fields_is_at_the_latest() {
        let both = entry(
            LAST,
            &json!({"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {}}}),
        );
        assert_eq!(
            head(std::slice::from_ref(&both)).changed,
            change(CREATED, LAST)
        );
        let data = entry(LATER, &json!({"f:data": {"f:b": {}}}));
        let changed = head(&[both, data]).changed;
        assert_eq!(changed, change(LATER, LAST));
        assert!(!changed.unwrap().is_exact());
    }

    #[test]
    fn keys_and_change_are_unknown_without_managed_fields() {
        let unknown = head(&[]);
        assert_eq!((unknown.keys, unknown.changed), (None, None));
        let keys = head(&[
            entry(CREATED, &json!({"f:data": {".": {}, "f:a": {}}})),
            entry(CREATED, &json!({"f:stringData": {"f:b": {}}})),
        ]);
        assert_eq!(
            keys.keys,
            Some(BTreeSet::from(["a".to_owned(), "b".to_owned()]))
        );
    }

    #[test]
    fn keys_beyond_the_limit_are_unknown() {
        let named = |count: usize| -> serde_json::Map<String, Value> {
            (0..count).map(|n| (format!("f:{n}"), json!({}))).collect()
        };
        let keys = |count| head(&[entry(CREATED, &json!({"f:data": named(count)}))]).keys;
        assert_eq!(keys(MAX_KEYS).unwrap().len(), MAX_KEYS);
        assert_eq!(keys(MAX_KEYS + 1), None);
    }

    #[test]
    fn restored_secret_has_changed_at_its_creation_at_the_latest() {
        let before = "2026-11-01T00:00:00Z";
        let restored = head(&[entry(before, &json!({"f:data": {"f:a": {}}}))]);
        assert_eq!(restored.changed, change(CREATED, CREATED));
    }

    #[test]
    fn secret_with_values_is_rejected() {
        let object =
            json!({"kind": "Secret", "metadata": {"name": "db"}, "data": {"a": "Y2FuYXJ5"}});
        assert!(SecretHead::parse(object.to_string().as_bytes()).is_none());
    }
}
