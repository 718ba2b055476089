//! Templates of Argo workflows. They describe a pod by one container and the lists around it, not by a
//! `PodTemplateSpec`.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use serde_json::{Map, Value, json};

use super::objects::{ManifestObject, dotted, value_at};
use super::template_site::{ArgoTemplate, MAX_TEMPLATES, TemplateForm, TemplateSite};
use injection::{InjectionPlan, render};

/// Name that Argo gives to the container of `container` and `script`.
const MAIN: &str = "main";

/// Path of the workflow's spec; `None` for other kinds.
fn spec_path(object: &ManifestObject<'_>) -> Option<&'static [&'static str]> {
    match (object.group(), object.kind) {
        ("argoproj.io", "Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate") => {
            Some(&["spec"])
        }
        ("argoproj.io", "CronWorkflow") => Some(&["spec", "workflowSpec"]),
        _ => None,
    }
}

/// Templates of a workflow that have containers; `None` for other kinds.
pub(super) fn sites(object: &ManifestObject<'_>) -> Option<Vec<TemplateSite>> {
    let spec_path = spec_path(object)?;
    let spec = object.at(spec_path).unwrap_or(&Value::Null);
    let mut sites = Vec::new();
    for (below, template) in templates(spec) {
        if sites.len() > MAX_TEMPLATES {
            break;
        }
        let path = spec_path
            .iter()
            .map(|field| (*field).to_owned())
            .chain(below)
            .collect();
        if let Some(pod) = pod_of(spec, template) {
            sites.push(TemplateSite {
                path,
                form: TemplateForm::Argo(Box::new(pod)),
                obstacle: obstacle(spec, template),
            });
        }
    }
    Some(sites)
}

/// Path of the annotations for all pods of a workflow. They are not acted on if a pod's containers are not in the
/// object; the second value is a sentence about it then.
pub(crate) fn pod_metadata(object: &ManifestObject<'_>) -> Option<(Vec<String>, Option<String>)> {
    let spec_path = spec_path(object)?;
    let spec = object.at(spec_path)?;
    let path = spec_path
        .iter()
        .copied()
        .chain(["podMetadata", "annotations"])
        .map(str::to_owned)
        .collect();
    let refers_elsewhere = "it holds for the pods of a WorkflowTemplate too, whose containers do not stand here. \
                     Write it on that WorkflowTemplate and on this object's own templates";
    if spec
        .get("workflowTemplateRef")
        .is_some_and(|reference| !reference.is_null())
        || refers_to_other_object(spec)
    {
        return Some((path, Some(refers_elsewhere.to_owned())));
    }
    let argo_template = templates(spec)
        .into_iter()
        .find(|(_, template)| has_argo_container(template));
    let problem = argo_template.map(|(at, _)| {
        format!(
            "it holds for the pod of {} too, whose container comes from Argo. Write it on the templates that need it",
            dotted(&spec_path.iter().map(|field| (*field).to_owned()).chain(at).collect::<Vec<_>>())
        )
    });
    Some((path, problem))
}

/// Templates of a workflow's spec with their paths in it, `inline` templates of steps and tasks included.
fn templates(spec: &Value) -> Vec<(Vec<String>, &Value)> {
    let mut found = Vec::new();
    let listed = spec
        .get("templates")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for (index, template) in listed.enumerate() {
        let path = vec!["templates".to_owned(), index.to_string()];
        found.push((path.clone(), template));
        for (below, call) in calls(template) {
            if let Some(inline) = call.get("inline").filter(|inline| inline.is_object()) {
                found.push((
                    path.iter()
                        .cloned()
                        .chain(below)
                        .chain(["inline".to_owned()])
                        .collect(),
                    inline,
                ));
            }
        }
    }
    found
}

/// Steps and tasks of a template, with their paths in it.
fn calls(template: &Value) -> Vec<(Vec<String>, &Value)> {
    let mut found = Vec::new();
    let groups = template
        .get("steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for (group, steps) in groups.enumerate() {
        for (index, step) in steps.as_array().into_iter().flatten().enumerate() {
            found.push((
                vec!["steps".to_owned(), group.to_string(), index.to_string()],
                step,
            ));
        }
    }
    let tasks = value_at(template, &["dag", "tasks"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for (index, task) in tasks.enumerate() {
        found.push((
            vec!["dag".to_owned(), "tasks".to_owned(), index.to_string()],
            task,
        ));
    }
    found
}

/// Whether a step, a task or a hook runs a template of another object.
fn refers_to_other_object(spec: &Value) -> bool {
    match spec {
        Value::Object(map) => map.iter().any(|(name, value)| {
            (name == "templateRef" && value.is_object())
                || (name != "arguments" && name != "manifest" && refers_to_other_object(value))
        }),
        Value::Array(list) => list.iter().any(refers_to_other_object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether the container of a template comes from Argo.
fn has_argo_container(template: &Value) -> bool {
    ["resource", "data"]
        .iter()
        .any(|kind| template.get(kind).is_some_and(Value::is_object))
}

/// Pod of a template that has containers.
fn pod_of(spec: &Value, template: &Value) -> Option<ArgoTemplate> {
    let mut containers = Vec::new();
    let list = |found: &mut Vec<(Vec<String>, Value)>, at: &[&str]| {
        for (index, container) in value_at(template, at)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            let path = at
                .iter()
                .copied()
                .map(str::to_owned)
                .chain([index.to_string()])
                .collect();
            found.push((path, container.clone()));
        }
    };
    for kind in ["container", "script"] {
        if let Some(Value::Object(container)) = template.get(kind) {
            let mut container = container.clone();
            container.insert("name".to_owned(), MAIN.into());
            containers.push((vec![kind.to_owned()], Value::Object(container)));
        }
    }
    list(&mut containers, &["containerSet", "containers"]);
    if containers.is_empty() {
        return None;
    }
    list(&mut containers, &["sidecars"]);
    let mut init_containers = Vec::new();
    list(&mut init_containers, &["initContainers"]);
    let (containers, values): (_, Vec<Value>) = containers.into_iter().unzip();
    let (init_containers, init_values): (_, Vec<Value>) = init_containers.into_iter().unzip();
    let accounts = [
        template,
        spec.get("templateDefaults").unwrap_or(&Value::Null),
        spec,
    ];
    let account = accounts.iter().find_map(|from| {
        from.get("serviceAccountName")
            .filter(|name| **name != json!(""))
    });
    let mut pod_spec = Map::from_iter([("containers".to_owned(), values.into())]);
    if !init_values.is_empty() {
        pod_spec.insert("initContainers".to_owned(), init_values.into());
    }
    if let Some(account) = account {
        pod_spec.insert("serviceAccountName".to_owned(), account.clone());
    }
    let pod = json!({ "metadata": pod_metadata_of(spec, template), "spec": pod_spec });
    Some(ArgoTemplate {
        pod,
        containers,
        init_containers,
    })
}

/// Metadata of a pod: the workflow's `podMetadata`, overridden by the template's own.
fn pod_metadata_of(spec: &Value, template: &Value) -> Value {
    let all = [spec.get("podMetadata"), template.get("metadata")];
    let mut merged = Map::new();
    for field in ["annotations", "labels"] {
        let maps = all
            .iter()
            .flatten()
            .filter_map(|metadata| metadata.get(field)?.as_object());
        let map: Map<String, Value> = maps
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        merged.insert(field.to_owned(), Value::Object(map));
    }
    Value::Object(merged)
}

/// Sentence about a change that Argo makes to the template later, by which injected entries would be lost.
fn obstacle(spec: &Value, template: &Value) -> Option<String> {
    let patches = [template.get("podSpecPatch"), spec.get("podSpecPatch")];
    if patches
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|patch| patch.contains("envFrom"))
    {
        return Some(
            "its podSpecPatch sets envFrom, and Argo lets that replace the list of the template. \
             Move those sources to the template's own envFrom, or let the webhook inject into the pod"
                .to_owned(),
        );
    }
    let defaults = spec.get("templateDefaults")?;
    let sets = |path: &[&str]| value_at(defaults, path).is_some_and(|value| !value.is_null());
    let paths: [&[&str]; 7] = [
        &["container", "env"],
        &["container", "envFrom"],
        &["script", "env"],
        &["script", "envFrom"],
        &["containerSet"],
        &["sidecars"],
        &["initContainers"],
    ];
    let found = paths.into_iter().find(|path| sets(path))?;
    Some(format!(
        "templateDefaults.{} is merged into the template later, where it would meet what is injected here. \
         Move it to the templates, or let the webhook inject into the pod",
        dotted(found)
    ))
}

impl ArgoTemplate {
    /// Plan as a patch, for a document that has the template at `root`.
    pub(super) fn patch(
        &self,
        template: Option<&Value>,
        plan: &InjectionPlan,
        root: &[&str],
    ) -> json_patch::Patch {
        let mut after = self.pod.clone();
        let rendered = json_patch::Patch::from(render(plan, &[]));
        json_patch::patch(&mut after, &rendered).expect("the plan was made for this pod");
        let mut added: Vec<(Vec<String>, Value)> = Vec::new();
        let lists = [
            ("containers", &self.containers),
            ("initContainers", &self.init_containers),
        ];
        for (list, paths) in lists {
            for (index, path) in paths.iter().enumerate() {
                for field in ["env", "envFrom"] {
                    let at = ["spec", list, &index.to_string(), field];
                    let (then, now) = (value_at(&self.pod, &at), value_at(&after, &at));
                    if let Some(now) = now.filter(|now| then != Some(*now)) {
                        added.push((
                            path.iter().cloned().chain([field.to_owned()]).collect(),
                            now.clone(),
                        ));
                    }
                }
            }
        }
        if !added.is_empty() {
            added.extend(self.metadata_additions(template, &after));
        }
        let operation = |(path, value): (Vec<String>, Value)| {
            let path = PointerBuf::from_tokens(
                root.iter().copied().chain(path.iter().map(String::as_str)),
            );
            PatchOperation::Add(AddOperation { path, value })
        };
        json_patch::Patch(added.into_iter().map(operation).collect())
    }

    /// Record and label in the template's own metadata, after the maps that are missing for them.
    fn metadata_additions(
        &self,
        template: Option<&Value>,
        after: &Value,
    ) -> Vec<(Vec<String>, Value)> {
        let is_map = |path: &[&str]| {
            template
                .and_then(|t| value_at(t, path))
                .is_some_and(Value::is_object)
        };
        let path = |fields: &[&str]| {
            fields
                .iter()
                .map(|field| (*field).to_owned())
                .collect::<Vec<_>>()
        };
        let mut additions = Vec::new();
        if !is_map(&["metadata"]) {
            additions.push((path(&["metadata"]), json!({})));
        }
        for field in ["annotations", "labels"] {
            let (then, now) = (
                value_at(&self.pod, &["metadata", field]),
                value_at(after, &["metadata", field]),
            );
            let new: Vec<(&String, &Value)> = now
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter(|(key, value)| then.and_then(|then| then.get(key.as_str())) != Some(*value))
                .collect();
            if !new.is_empty() && !is_map(&["metadata", field]) {
                additions.push((path(&["metadata", field]), json!({})));
            }
            additions.extend(
                new.into_iter()
                    .map(|(key, value)| (path(&["metadata", field, key]), value.clone())),
            );
        }
        additions
    }
}
