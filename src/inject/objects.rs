//! The objects of a document, and the annotations that a workload's template inherits from its metadata.

use serde::Deserialize as _;
use serde_json::Value;

use super::template_site::{TemplateForm, TemplateSite};
use injection::{
    self, INHERITED, INJECTED, MetadataView, PREFIX, PodView, WorkloadKind, WrongType,
};

/// One object of a document. A list has many.
#[derive(Debug)]
pub(crate) struct ManifestObject<'v> {
    value: &'v Value,
    /// Path in the document.
    path: Vec<String>,
    api_version: &'v str,
    pub kind: &'v str,
}

/// A field that is added to a workload's template, from the workload's own annotations.
#[derive(Debug)]
pub(crate) struct PropagatedField {
    /// Path of the parent in the object.
    pub path: Vec<&'static str>,
    pub name: String,
    pub value: Value,
}

impl PropagatedField {
    /// An empty map.
    fn map(path: Vec<&'static str>, name: &str) -> Self {
        Self {
            path,
            name: name.to_owned(),
            value: Value::Object(serde_json::Map::new()),
        }
    }
}

/// Lists the objects of a document, with the items of its lists.
pub(crate) fn objects(document: &Value) -> Result<Vec<ManifestObject<'_>>, String> {
    let mut found = Vec::new();
    collect(document, Vec::new(), ("", ""), &mut found)?;
    Ok(found)
}

