//! What an object says in our names, or nearly, and where nobody reads it.

use serde_json::{Map, Value};

use super::argo;
use super::objects::{Object, dotted, is_ours};
use super::template_site::TemplateSite;
use crate::defaults::ENABLED_LABEL;
use injection::{MAX_LISTED, PREFIX, WorkloadKind, is_annotation_as_label, near_prefix};

/// Sentences about one object.
pub(super) const MAX_SENTENCES: usize = 50;

/// Sentences about an object, to follow its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Annotations of ours that are not acted on.
    pub unread: Vec<String>,
    /// Names that may be meant to be ours.
    pub misnamed: Vec<String>,
}

/// Looks through a whole object but its status, which is nobody's wish.
pub(super) fn find(object: &Object<'_>, sites: &[TemplateSite]) -> Findings {
    let mut look = Look {
        object,
        sites,
        read: read_at(object, sites),
        findings: Findings::default(),
        path: Vec::new(),
    };
    look.visit(object.value());
    let Findings { unread, misnamed } = &mut look.findings;
    for sentences in [unread, misnamed] {
        let more = sentences.len().saturating_sub(MAX_SENTENCES);
        sentences.truncate(MAX_SENTENCES);
        if more > 0 {
            sentences.push(format!("there are {more} more such places"));
        }
    }
    look.findings
}

/// A sentence about a Secret, of which only the names of its own annotations are known.
pub(super) fn on_secret(names: &[String]) -> Option<String> {
    let names: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| is_ours(name))
        .collect();
    (!names.is_empty()).then(|| no_template(&names, "metadata.annotations", "Secret"))
}

/// Where annotations of ours are read, from the object on.
fn read_at(object: &Object<'_>, sites: &[TemplateSite]) -> Vec<Vec<String>> {
    let mut read: Vec<Vec<String>> = sites.iter().map(TemplateSite::annotations).collect();
    let own = || vec!["metadata".to_owned(), "annotations".to_owned()];
    // A ReplicaSet has the annotations of its Deployment on its own metadata: nobody wrote them there.
    if object.is_core("Namespace") || object.is_core("ServiceAccount") || object.is_owned() {
        read.push(own());
    }
    if object.workload().is_some() && !sites.is_empty() {
        read.push(own());
    }
    if object.workload() == Some(WorkloadKind::CronJob) {
        read.push(
            ["spec", "jobTemplate", "metadata", "annotations"]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    if let Some((path, None)) = argo::pod_metadata(object)
        && !sites.is_empty()
    {
        read.push(path);
    }
    read
}

struct Look<'a, 'v> {
    object: &'a Object<'v>,
    sites: &'a [TemplateSite],
    read: Vec<Vec<String>>,
    findings: Findings,
    path: Vec<String>,
}

impl Look<'_, '_> {
    fn visit(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let top = self.path.is_empty();
                for (name, value) in map.iter().filter(|(name, _)| !top || *name != "status") {
                    self.below(name, value, |look| match value {
                        Value::Object(map)
                            if name == "annotations" || name.ends_with("Annotations") =>
                        {
                            look.annotations(map);
                        }
                        Value::Object(map) if name == "labels" => look.labels(map),
                        _ => {}
                    });
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    self.below(&index.to_string(), value, |_| {});
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Looks at a map or list below, by its name and then inside. Most values are neither.
    fn below(&mut self, name: &str, value: &Value, by_name: impl FnOnce(&mut Self)) {
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
            .filter_map(|name| Some((name, near_prefix(name)?)));
        self.findings.misnamed.extend(near.map(|(name, meant)| {
            format!("annotation {name} in {at} has no effect: its prefix is not {PREFIX}. Did you mean {meant}?")
        }));
        let names: Vec<&str> = map
            .keys()
            .map(String::as_str)
            .filter(|name| is_ours(name))
            .collect();
        if !names.is_empty() && !self.read.contains(&self.path) {
            let sentence = self.unread(&names, &at);
            self.findings.unread.push(sentence);
        }
    }

    fn unread(&self, names: &[&str], at: &str) -> String {
        if let Some((path, Some(problem))) = argo::pod_metadata(self.object)
            && path == self.path
        {
            return format!(
                "{} not acted on for every pod: {problem}, or pass --allow-unknown.",
                subject(names, at)
            );
        }
        if self.sites.is_empty() {
            return no_template(names, at, self.object.kind);
        }
        let listed: Vec<String> = self
            .sites
            .iter()
            .take(MAX_LISTED)
            .map(|site| dotted(&site.annotations()))
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
            } else if let Some(meant) = near_prefix(name) {
                format!(
                    "label {name} in {at} has no effect: its prefix is not {PREFIX}. Did you mean {meant}?"
                )
            } else {
                continue;
            };
            self.findings.misnamed.push(sentence);
        }
    }
}

/// `annotations a, b in metadata.annotations are`, of many names the first few.
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

fn no_template(names: &[&str], at: &str, kind: &str) -> String {
    let them = if names.len() == 1 { "it" } else { "them" };
    format!(
        "{} not acted on: no pod template was found in this {kind}. Move {them} to a pod or a pod template; if a \
         controller copies {them} to its pods, where the webhook reads {them}, pass --allow-unknown.",
        subject(names, at)
    )
}
