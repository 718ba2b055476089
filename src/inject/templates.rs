//! Pods and pod templates in objects of any kind.
//!
//! The paths in Kubernetes' own kinds are known. In other kinds, templates are found by their shape: operators use the
//! API's `PodTemplateSpec`, in a field that is named after it.

use serde_json::Value;

use super::argo;
use super::flink;
use super::objects::ManifestObject;
use super::template_site::{MAX_TEMPLATES, TemplateForm, TemplateSite};

/// Finds the pods and pod templates of an object.
///
/// # Errors
/// More than [`MAX_TEMPLATES`].
pub(crate) fn sites(object: &ManifestObject<'_>) -> Result<Vec<TemplateSite>, String> {
    let too_many = || format!("it has more than {MAX_TEMPLATES} pod templates; split it");
    if object.is_core("Pod") {
        return Ok(vec![TemplateSite {
            path: Vec::new(),
            form: TemplateForm::Pod,
            obstacle: None,
        }]);
    }
    let own: Option<Vec<String>> = object
        .template_path()
        .map(|path| path.iter().map(|field| (*field).to_owned()).collect());
    if is_built_in(object) {
        return Ok(own.map(TemplateSite::template).into_iter().collect());
    }
    let mut sites = argo::sites(object).unwrap_or_else(|| {
        let mut search = TemplateSearch {
            own: own.as_deref(),
            found: Vec::new(),
            path: Vec::new(),
        };
        search.visit(object.value(), FieldKind::Other);
        let found = search
            .found
            .into_iter()
            .map(TemplateSite::template)
            .filter(|site| object.is_pod_or_annotated(site));
        found
            .chain(own.clone().map(TemplateSite::template))
            .collect()
    });
    if sites.len() > MAX_TEMPLATES {
        return Err(too_many());
    }
    flink::mark_merged(object, &mut sites);
    Ok(sites)
}

/// Whether a kind is one of Kubernetes' own, whose only template is at a known path.
fn is_built_in(object: &ManifestObject<'_>) -> bool {
    matches!(object.group(), "" | "apps" | "batch")
}

/// Kind of a field, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    /// `template`, `podTemplate`, `workerTemplate`.
    Template,
    /// `templates`, `podTemplates`: a list of templates.
    Templates,
    Other,
}

impl FieldKind {
    fn of_name(name: &str) -> Self {
        let ends = |lower: &str, upper: &str| name.ends_with(lower) || name.ends_with(upper);
        if ends("template", "Template") {
            Self::Template
        } else if ends("templates", "Templates") {
            Self::Templates
        } else {
            Self::Other
        }
    }
}

/// Search for templates by their shape. The parser limits the depth of the recursion.
struct TemplateSearch<'a> {
    /// Path of the template that is known already.
    own: Option<&'a [String]>,
    found: Vec<Vec<String>>,
    path: Vec<String>,
}

impl TemplateSearch<'_> {
    fn visit(&mut self, value: &Value, field: FieldKind) {
        if self.found.len() > MAX_TEMPLATES || self.own == Some(self.path.as_slice()) {
            return;
        }
        match value {
            Value::Object(_) if field == FieldKind::Template && has_containers(value) => {
                self.found.push(self.path.clone());
            }
            Value::Object(map) => {
                let top = self.path.is_empty();
                for (name, value) in map
                    .iter()
                    .filter(|(name, _)| !top || !matches!(name.as_str(), "metadata" | "status"))
                {
                    self.visit_child(name.clone(), value, FieldKind::of_name(name));
                }
            }
            Value::Array(list) => {
                let each = if field == FieldKind::Templates {
                    FieldKind::Template
                } else {
                    FieldKind::Other
                };
                for (index, value) in list.iter().enumerate() {
                    self.visit_child(index.to_string(), value, each);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn visit_child(&mut self, name: String, value: &Value, field: FieldKind) {
        if value.is_object() || value.is_array() {
            self.path.push(name);
            self.visit(value, field);
            self.path.pop();
        }
    }
}

/// Whether a value has `spec.containers`, a list of objects with a name.
fn has_containers(template: &Value) -> bool {
    let containers = template
        .get("spec")
        .and_then(|spec| spec.get("containers"))
        .and_then(Value::as_array);
    let named = |container: &Value| container.get("name").is_some_and(Value::is_string);
    containers.is_some_and(|containers| !containers.is_empty() && containers.iter().all(named))
}
