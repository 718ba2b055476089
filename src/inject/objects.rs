//! The objects of a document, and what the webhook would copy from a workload's own annotations to its template.

use serde::Deserialize as _;
use serde_json::Value;

use super::template_site::{Form, TemplateSite};
use injection::{
    self, INHERITED, INJECTED, MetadataView, PREFIX, PodView, WorkloadKind, WrongType,
};

/// One object of a document; a list has many.
#[derive(Debug)]
pub(super) struct Object<'v> {
    value: &'v Value,
    /// Where in the document it stands.
    path: Vec<String>,
    api_version: &'v str,
    /// Its kind.
    pub kind: &'v str,
}

/// What an object's template gets from the object's own annotations.
#[derive(Debug)]
pub(super) struct Addition {
    /// Where, from the object on.
    pub path: Vec<&'static str>,
    /// The field.
    pub name: String,
    /// What.
    pub value: Value,
}

impl Addition {
    /// An empty map.
    fn map(path: Vec<&'static str>, name: &str) -> Self {
        Self {
            path,
            name: name.to_owned(),
            value: Value::Object(serde_json::Map::new()),
        }
    }
}

/// Every object of a document, those of its lists one by one.
pub(super) fn objects(document: &Value) -> Result<Vec<Object<'_>>, String> {
    let mut found = Vec::new();
    collect(document, Vec::new(), ("", ""), &mut found)?;
    Ok(found)
}

fn collect<'v>(
    value: &'v Value,
    path: Vec<String>,
    inherited: (&'v str, &'v str),
    found: &mut Vec<Object<'v>>,
) -> Result<(), String> {
    let place = || {
        if path.is_empty() {
            "the document".to_owned()
        } else {
            path.join(".")
        }
    };
    if !value.is_object() {
        return Err(format!("{} is no Kubernetes object", place()));
    }
    // The items of a PodList need not say again what they are.
    let text = |field, otherwise| value.get(field).map_or(Some(otherwise), Value::as_str);
    let (api_version, kind) = (text("apiVersion", inherited.0), text("kind", inherited.1));
    let (Some(api_version), Some(kind)) = (api_version, kind.filter(|kind| !kind.is_empty()))
    else {
        return Err(format!(
            "{} is no Kubernetes object: it says no kind",
            place()
        ));
    };
    match (
        kind.strip_suffix("List"),
        value.get("items").and_then(Value::as_array),
    ) {
        (Some(of), Some(items)) if items.iter().all(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                let path = path
                    .iter()
                    .cloned()
                    .chain(["items".to_owned(), index.to_string()])
                    .collect();
                collect(item, path, (api_version, of), found)?;
            }
        }
        _ => found.push(Object {
            value,
            path,
            api_version,
            kind,
        }),
    }
    Ok(())
}

const POD: &[&str] = &[];
const TEMPLATE: &[&str] = &["template"];
const SPEC_TEMPLATE: &[&str] = &["spec", "template"];
const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template"];

/// The value at a path through maps and lists.
pub(super) fn value_at<'v>(value: &'v Value, path: &[impl AsRef<str>]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, field| match value {
        Value::Array(list) => list.get(field.as_ref().parse::<usize>().ok()?),
        value => value.get(field.as_ref()),
    })
}

/// A path as people write it: `spec.workerGroupSpecs[0].template`.
pub(super) fn dotted(path: &[impl AsRef<str>]) -> String {
    let mut text = String::new();
    for field in path.iter().map(AsRef::as_ref) {
        if field.bytes().all(|b| b.is_ascii_digit()) {
            text.push('[');
            text.push_str(field);
            text.push(']');
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(field);
        }
    }
    text
}

/// Whether an annotation asks for something, and is not the record of what was done.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && name != INJECTED
}

