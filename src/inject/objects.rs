//! What in a document is a pod or has the template of one, and which of our annotations stand where nobody reads
//! them.

use std::fmt;

use serde::Deserialize as _;
use serde_json::Value;

use crate::injection::{ContainerView, INJECTED, MetadataView, PREFIX, PodView, WorkloadKind, carry};

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

/// Annotations of ours where they have no effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// Their names.
    pub names: Vec<String>,
    /// Where they stand, from the object on.
    pub at: &'static str,
    /// Where they would have an effect, if anywhere.
    pub belongs: Option<String>,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, at, belongs } = self;
        let (annotations, have, them, belong) = if names.len() == 1 {
            ("annotation", "has", "it", "it belongs")
        } else {
            ("annotations", "have", "them", "they belong")
        };
        write!(f, "{annotations} {} in {at} {have} no effect there; ", names.join(", "))?;
        match belongs {
            Some(belongs) => write!(f, "move {them} to {belongs}"),
            None => write!(f, "{belong} to pods and pod templates"),
        }
    }
}

impl Addition {
    /// An empty map.
    fn map(path: Vec<&'static str>, name: &str) -> Self {
        Self { path, name: name.to_owned(), value: Value::Object(serde_json::Map::new()) }
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
    let place = || if path.is_empty() { "the document".to_owned() } else { path.join(".") };
    if !value.is_object() {
        return Err(format!("{} is no Kubernetes object", place()));
    }
    // The items of a PodList need not say again what they are.
    let text = |field, otherwise| value.get(field).map_or(Some(otherwise), Value::as_str);
    let (api_version, kind) = (text("apiVersion", inherited.0), text("kind", inherited.1));
    let (Some(api_version), Some(kind)) = (api_version, kind.filter(|kind| !kind.is_empty())) else {
        return Err(format!("{} is no Kubernetes object: it says no kind", place()));
    };
    match (kind.strip_suffix("List"), value.get("items").and_then(Value::as_array)) {
        (Some(of), Some(items)) if items.iter().all(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                let path = path.iter().cloned().chain(["items".to_owned(), index.to_string()]).collect();
                collect(item, path, (api_version, of), found)?;
            }
        }
        _ => found.push(Object { value, path, api_version, kind }),
    }
    Ok(())
}

const POD: &[&str] = &[];
const TEMPLATE: &[&str] = &["template"];
const SPEC_TEMPLATE: &[&str] = &["spec", "template"];
const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template"];

