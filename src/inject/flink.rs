//! Pod templates that Flink's operator merges: the deployment's template with that of the job manager or task manager.
//! Lists are merged by position, so an entry of one template replaces that of the other.

use serde_json::Value;

use super::objects::{ManifestObject, is_request_annotation, value_at};
use super::template_site::TemplateSite;

/// Template of the deployment, which is merged with each of [`MERGED`].
const BASE: [&str; 2] = ["spec", "podTemplate"];

/// Templates of the job manager and the task manager.
const MERGED: [[&str; 3]; 2] = [
    ["spec", "jobManager", "podTemplate"],
    ["spec", "taskManager", "podTemplate"],
];

/// Sets the obstacle of templates that would replace entries of each other.
pub(super) fn mark_merged(object: &ManifestObject<'_>, sites: &mut [TemplateSite]) {
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

/// Whether the merged template has all entries that are injected into one or both of the templates.
fn are_mergeable(base: &Value, template: &Value) -> bool {
    let (one, other) = (annotations(base), annotations(template));
    let (one_has_env, other_has_env) = (has_env(base), has_env(template));
    // Both templates get the same entries at the same positions, or only one of them has entries.
    (one == other && !one_has_env && !other_has_env)
        || (one.is_empty() && !one_has_env)
        || (other.is_empty() && !other_has_env)
        || (one.is_empty() && other.is_empty())
}

fn annotations(template: &Value) -> Vec<(&String, &Value)> {
    let map = value_at(template, &["metadata", "annotations"]).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter(|(name, _)| is_request_annotation(name))
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