impl<'v> Object<'v> {
    /// The value at a path in it.
    pub(super) fn at(&self, path: &[impl AsRef<str>]) -> Option<&'v Value> {
        value_at(self.value, path)
    }

    fn metadata(&self, field: &str) -> Option<&'v str> {
        self.at(&["metadata", field])?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// The namespace that it names.
    pub(super) fn namespace(&self) -> Option<&'v str> {
        self.metadata("namespace")
    }

    /// `Deployment "etl"`, and before it the place in a list.
    pub(super) fn title(&self) -> String {
        let item: Vec<String> = self
            .path
            .iter()
            .filter_map(|field| field.parse::<usize>().ok())
            .map(|index| format!("item {}, ", index + 1))
            .collect();
        let name = match (self.metadata("name"), self.metadata("generateName")) {
            (Some(name), _) => format!(" \"{name}\""),
            (None, Some(prefix)) => format!(" \"{prefix}…\""),
            (None, None) => " without a name".to_owned(),
        };
        format!("{}{}{name}", item.concat(), self.kind)
    }

    /// The group of its kind; empty for the core group.
    pub(super) fn group(&self) -> &'v str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// Whether it is of this kind of the core group.
    pub(super) fn is_core(&self, kind: &str) -> bool {
        self.api_version == "v1" && self.kind == kind
    }

    /// Whether what looks like a template is one; or asks for something, so that it has to be said that it is not.
    pub(super) fn is_pod_or_asks(&self, site: &TemplateSite) -> bool {
        let annotations = self.at(&site.annotations()).and_then(Value::as_object);
        annotations
            .into_iter()
            .flatten()
            .any(|(name, _)| is_ours(name))
            || self.pod(site).is_ok()
    }

    /// Whether a controller made it: its own annotations are then that controller's copies.
    pub(super) fn is_owned(&self) -> bool {
        let owners = self
            .at(&["metadata", "ownerReferences"])
            .and_then(Value::as_array);
        owners
            .into_iter()
            .flatten()
            .any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
    }

    /// Its kind, where the webhook serves it as a workload.
    pub(super) fn workload(&self) -> Option<WorkloadKind> {
        WorkloadKind::of_manifest(self.api_version, self.kind)
    }

    /// Its own metadata, for a Namespace's or ServiceAccount's defaults.
    pub(super) fn own_metadata(&self) -> Result<MetadataView<'v>, String> {
        match self.at(&["metadata"]) {
            None | Some(Value::Null) => Ok(MetadataView::default()),
            Some(metadata) => metadata_view(metadata, "metadata"),
        }
    }

    /// Where the pod, or the template of one, stands in it.
    pub(super) fn root(&self) -> Option<&'static [&'static str]> {
        if self.is_core("Pod") {
            return Some(POD);
        }
        let candidates: &[&[&str]] = match self.kind {
            "PodTemplate" if self.api_version == "v1" => &[TEMPLATE],
            "CronJob" => &[JOB_TEMPLATE, SPEC_TEMPLATE],
            _ => &[SPEC_TEMPLATE],
        };
        // Any kind may have a field called template; one that makes pods has containers in it.
        let makes_pods = |root: &&&[&str]| {
            let containers = self
                .at(root)
                .and_then(|template| template.get("spec")?.get("containers"));
            containers.is_some_and(Value::is_array)
        };
        candidates.iter().find(makes_pods).copied()
    }

    /// Where in the document a path of it leads.
    pub(super) fn pointer<'p>(&'p self, path: &'p [impl AsRef<str>]) -> Vec<&'p str> {
        self.path
            .iter()
            .map(String::as_str)
            .chain(path.iter().map(AsRef::as_ref))
            .collect()
    }

    /// The pod, or the template of one; or where it is not what Kubernetes has there.
    pub(super) fn pod<'p>(&self, site: &'p TemplateSite) -> Result<PodView<'p>, String>
    where
        'v: 'p,
    {
        let value = match &site.form {
            Form::Pod | Form::Template => self.at(&site.path).unwrap_or(self.value),
            Form::Argo(template) => &template.pod,
        };
        PodView::deserialize(value).map_err(|_| {
            let at = |place: &str| {
                let path: Vec<&str> = site
                    .path
                    .iter()
                    .map(String::as_str)
                    .chain([place])
                    .collect();
                dotted(&path)
            };
            culprit(value, &at)
        })
    }

    /// What the webhook would copy from the workload's own annotations to its template, so that pods made from it
    /// have it. Each parent comes before what stands in it.
    pub(super) fn carried(&self, site: &TemplateSite) -> Result<Vec<Addition>, String> {
        let Some(kind) = self.workload() else {
            return Ok(Vec::new());
        };
        if site.path != kind.template() {
            return Ok(Vec::new());
        }
        let at = |path: &[&str], name: &str| match self.at(path) {
            None | Some(Value::Null) => Ok(MetadataView::default()),
            Some(metadata) => metadata_view(metadata, name),
        };
        let own = at(&["metadata"], "metadata")?;
        let job = at(
            &["spec", "jobTemplate", "metadata"],
            "spec.jobTemplate.metadata",
        )?;
        let metadata: Vec<&'static str> = kind
            .template()
            .iter()
            .copied()
            .chain(["metadata"])
            .collect();
        let template = at(&metadata, &metadata.join("."))?;
        let from = [job.annotations.as_ref(), own.annotations.as_ref()];
        let mut adds = Vec::new();
        let inherited = injection::inherit(from, template.annotations.as_ref());
        let there = template
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.value(INHERITED));
        let Some(value) = inherited.filter(|value| there != Some(value)) else {
            return Ok(adds);
        };
        if self.at(&metadata).is_none_or(Value::is_null) {
            adds.push(Addition::map(kind.template().to_vec(), "metadata"));
        }
        if template.annotations.is_none() {
            adds.push(Addition::map(metadata.clone(), "annotations"));
        }
        let annotations: Vec<&'static str> = metadata.into_iter().chain(["annotations"]).collect();
        adds.push(Addition {
            path: annotations,
            name: INHERITED.to_owned(),
            value: Value::from(value),
        });
        Ok(adds)
    }

    /// Whether a template is the one that everybody expects in an object of its kind.
    pub(super) fn is_only_template(&self, site: &TemplateSite) -> bool {
        self.root().is_some_and(|root| site.path == root) || site.path.is_empty()
    }

    /// The same object with another value.
    pub(super) fn with<'w>(&self, value: &'w Value) -> Object<'w>
    where
        'v: 'w,
    {
        Object {
            value,
            path: self.path.clone(),
            api_version: self.api_version,
            kind: self.kind,
        }
    }

    /// Its value.
    pub(super) fn value(&self) -> &'v Value {
        self.value
    }
}

fn metadata_view<'v>(metadata: &'v Value, at: &str) -> Result<MetadataView<'v>, String> {
    MetadataView::deserialize(metadata).map_err(|_| {
        let annotations = metadata.get("annotations").and_then(Value::as_object);
        let bare = annotations
            .into_iter()
            .flatten()
            .find(|(name, value)| name.starts_with(PREFIX) && !value.is_string());
        match bare {
            Some((name, _)) => {
                format!("the annotation {name} is not a text; write its value in quotes")
            }
            None => format!("{at} has a field of another type than Kubernetes has there"),
        }
    })
}

/// Which part of a pod could not be read. A parser's own message would quote it.
fn culprit(pod: &Value, at: &dyn Fn(&str) -> String) -> String {
    if let Some(metadata) = pod.get("metadata").filter(|metadata| !metadata.is_null())
        && let Err(problem) = metadata_view(metadata, &at("metadata"))
    {
        return problem;
    }
    let wrong = WrongType::find::<PodView<'_>>(&pod.to_string());
    let unnamed = || {
        format!(
            "{} has a field of another type than Kubernetes has there",
            at("spec")
        )
    };
    wrong.map_or_else(unnamed, |wrong| wrong.with_path(at).to_string())
}
