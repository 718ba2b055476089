//! Patch that `kubectl apply` sends for an existing object: the difference of the last applied manifest, the new one,
//! and the stored object.

use serde_json::{Map, Value, json};

use super::author::{Field, LAST_APPLIED};

/// Treatment of lists by a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Strategic merge patch: containers and variables are merged by name.
    Strategic,
    /// JSON merge patch, as for custom resources: a list is one value.
    Merge,
}

impl Form {
    pub fn of(kind: &str) -> Self {
        if kind == "Rollout" {
            Self::Merge
        } else {
            Self::Strategic
        }
    }

    /// Content type of a request with such a patch.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Merge => "application/merge-patch+json",
        }
    }

    fn goes_by_name(self, field: &str) -> bool {
        self == Self::Strategic && matches!(field, "containers" | "env")
    }
}

fn find<'v>(list: &'v Value, name: &Value) -> Option<&'v Value> {
    list.as_array()
        .into_iter()
        .flatten()
        .find(|item| item["name"] == *name)
}

/// Manifest with itself in an annotation, as `kubectl apply` sends it.
pub fn configuration(manifest: &Value) -> Value {
    let mut object = manifest.clone();
    Field::Metadata(LAST_APPLIED.to_owned()).set(&mut object, Some(&json!(manifest.to_string())));
    object
}

/// Patch by which `kubectl apply` of a manifest changes an existing object; empty if nothing is sent.
pub fn patch(manifest: &Value, live: &Value) -> Map<String, Value> {
    let last = Field::Metadata(LAST_APPLIED.to_owned()).get(live);
    let last = last
        .and_then(|text| serde_json::from_str(text.as_str()?).ok())
        .unwrap_or(Value::Null);
    three_way(
        Form::of(manifest["kind"].as_str().expect("a kind")),
        &last,
        &configuration(manifest),
        live,
    )
}

/// Fields that were applied last and no longer are get removed, whoever wrote them since: also a map or a list as a
/// whole.
fn three_way(form: Form, last: &Value, manifest: &Value, live: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for (field, value) in manifest.as_object().into_iter().flatten() {
        let (last, live) = (&last[field], &live[field]);
        if value.is_object() && live.is_object() {
            let inner = three_way(form, last, value, live);
            if !inner.is_empty() {
                patch.insert(field.clone(), inner.into());
            }
        } else if form.goes_by_name(field) && value.is_array() && live.is_array() {
            let items = items(form, last, value, live);
            if !items.is_empty() {
                let order: Value = value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|item| json!({"name": item["name"]}))
                    .collect();
                patch.insert(format!("$setElementOrder/{field}"), order);
                patch.insert(field.clone(), items.into());
            }
        } else if value != live {
            patch.insert(field.clone(), value.clone());
        }
    }
    for field in last
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, _)| field)
    {
        if manifest.get(field).is_none() {
            patch.insert(field.clone(), Value::Null);
        }
    }
    patch
}

/// Part of a list whose items are merged by name.
fn items(form: Form, last: &Value, manifest: &Value, live: &Value) -> Vec<Value> {
    let mut patch = Vec::new();
    for item in manifest.as_array().into_iter().flatten() {
        let name = &item["name"];
        let Some(live) = find(live, name) else {
            patch.push(item.clone());
            continue;
        };
        let mut inner = three_way(form, find(last, name).unwrap_or(&Value::Null), item, live);
        if !inner.is_empty() {
            inner.insert("name".to_owned(), name.clone());
            patch.push(inner.into());
        }
    }
    let gone = last
        .as_array()
        .into_iter()
        .flatten()
        .filter(|item| find(manifest, &item["name"]).is_none());
    patch.extend(gone.map(|item| json!({"name": item["name"], "$patch": "delete"})));
    patch
}

/// Patches an object, as an API server does.
pub fn merge(form: Form, object: &mut Value, patch: &Map<String, Value>) {
    if !object.is_object() {
        *object = json!({});
    }
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        match value {
            Value::Null => drop(
                object
                    .as_object_mut()
                    .and_then(|object| object.remove(field)),
            ),
            Value::Object(inner) => merge(form, &mut object[field], inner),
            Value::Array(items) if form.goes_by_name(field) && object[field].is_array() => {
                for item in items {
                    merge_item(form, object[field].as_array_mut().expect("a list"), item);
                }
            }
            value => object[field] = value.clone(),
        }
    }
}

fn merge_item(form: Form, list: &mut Vec<Value>, item: &Value) {
    let place = list.iter().position(|there| there["name"] == item["name"]);
    match place {
        Some(place) if item["$patch"] == "delete" => drop(list.remove(place)),
        Some(place) => merge(form, &mut list[place], item.as_object().expect("an item")),
        None if item["$patch"] == "delete" => {}
        None => list.push(item.clone()),
    }
}
