//! A pod or pod template in an object: where it is, and how it is written.

use serde_json::Value;

/// Pod templates of one object. Operators have a handful of fields for them, and lists of a few.
pub(super) const MAX_TEMPLATES: usize = 1_000;

/// A pod, or something that pods are made from.
#[derive(Debug)]
pub(super) struct TemplateSite {
    /// Where it stands, from the object on.
    pub path: Vec<String>,
    /// How to read and write it.
    pub form: Form,
    /// Why what is injected here would not reach the pods as it should, and what to do instead.
    pub obstacle: Option<String>,
}

/// How a pod is written down.
#[derive(Debug)]
pub(super) enum Form {
    /// The object itself is the pod.
    Pod,
    /// As a `PodTemplateSpec`.
    Template,
    /// As a template of an Argo workflow.
    Argo(Box<ArgoTemplate>),
}

impl TemplateSite {
    pub(super) fn template(path: Vec<String>) -> Self {
        Self {
            path,
            form: Form::Template,
            obstacle: None,
        }
    }

    /// Where its annotations stand, from the object on.
    pub(super) fn annotations(&self) -> Vec<String> {
        self.path
            .iter()
            .cloned()
            .chain(["metadata".to_owned(), "annotations".to_owned()])
            .collect()
    }
}

/// A template of a workflow, and the pod that Argo makes of it, without what Argo itself adds.
#[derive(Debug)]
pub(super) struct ArgoTemplate {
    /// The pod as the planner reads it.
    pub pod: Value,
    /// Where each container of the pod stands, from the template on, in the pod's order.
    pub(super) containers: Vec<Vec<String>>,
    pub(super) init_containers: Vec<Vec<String>>,
}