fn collect<'v>(
    value: &'v Value,
    path: Vec<String>,
    of_list: (&'v str, &'v str),
    found: &mut Vec<ManifestObject<'v>>,
) -> Result<(), String> {
    let location = || {
        if path.is_empty() {
            "the document".to_owned()
        } else {
            path.join(".")
        }
    };
    if !value.is_object() {
        return Err(format!("{} is no Kubernetes object", location()));
    }
    // Items of a PodList may omit their API version and kind.
    let text = |field, default| value.get(field).map_or(Some(default), Value::as_str);
    let (api_version, kind) = (text("apiVersion", of_list.0), text("kind", of_list.1));
    let (Some(api_version), Some(kind)) = (api_version, kind.filter(|kind| !kind.is_empty()))
    else {
        return Err(format!(
            "{} is no Kubernetes object: it says no kind",
            location()
        ));
    };
    match (
        kind.strip_suffix("List"),
        value.get("items").and_then(Value::as_array),
    ) {
        (Some(item_kind), Some(items)) if items.iter().all(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                let path = path
                    .iter()
                    .cloned()
                    .chain(["items".to_owned(), index.to_string()])
                    .collect();
                collect(item, path, (api_version, item_kind), found)?;
            }
        }
        _ => found.push(ManifestObject {
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

/// Value at a path through maps and lists.
pub(crate) fn value_at<'v>(value: &'v Value, path: &[impl AsRef<str>]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, field| match value {
        Value::Array(list) => list.get(field.as_ref().parse::<usize>().ok()?),
        value => value.get(field.as_ref()),
    })
}

/// Path in the notation of messages: `spec.workerGroupSpecs[0].template`.
pub(crate) fn dotted(path: &[impl AsRef<str>]) -> String {
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

/// Whether an annotation is under [`PREFIX`] and is not the webhook's record.
pub(crate) fn is_request_annotation(name: &str) -> bool {
    name.starts_with(PREFIX) && name != INJECTED
}

impl<'v> ManifestObject<'v> {
    pub(crate) fn at(&self, path: &[impl AsRef<str>]) -> Option<&'v Value> {
        value_at(self.value, path)
    }

    fn metadata(&self, field: &str) -> Option<&'v str> {
        self.at(&["metadata", field])?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    pub(crate) fn name(&self) -> Option<&'v str> {
        self.metadata("name")
    }

    pub(crate) fn namespace(&self) -> Option<&'v str> {
        self.metadata("namespace")
    }

    /// Kind and name, as in `Deployment "etl"`, after the index in a list.
    pub(crate) fn title(&self) -> String {
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

    /// API group; empty for the core group.
    pub(crate) fn group(&self) -> &'v str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// Whether the object is of this kind of the core group.
    pub(crate) fn is_core(&self, kind: &str) -> bool {
        self.api_version == "v1" && self.kind == kind
    }

    /// Whether a value that has the shape of a template is one. A value with annotations counts as one, so that it is
    /// reported if it cannot be read.
    pub(crate) fn is_pod_or_annotated(&self, site: &TemplateSite) -> bool {
        let annotations = self.at(&site.annotations_path()).and_then(Value::as_object);
        annotations
            .into_iter()
            .flatten()
            .any(|(name, _)| is_request_annotation(name))
            || self.pod(site).is_ok()
    }

    /// Whether a controller created the object. Its own annotations are that controller's copies then.
    pub(crate) fn is_owned(&self) -> bool {
        let owners = self
            .at(&["metadata", "ownerReferences"])
            .and_then(Value::as_array);
        owners
            .into_iter()
            .flatten()
            .any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
    }

    /// Kind, if the webhook serves the object as a workload.
    pub(crate) fn workload(&self) -> Option<WorkloadKind> {
        WorkloadKind::of_manifest(self.api_version, self.kind)
    }

    /// Metadata of the object itself, with the defaults of a Namespace or ServiceAccount.
    pub(crate) fn own_metadata(&self) -> Result<MetadataView<'v>, String> {
        match self.at(&["metadata"]) {
            None | Some(Value::Null) => Ok(MetadataView::default()),
            Some(metadata) => metadata_view(metadata, "metadata"),
        }
    }

    /// Path of the pod or the main pod template.
    pub(crate) fn template_path(&self) -> Option<&'static [&'static str]> {
        if self.is_core("Pod") {
            return Some(POD);
        }
        let candidates: &[&[&str]] = match self.kind {
            "PodTemplate" if self.api_version == "v1" => &[TEMPLATE],
            "CronJob" => &[JOB_TEMPLATE, SPEC_TEMPLATE],
            _ => &[SPEC_TEMPLATE],
        };
        // Any kind may have a field named template. A pod template has containers.
        let is_pod_template = |path: &&&[&str]| {
            let containers = self
                .at(path)
                .and_then(|template| template.get("spec")?.get("containers"));
            containers.is_some_and(Value::is_array)
        };
        candidates.iter().find(is_pod_template).copied()
    }

    /// Path in the document of a path in the object.
    pub(crate) fn pointer<'p>(&'p self, path: &'p [impl AsRef<str>]) -> Vec<&'p str> {
        self.path
            .iter()
            .map(String::as_str)
            .chain(path.iter().map(AsRef::as_ref))
            .collect()
    }

    /// Reads a pod or pod template.
    ///
    /// # Errors
    /// Sentence about the first invalid field.
    pub(crate) fn pod<'p>(&self, site: &'p TemplateSite) -> Result<PodView<'p>, String>
    where
        'v: 'p,
    {
        let value = match &site.form {
            TemplateForm::Pod | TemplateForm::Template => self.at(&site.path).unwrap_or(self.value),
            TemplateForm::Argo(template) => &template.pod,
        };
        PodView::deserialize(value).map_err(|_| {
            let at = |field: &str| {
                let path: Vec<&str> = site
                    .path
                    .iter()
                    .map(String::as_str)
                    .chain([field])
                    .collect();
                dotted(&path)
            };
            first_invalid_field(value, &at)
        })
    }

    /// Fields that the webhook would add to a workload's template, so that its pods inherit the workload's annotations.
    /// Parents come before their children.
    pub(crate) fn propagated(&self, site: &TemplateSite) -> Result<Vec<PropagatedField>, String> {
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
        let mut fields = Vec::new();
        let inherited = injection::inherit(from, template.annotations.as_ref());
        let current = template
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.value(INHERITED));
        let Some(value) = inherited.filter(|value| current != Some(value)) else {
            return Ok(fields);
        };
        if self.at(&metadata).is_none_or(Value::is_null) {
            fields.push(PropagatedField::map(kind.template().to_vec(), "metadata"));
        }
        if template.annotations.is_none() {
            fields.push(PropagatedField::map(metadata.clone(), "annotations"));
        }
        let annotations: Vec<&'static str> = metadata.into_iter().chain(["annotations"]).collect();
        fields.push(PropagatedField {
            path: annotations,
            name: INHERITED.to_owned(),
            value: Value::from(value),
        });
        Ok(fields)
    }

    /// Whether a template is at the usual path of the kind, so that messages need not name it.
    pub(crate) fn is_main_template(&self, site: &TemplateSite) -> bool {
        self.template_path().is_some_and(|path| site.path == path) || site.path.is_empty()
    }

    /// Returns the same object with another value.
    pub(crate) fn with_value<'w>(&self, value: &'w Value) -> ManifestObject<'w>
    where
        'v: 'w,
    {
        ManifestObject {
            value,
            path: self.path.clone(),
            api_version: self.api_version,
            kind: self.kind,
        }
    }

    pub(crate) fn value(&self) -> &'v Value {
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

/// Sentence about the first field of a pod that could not be read. The parser's own message would quote its value.
fn first_invalid_field(pod: &Value, at: &dyn Fn(&str) -> String) -> String {
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
