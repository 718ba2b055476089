//! Literal secrets in the values of objects: variables of containers, and entries of ConfigMaps.

use serde_json::Value;

use super::report::Report;
use super::source::DocumentSource;
use crate::finding::Rule;
use crate::inject::objects::ManifestObject;
use crate::literals::Detector;

/// Reports literal secrets of an object. `title` names the object in messages.
pub(super) fn check(
    object: &ManifestObject<'_>,
    title: &str,
    source: &DocumentSource<'_>,
    detector: &Detector,
    report: &mut Report,
) {
    let mut search = LiteralSearch {
        object,
        title,
        source,
        detector,
        report,
        path: Vec::new(),
    };
    if object.is_core("ConfigMap") {
        search.config_map();
    } else {
        search.visit(object.value());
    }
}

/// Search for lists named `env`, wherever a kind has them. The parser limits the depth of the recursion.
struct LiteralSearch<'a, 'v, 's> {
    object: &'a ManifestObject<'v>,
    title: &'a str,
    source: &'a DocumentSource<'s>,
    detector: &'a Detector,
    report: &'a mut Report,
    path: Vec<String>,
}

impl LiteralSearch<'_, '_, '_> {
    fn visit(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    self.path.push(name.clone());
                    if let ("env", Value::Array(list)) = (name.as_str(), value) {
                        self.variables(list);
                    }
                    self.visit_parent(value);
                    self.path.pop();
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    self.path.push(index.to_string());
                    self.visit_parent(value);
                    self.path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Visits a map or list. Most values are neither.
    fn visit_parent(&mut self, value: &Value) {
        if value.is_object() || value.is_array() {
            self.visit(value);
        }
    }

    fn variables(&mut self, list: &[Value]) {
        for (index, variable) in list.iter().enumerate() {
            let text = |field: &str| variable.get(field).and_then(Value::as_str);
            let (Some(name), Some(value)) = (text("name"), text("value")) else {
                continue;
            };
            let index = index.to_string();
            let message = |rule: &str| {
                format!(
                    "variable \"{}\" has a value that looks like a secret ({rule}). Move it to a Secret, and request that by annotation secrets.floe.dev/env.{} or by valueFrom",
                    shown(name),
                    shown(name)
                )
            };
            self.value(name, value, &[&index, "value"], &message);
        }
    }

    fn config_map(&mut self) {
        let data = self.object.value().get("data").and_then(Value::as_object);
        for (name, value) in data.into_iter().flatten() {
            let Some(value) = value.as_str().filter(|value| is_one_value(value)) else {
                continue;
            };
            let message = |rule: &str| {
                format!(
                    "entry \"{}\" of a ConfigMap has a value that looks like a secret ({rule}). Move it to a Secret",
                    shown(name)
                )
            };
            self.value(name, value, &["data", name], &message);
        }
    }

    /// Reports a value at a path below the current one, if it looks like a secret and its line has no mark.
    fn value(&mut self, name: &str, value: &str, below: &[&str], message: &dyn Fn(&str) -> String) {
        let Some(detected) = self.detector.detect(name, value) else {
            return;
        };
        let path: Vec<&str> = self
            .path
            .iter()
            .map(String::as_str)
            .chain(below.iter().copied())
            .collect();
        let path = self.object.pointer(&path);
        if self.source.is_marked(&path) {
            return;
        }
        let title = self.title;
        let finding = || {
            let message = format!(
                "{title}: {}; a line with \"# pragma: allowlist secret\" is not checked.",
                message(&detected.rule)
            );
            self.source
                .finding(Rule::LiteralSecret, detected.severity, &path, message)
        };
        self.report.push_from(detected.severity, finding);
    }
}

/// Limit of a name in a message, in characters. Kubernetes allows more than a sentence can take.
const MAX_SHOWN: usize = 63;

/// Name for a message.
fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN).collect()
}

/// Whether an entry of a ConfigMap is one value, and not a file of settings. A private key has several lines.
fn is_one_value(value: &str) -> bool {
    let value = value.trim();
    !value.contains('\n') || value.starts_with("-----BEGIN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_config_maps_are_not_single_values() {
        assert!(is_one_value("hunter2\n") && is_one_value("-----BEGIN A-----\nx\n"));
        assert!(!is_one_value("a: b\nc: d\n"));
    }
}
