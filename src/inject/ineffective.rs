//! Annotations and labels in an object that have no effect: annotations at places that are not acted on, and misspelled
//! names.

use serde_json::{Map, Value};

use super::argo;
use super::objects::{ManifestObject, dotted, is_request_annotation};
use super::template_site::TemplateSite;
use crate::defaults::ENABLED_LABEL;
use injection::{MAX_LISTED, PREFIX, WorkloadKind, is_annotation_as_label, suggested_name};

/// Limit of sentences of each kind about one object.
pub(crate) const MAX_SENTENCES: usize = 50;

/// Names in an object that have no effect.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IneffectiveNames {
    /// Annotations under [`PREFIX`] that are not acted on.
    pub ignored: Vec<IneffectiveName>,
    /// Names that are similar to those under [`PREFIX`], and annotations that are written as labels.
    pub misnamed: Vec<IneffectiveName>,
}

/// Names in one map that have no effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IneffectiveName {
    /// Path in the object of the first of the names; empty for the object as a whole.
    pub path: Vec<String>,
    /// Sentence that follows the location of the object.
    pub sentence: String,
}

/// Searches an object without its status, which no author writes.
pub(crate) fn find(object: &ManifestObject<'_>, sites: &[TemplateSite]) -> IneffectiveNames {
    let mut search = NameSearch {
        object,
        sites,
        effective: effective_paths(object, sites),
        found: IneffectiveNames::default(),
        path: Vec::new(),
    };
    search.visit(object.value());
    let IneffectiveNames { ignored, misnamed } = &mut search.found;
    for sentences in [ignored, misnamed] {
        let more = sentences.len().saturating_sub(MAX_SENTENCES);
        sentences.truncate(MAX_SENTENCES);
        if more > 0 {
            sentences.push(IneffectiveName {
                path: Vec::new(),
                sentence: format!("there are {more} more such places"),
            });
        }
    }
    search.found
}

/// Sentence about the annotations of a Secret under [`PREFIX`].
pub(crate) fn on_secret(names: &[String]) -> Option<String> {
    let names: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| is_request_annotation(name))
        .collect();
    (!names.is_empty()).then(|| no_template_sentence(&names, "metadata.annotations", "Secret"))
}

