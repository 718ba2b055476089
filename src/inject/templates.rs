//! Where pods and pod templates stand in an object of any kind.
//!
//! Kubernetes' own kinds are known. In all others templates are found by their shape: what operators call a pod template
//! is the API's `PodTemplateSpec`, under a field named after it.

use serde_json::Value;

use super::argo;
use super::flink;
use super::objects::Object;
use super::template_site::{Form, MAX_TEMPLATES, TemplateSite};

/// Every pod and template of an object.
///
/// # Errors
/// More than [`MAX_TEMPLATES`].
pub(super) fn sites(object: &Object<'_>) -> Result<Vec<TemplateSite>, String> {
    let too_many = || format!("it has more than {MAX_TEMPLATES} pod templates; split it");
    if object.is_core("Pod") {
        return Ok(vec![TemplateSite {
            path: Vec::new(),
            form: Form::Pod,
            obstacle: None,
        }]);
    }
    let own: Option<Vec<String>> = object
        .root()
        .map(|root| root.iter().map(|field| (*field).to_owned()).collect());
    if is_built_in(object) {
        return Ok(own.map(TemplateSite::template).into_iter().collect());
    }
    let mut sites = argo::sites(object).unwrap_or_else(|| {
        let mut walk = Walk {
            own: own.as_deref(),
            found: Vec::new(),
            path: Vec::new(),
        };
        walk.visit(object.value(), Field::Other);
        let found = walk
            .found
            .into_iter()
            .map(TemplateSite::template)
            .filter(|site| object.is_pod_or_asks(site));
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

/// Kubernetes' own kinds have no template but those that are known.
fn is_built_in(object: &Object<'_>) -> bool {
    matches!(object.group(), "" | "apps" | "batch")
}

/// What the name of a field says about the value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// `template`, `podTemplate`, `workerTemplate`.
    Template,
    /// `templates`, `podTemplates`: a list of them.
    Templates,
    Other,
}

impl Field {
    fn named(name: &str) -> Self {
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

/// Looks for templates by their shape. Deeper than the parser goes there is nothing.
struct Walk<'a> {
    /// The template that is known already.
    own: Option<&'a [String]>,
    found: Vec<Vec<String>>,
    path: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, value: &Value, field: Field) {
        if self.found.len() > MAX_TEMPLATES || self.own == Some(self.path.as_slice()) {
            return;
        }
        match value {
            Value::Object(_) if field == Field::Template && has_containers(value) => {
                self.found.push(self.path.clone());
            }
            Value::Object(map) => {
                let top = self.path.is_empty();
                for (name, value) in map
                    .iter()
                    .filter(|(name, _)| !top || !matches!(name.as_str(), "metadata" | "status"))
                {
                    self.below(name.clone(), value, Field::named(name));
                }
            }
            Value::Array(list) => {
                let each = if field == Field::Templates {
                    Field::Template
                } else {
                    Field::Other
                };
                for (index, value) in list.iter().enumerate() {
                    self.below(index.to_string(), value, each);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn below(&mut self, name: String, value: &Value, field: Field) {
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
