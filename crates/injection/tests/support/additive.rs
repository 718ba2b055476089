//! Check that an admission only adds: the pod after it differs by added `env` and `envFrom` entries, by the webhook's
//! label and annotation, and by the reload list if there was none.

use serde_json::{Map, Value};

const INJECTED: &str = "secrets.floe.dev/injected";
const RELOAD: &str = "secret.reloader.stakater.com/reload";

/// Returns the first other difference.
pub fn difference(before: &Value, after: &Value) -> Result<(), String> {
    let empty = Map::new();
    let (before, after) = (
        before.as_object().ok_or("not an object")?,
        after.as_object().ok_or("not an object")?,
    );
    same_besides(before, after, &["metadata", "spec"], "pod")?;
    let metadata =
        |pod: &Map<String, Value>| pod.get("metadata").and_then(Value::as_object).cloned();
    let (old, new) = (
        metadata(before).unwrap_or_default(),
        metadata(after).unwrap_or_default(),
    );
    same_besides(&old, &new, &["annotations", "labels"], "metadata")?;
    for map in ["annotations", "labels"] {
        let of =
            |metadata: &Map<String, Value>| metadata.get(map).and_then(Value::as_object).cloned();
        let (old, new) = (of(&old).unwrap_or_default(), of(&new).unwrap_or_default());
        let may_list = map == "annotations" && !old.contains_key(RELOAD);
        same_besides(
            &old,
            &new,
            if may_list {
                &[INJECTED, RELOAD]
            } else {
                &[INJECTED]
            },
            map,
        )?;
    }
    let spec = |pod: &Map<String, Value>| pod.get("spec").and_then(Value::as_object).cloned();
    let (old, new) = (
        spec(before).unwrap_or_default(),
        spec(after).unwrap_or_default(),
    );
    same_besides(&old, &new, &["containers", "initContainers"], "spec")?;
    for list in ["containers", "initContainers"] {
        let (old, new) = (old.get(list), new.get(list));
        let (Some(Value::Array(old)), Some(Value::Array(new))) = (old, new) else {
            if old != new {
                return Err(format!("{list} changed"));
            }
            continue;
        };
        if old.len() != new.len() {
            return Err(format!("{list} has another length"));
        }
        for (old, new) in old.iter().zip(new) {
            let (old, new) = (
                old.as_object().unwrap_or(&empty),
                new.as_object().unwrap_or(&empty),
            );
            same_besides(old, new, &["env", "envFrom"], "container")?;
            for entries in ["env", "envFrom"] {
                let (old, new) = (array(old.get(entries)), array(new.get(entries)));
                if !is_subsequence(&old, &new) {
                    return Err(format!(
                        "the author's {entries} changed: {old:?} to {new:?}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Entries of a list; a missing list and `null` are empty.
fn array(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_subsequence(part: &[Value], whole: &[Value]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|wanted| rest.any(|entry| entry == wanted))
}

/// Checks that keys, values and order are the same, except for `besides`, which may be new or changed.
fn same_besides(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    besides: &[&str],
    place: &str,
) -> Result<(), String> {
    let others = |map: &Map<String, Value>| -> Vec<(String, Value)> {
        map.iter()
            .filter(|(key, _)| !besides.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let (old, new) = (others(before), others(after));
    if old == new {
        Ok(())
    } else {
        Err(format!("{place} changed: {old:?} to {new:?}"))
    }
}