/// Paths in the object at which annotations are acted on.
fn effective_paths(object: &ManifestObject<'_>, sites: &[TemplateSite]) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = sites.iter().map(TemplateSite::annotations_path).collect();
    let own = || vec!["metadata".to_owned(), "annotations".to_owned()];
    // A ReplicaSet has copies of its Deployment's annotations in its metadata: no author wrote them there.
    if object.is_core("Namespace") || object.is_core("ServiceAccount") || object.is_owned() {
        paths.push(own());
    }
    if object.workload().is_some() && !sites.is_empty() {
        paths.push(own());
    }
    if object.workload() == Some(WorkloadKind::CronJob) {
        paths.push(
            ["spec", "jobTemplate", "metadata", "annotations"]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    if let Some((path, None)) = argo::pod_metadata(object)
        && !sites.is_empty()
    {
        paths.push(path);
    }
    paths
}

struct NameSearch<'a, 'v> {
    object: &'a ManifestObject<'v>,
    sites: &'a [TemplateSite],
    /// Paths at which annotations are acted on.
    effective: Vec<Vec<String>>,
    found: IneffectiveNames,
    /// Path of the visited value.
    path: Vec<String>,
}

impl NameSearch<'_, '_> {
    fn visit(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let top = self.path.is_empty();
                for (name, value) in map.iter().filter(|(name, _)| !top || *name != "status") {
                    self.visit_child(name, value, |search| match value {
                        Value::Object(map)
                            if name == "annotations" || name.ends_with("Annotations") =>
                        {
                            search.annotations(map);
                        }
                        Value::Object(map) if name == "labels" => search.labels(map),
                        _ => {}
                    });
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    self.visit_child(&index.to_string(), value, |_| {});
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Visits a map or list, by its name first and then inside. Most values are neither.
    fn visit_child(&mut self, name: &str, value: &Value, by_name: impl FnOnce(&mut Self)) {
        if value.is_object() || value.is_array() {
            self.path.push(name.to_owned());
            by_name(self);
            self.visit(value);
            self.path.pop();
        }
    }

    fn annotations(&mut self, map: &Map<String, Value>) {
        let at = dotted(&self.path);
        let near = map
            .keys()
            .filter_map(|name| Some((name, suggested_name(name)?)));
        self.found.misnamed.extend(near.map(|(name, meant)| IneffectiveName {
            path: [self.path.as_slice(), std::slice::from_ref(name)].concat(),
            sentence: format!("annotation {name} in {at} has no effect: its prefix is not {PREFIX}. Did you mean {meant}?"),
        }));
        let names: Vec<&str> = map
            .keys()
            .map(String::as_str)
            .filter(|name| is_request_annotation(name))
            .collect();
        if !names.is_empty() && !self.effective.contains(&self.path) {
            let sentence = self.ignored_sentence(&names, &at);
            let first = names.first().map(|name| (*name).to_owned());
            self.found.ignored.push(IneffectiveName {
                path: self.path.iter().cloned().chain(first).collect(),
                sentence,
            });
        }
    }

    fn ignored_sentence(&self, names: &[&str], at: &str) -> String {
        if let Some((path, Some(problem))) = argo::pod_metadata(self.object)
            && path == self.path
        {
            return format!(
                "{} not acted on for every pod: {problem}, or pass --allow-unknown.",
                subject(names, at)
            );
        }
        if self.sites.is_empty() {
            return no_template_sentence(names, at, self.object.kind);
        }
        let listed: Vec<String> = self
            .sites
            .iter()
            .take(MAX_LISTED)
            .map(|site| dotted(&site.annotations_path()))
            .collect();
        let more = match self.sites.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!(" or one of {more} more"),
        };
        let them = if names.len() == 1 { "it" } else { "them" };
        format!(
            "{} not acted on. Move {them} to {}{more}, or pass --allow-unknown to leave {them} there.",
            subject(names, at),
            listed.join(" or ")
        )
    }

    fn labels(&mut self, map: &Map<String, Value>) {
        let at = dotted(&self.path);
        let on_namespace = self.object.is_core("Namespace") && at == "metadata.labels";
        let allowed: &[&str] = if on_namespace {
            &[ENABLED_LABEL.0]
        } else {
            &[]
        };
        for name in map.keys() {
            let sentence = if is_annotation_as_label(name, allowed) {
                if *name == ENABLED_LABEL.0 {
                    format!(
                        "label {name} in {at} has no effect: as a label it belongs on a Namespace, and elsewhere it is an annotation."
                    )
                } else {
                    format!(
                        "label {name} in {at} has no effect: it is an annotation. Move it to the annotations beside the labels."
                    )
                }
            } else if let Some(meant) = suggested_name(name) {
                format!(
                    "label {name} in {at} has no effect: its prefix is not {PREFIX}. Did you mean {meant}?"
                )
            } else {
                continue;
            };
            self.found.misnamed.push(IneffectiveName {
                path: [self.path.as_slice(), std::slice::from_ref(name)].concat(),
                sentence,
            });
        }
    }
}

/// `annotations a, b in metadata.annotations are`; at most [`MAX_LISTED`] names are listed.
fn subject(names: &[&str], at: &str) -> String {
    let listed = names
        .iter()
        .take(MAX_LISTED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len() {
        1 => format!("annotation {listed} in {at} is"),
        many if many > MAX_LISTED => format!(
            "annotations {listed} and {} more in {at} are",
            many - MAX_LISTED
        ),
        _ => format!("annotations {listed} in {at} are"),
    }
}

fn no_template_sentence(names: &[&str], at: &str, kind: &str) -> String {
    let them = if names.len() == 1 { "it" } else { "them" };
    format!(
        "{} not acted on: no pod template was found in this {kind}. Move {them} to a pod or a pod template; if a \
         controller copies {them} to its pods, where the webhook reads {them}, pass --allow-unknown.",
        subject(names, at)
    )
}
