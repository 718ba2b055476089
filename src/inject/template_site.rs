//! Path and form of a pod or pod template in an object.

use serde_json::Value;

/// Limit of pod templates in one object. Kinds of operators have a few fields and short lists of them.
pub(crate) const MAX_TEMPLATES: usize = 1_000;

/// A pod or pod template in an object.
#[derive(Debug)]
pub(crate) struct TemplateSite {
    /// Path in the object.
    pub path: Vec<String>,
    pub form: TemplateForm,
    /// Reason for which entries in this template would not reach the pods, and what to do instead.
    pub obstacle: Option<String>,
}

/// Form of a pod or pod template.
#[derive(Debug)]
pub(crate) enum TemplateForm {
    /// The object itself is the pod.
    Pod,
    /// A `PodTemplateSpec`.
    Template,
    /// A template of an Argo workflow.
    Argo(Box<ArgoTemplate>),
}

impl TemplateSite {
    pub(crate) fn template(path: Vec<String>) -> Self {
        Self {
            path,
            form: TemplateForm::Template,
            obstacle: None,
        }
    }

    /// Path of its annotations in the object.
    pub(crate) fn annotations_path(&self) -> Vec<String> {
        self.path
            .iter()
            .cloned()
            .chain(["metadata".to_owned(), "annotations".to_owned()])
            .collect()
    }
}

/// A template of an Argo workflow, and its pod.
#[derive(Debug)]
pub(crate) struct ArgoTemplate {
    /// The pod that Argo creates from the template, without the fields that Argo adds.
    pub pod: Value,
    /// Paths of the pod's containers in the template, in the pod's order.
    pub(crate) containers: Vec<Vec<String>>,
    pub(crate) init_containers: Vec<Vec<String>>,
}

/// Sentence about entries that would not reach the pods from a template.
pub(crate) fn obstacle_sentence(obstacle: &str) -> String {
    format!("nothing can be injected here: {obstacle}, or pass --allow-unknown to leave it out.")
}
