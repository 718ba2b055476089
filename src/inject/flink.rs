//! Flink's operator merges pod templates: that of the whole deployment with that of the job or task manager, their lists
//! by position. An entry of one takes the place of the other's.

use serde_json::Value;

use super::objects::{Object, is_ours, value_at};
use super::template_site::TemplateSite;

/// The template that is merged into each of the others.
const BASE: [&str; 2] = ["spec", "podTemplate"];

/// The others.
const MERGED: [[&str; 3]; 2] = [
    ["spec", "jobManager", "podTemplate"],
    ["spec", "taskManager", "podTemplate"],
];

/// Marks templates that would lose entries to each other.
pub(super) fn mark_merged(object: &Object<'_>, sites: &mut [TemplateSite]) {
    if object.group() != "flink.apache.org" {
        return;
    }
    let Some(base) = object.at(&BASE) else { return };
    for path in MERGED {
        if object
            .at(&path)
            .is_none_or(|template| are_mergeable(base, template))
        {
            continue;
        }
        for site in sites
            .iter_mut()
            .filter(|site| site.path == BASE || site.path == path)
        {
            site.obstacle = Some(format!(
                "Flink merges {} and {} by position, and variables of one would take the place of the other's. \
                 Write annotations, env and envFrom in one of the two",
                BASE.join("."),
                path.join(".")
            ));
        }
    }
}

/// Whether entries that are injected into both, or into one of them, are still there when they have been merged.
fn are_mergeable(base: &Value, template: &Value) -> bool {
    let (one, other) = (annotations(base), annotations(template));
    let (one_has_env, other_has_env) = (has_env(base), has_env(template));
    // The same entries at the same places; or entries in one of the two alone.
    (one == other && !one_has_env && !other_has_env)
        || (one.is_empty() && !one_has_env)
        || (other.is_empty() && !other_has_env)
        || (one.is_empty() && other.is_empty())
}

fn annotations(template: &Value) -> Vec<(&String, &Value)> {
    let map = value_at(template, &["metadata", "annotations"]).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter(|(name, _)| is_ours(name))
        .collect()
}

fn has_env(template: &Value) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        let containers = value_at(template, &["spec", list]).and_then(Value::as_array);
        containers.into_iter().flatten().any(|container| {
            ["env", "envFrom"].iter().any(|field| {
                container
                    .get(field)
                    .and_then(Value::as_array)
                    .is_some_and(|entries| !entries.is_empty())
            })
        })
    })
}