impl<'v> Object<'v> {
    fn at(&self, path: &[&str]) -> Option<&'v Value> {
        path.iter().try_fold(self.value, |value, field| value.get(field))
    }

    fn metadata(&self, field: &str) -> Option<&'v str> {
        self.at(&["metadata", field])?.as_str().filter(|text| !text.is_empty())
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

    /// Whether it is of this kind of the core group.
    pub(super) fn is_core(&self, kind: &str) -> bool {
        self.api_version == "v1" && self.kind == kind
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
            let containers = self.at(root).and_then(|template| template.get("spec")?.get("containers"));
            containers.is_some_and(Value::is_array)
        };
        candidates.iter().find(makes_pods).copied()
    }

    /// Where in the document that pod or template stands.
    pub(super) fn pointer(&self, root: &'static [&'static str]) -> Vec<&str> {
        self.path.iter().map(String::as_str).chain(root.iter().copied()).collect()
    }

    /// The pod, or the template of one; or where it is not what Kubernetes has there.
    pub(super) fn pod(&self, root: &'static [&'static str]) -> Result<PodView<'v>, String> {
        let value = self.at(root).unwrap_or(self.value);
        PodView::deserialize(value).map_err(|_| {
            let at = |place: &str| root.iter().copied().chain([place]).collect::<Vec<_>>().join(".");
            culprit(value, &at)
        })
    }

    /// What the webhook would copy from the workload's own annotations to its template, so that pods made from it
    /// have it. Each parent comes before what stands in it.
    pub(super) fn carried(&self) -> Result<Vec<Addition>, String> {
        let Some(kind) = WorkloadKind::of_manifest(self.api_version, self.kind) else { return Ok(Vec::new()) };
        if self.root() != Some(kind.template()) {
            return Ok(Vec::new());
        }
        let at = |path: &[&str], name: &str| match self.at(path) {
            None | Some(Value::Null) => Ok(MetadataView::default()),
            Some(metadata) => metadata_view(metadata, name),
        };
        let own = at(&["metadata"], "metadata")?;
        let job = at(&["spec", "jobTemplate", "metadata"], "spec.jobTemplate.metadata")?;
        let metadata: Vec<&'static str> = kind.template().iter().copied().chain(["metadata"]).collect();
        let template = at(&metadata, &metadata.join("."))?;
        let from = [job.annotations.as_ref(), own.annotations.as_ref()];
        let carry = carry(from, template.annotations.as_ref(), &std::collections::BTreeMap::new());
        let mut adds = Vec::new();
        if carry.changes.is_empty() {
            return Ok(adds);
        }
        if self.at(&metadata).is_none_or(Value::is_null) {
            adds.push(Addition::map(kind.template().to_vec(), "metadata"));
        }
        if template.annotations.is_none() {
            adds.push(Addition::map(metadata.clone(), "annotations"));
        }
        let annotations: Vec<&'static str> = metadata.into_iter().chain(["annotations"]).collect();
        let changes = carry.changes.into_iter().filter_map(|(key, value)| Some((key, value?)));
        adds.extend(changes.map(|(key, value)| Addition {
            path: annotations.clone(),
            name: format!("{PREFIX}{key}"),
            value: Value::from(value),
        }));
        Ok(adds)
    }

    /// The same object with another value.
    pub(super) fn with<'w>(&self, value: &'w Value) -> Object<'w>
    where
        'v: 'w,
    {
        Object { value, path: self.path.clone(), api_version: self.api_version, kind: self.kind }
    }

    /// Its value.
    pub(super) fn value(&self) -> &'v Value {
        self.value
    }

    /// Annotations of ours beside the place where they are read.
    pub(super) fn misplaced(&self) -> Vec<Misplaced> {
        let root = self.root();
        let carried = WorkloadKind::of_manifest(self.api_version, self.kind).is_some() && root.is_some();
        if root == Some(POD) || carried || self.is_core("Namespace") || self.is_core("ServiceAccount") {
            return Vec::new();
        }
        let belongs = root.map(|root| format!("{}.metadata.annotations", root.join(".")));
        let places: &[(&[&str], &'static str)] = &[
            (&["metadata", "annotations"], "metadata.annotations"),
            (&["spec", "jobTemplate", "metadata", "annotations"], "spec.jobTemplate.metadata.annotations"),
        ];
        let named = places.iter().map(|(path, at)| Misplaced {
            names: self
                .at(path)
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(serde_json::Map::keys)
                .filter(|name| name.starts_with(PREFIX) && *name != INJECTED)
                .cloned()
                .collect(),
            at,
            belongs: belongs.clone(),
        });
        named.filter(|misplaced| !misplaced.names.is_empty()).collect()
    }
}

fn metadata_view<'v>(metadata: &'v Value, at: &str) -> Result<MetadataView<'v>, String> {
    MetadataView::deserialize(metadata).map_err(|_| {
        let annotations = metadata.get("annotations").and_then(Value::as_object);
        let bare =
            annotations.into_iter().flatten().find(|(name, value)| name.starts_with(PREFIX) && !value.is_string());
        match bare {
            Some((name, _)) => format!("the annotation {name} is not a text; write its value in quotes"),
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
    for list in ["containers", "initContainers"] {
        let containers = pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            if ContainerView::deserialize(container).is_err() {
                let place = at(&format!("spec.{list}[{index}]"));
                return format!("{place} has a field of another type than Kubernetes has there");
            }
        }
    }
    format!("{} has a field of another type than Kubernetes has there", at("spec"))
}
