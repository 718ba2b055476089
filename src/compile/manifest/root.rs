//! Fields at the root of a manifest.

use std::collections::BTreeMap;

use super::diagnostics::{Diagnostics, FieldReader, shown_key};
use super::plugins::{self, Selection};
use super::shape::{expected, is_null};
use super::source::SourceFile;
use crate::finding::{FindingSeverity, Rule};
use crate::literals::CustomPattern;
use crate::yaml::{Entry, Node, Position};

pub(super) const API_VERSION: &str = "floe.dev/v1";
pub(super) const KIND: &str = "Manifest";

/// Limit of a name in `metadata`, in bytes, as in the floe spec.
pub(crate) const MAX_NAME: usize = 63;

/// Limit of custom patterns in one manifest. Each is tried on every text.
pub(crate) const MAX_CUSTOM_PATTERNS: usize = crate::literals::MAX_PATTERNS;

/// Fields that the floe spec knows at the root.
pub(super) const KNOWN: [&str; 14] = [
    "apiVersion",
    "kind",
    "metadata",
    "scope",
    "parent_manifest",
    "plugins",
    "governance",
    "approved_plugins",
    "approved_sinks",
    "approved_products",
    "defaults",
    "artifacts",
    "observability",
    "resource_presets",
];

/// Fields that would make a manifest specific to an environment. The floe spec refuses them.
pub(super) const ENVIRONMENTS: [&str; 10] = [
    "env_overrides",
    "environments",
    "environment",
    "env",
    "dev",
    "staging",
    "prod",
    "production",
    "target_env",
    "floe_env",
];

/// Place of a manifest in a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManifestScope {
    Enterprise,
    Domain,
}

/// Root of a manifest. Selections of plugins are read later, because the default source of references is one of them.
pub(super) struct Root<'n> {
    /// `metadata.name`, if it is valid.
    pub name: Option<String>,
    pub scope: Option<ManifestScope>,
    pub scope_position: Position,
    pub plugins_position: Position,
    pub selections: BTreeMap<&'static str, Selection<'n>>,
    pub custom_patterns: Vec<PlacedPattern>,
}

/// A custom pattern, and its place for messages.
#[derive(Clone)]
pub(super) struct PlacedPattern {
    pub pattern: CustomPattern,
    pub position: Position,
}

impl<'n> Root<'n> {
    /// Reads the root. A problem of one field does not keep the others from being read.
    pub(super) fn read(
        node: &'n Node,
        file: &'n SourceFile,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut root = Self {
            name: None,
            scope: None,
            scope_position: node.position,
            plugins_position: node.position,
            selections: BTreeMap::new(),
            custom_patterns: Vec::new(),
        };
        let mut reader = FieldReader::new(file, diagnostics);
        let Some(entries) = node.entries() else {
            reader.error(
                Rule::ManifestField,
                node.position,
                format!(
                    "the manifest is {}; expected a map with apiVersion, kind, metadata and plugins",
                    node.value.type_name()
                ),
            );
            return root;
        };
        for required in ["apiVersion", "kind", "metadata", "plugins"] {
            if node.get(required).is_none() {
                let message = format!("the required field {required} is missing");
                reader.error(Rule::ManifestField, node.position, message);
            }
        }
        for entry in entries {
            reader.within(&entry.key, |reader| root.read_field(entry, file, reader));
        }
        root.check_parent_fields(node, &mut reader);
        root
    }

    fn read_field(&mut self, entry: &'n Entry, file: &'n SourceFile, reader: &mut FieldReader<'_>) {
        let node = &entry.node;
        match entry.key.as_str() {
            "apiVersion" => expect_text(node, API_VERSION, reader),
            "kind" => expect_text(node, KIND, reader),
            "metadata" => self.name = read_name(node, reader),
            "scope" => {
                self.scope_position = node.position;
                self.scope = read_scope(node, reader);
            }
            "plugins" => {
                self.plugins_position = entry.key_position;
                self.selections = plugins::select(node, file, reader);
            }
            "governance" => self.custom_patterns = read_custom_patterns(node, reader),
            key if ENVIRONMENTS.contains(&key) => reader.error(
                Rule::ManifestEnvironment,
                entry.key_position,
                "names an environment, and a manifest is the same in all of them; remove it, and give the differences by variables of the pod",
            ),
            key if !KNOWN.contains(&key) => reader.warning(
                Rule::ManifestUnknownField,
                entry.key_position,
                format!(
                    "is not a field of a manifest and has no effect; the fields are {}",
                    KNOWN.join(", ")
                ),
            ),
            _ => {}
        }
    }

    fn check_parent_fields(&self, node: &Node, reader: &mut FieldReader<'_>) {
        let is_set = |key| node.get(key).filter(|node| !is_null(node));
        if let Some(parent) = is_set("parent_manifest")
            && self.scope != Some(ManifestScope::Domain)
        {
            reader.within("parent_manifest", |reader| {
                reader.error(
                    Rule::ManifestField,
                    parent.position,
                    "is only for manifests of scope: domain; remove it, or write scope: domain",
                );
            });
        }
    }
}

/// Checks a field with one allowed text.
fn expect_text(node: &Node, expected: &str, reader: &mut FieldReader<'_>) {
    if node.text() != Some(expected) {
        reader.error(
            Rule::ManifestField,
            node.position,
            format!("is not {expected}, the only one that is read"),
        );
    }
}

/// `metadata.name`. The other fields of `metadata` are not used here.
fn read_name(node: &Node, reader: &mut FieldReader<'_>) -> Option<String> {
    if node.entries().is_none() {
        expected(node, "a map with a name", reader);
        return None;
    }
    let Some(name) = node.get("name") else {
        reader.error(
            Rule::ManifestField,
            node.position,
            "the required field name is missing",
        );
        return None;
    };
    reader.within("name", |reader| match name.text() {
        Some(text) if is_manifest_name(text) => Some(text.to_owned()),
        _ => {
            reader.error(
                Rule::ManifestField,
                name.position,
                format!(
                    "is not a name: lower-case letters, digits and '-', starting and ending with a letter or digit, at most {MAX_NAME} characters"
                ),
            );
            None
        }
    })
}

fn is_manifest_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text is the name of a product: lower-case letters, digits and '-', starting with a letter.
pub(crate) fn is_product_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= MAX_NAME
        && text.bytes().all(inner)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn read_scope(node: &Node, reader: &mut FieldReader<'_>) -> Option<ManifestScope> {
    match node.text() {
        Some("enterprise") => Some(ManifestScope::Enterprise),
        Some("domain") => Some(ManifestScope::Domain),
        None if is_null(node) => None,
        _ => {
            reader.error(
                Rule::ManifestField,
                node.position,
                "is neither enterprise nor domain; write one of them, or remove the field",
            );
            None
        }
    }
}

/// `governance.secret_scanning.custom_patterns`. Everything else of `governance` is not read here.
fn read_custom_patterns(governance: &Node, reader: &mut FieldReader<'_>) -> Vec<PlacedPattern> {
    let Some(scanning) = governance.get("secret_scanning") else {
        return Vec::new();
    };
    let Some(list) = scanning.get("custom_patterns") else {
        return Vec::new();
    };
    reader.within("secret_scanning", |reader| {
        reader.within("custom_patterns", |reader| match list.items() {
            _ if is_null(list) => Vec::new(),
            Some(items) if items.len() <= MAX_CUSTOM_PATTERNS => {
                let items = items.iter().enumerate();
                items
                    .filter_map(|(index, item)| {
                        reader.within_item(index, |reader| read_custom_pattern(item, reader))
                    })
                    .collect()
            }
            Some(_) => {
                reader.error(
                    Rule::ManifestField,
                    list.position,
                    format!("has more than {MAX_CUSTOM_PATTERNS} patterns; join some of them"),
                );
                Vec::new()
            }
            None => {
                expected(list, "a list of {name, pattern, severity}", reader);
                Vec::new()
            }
        })
    })
}

fn read_custom_pattern(item: &Node, reader: &mut FieldReader<'_>) -> Option<PlacedPattern> {
    let Some(entries) = item.entries() else {
        expected(item, "a map of name, pattern and severity", reader);
        return None;
    };
    for entry in entries {
        if !["name", "pattern", "severity"].contains(&entry.key.as_str()) {
            reader.error(
                Rule::ManifestField,
                entry.key_position,
                format!(
                    "the field {} is not known; the fields are name, pattern, severity",
                    shown_key(&entry.key)
                ),
            );
        }
    }
    let mut text = |field: &str| {
        let found = item.get(field).and_then(Node::text);
        if found.is_none_or(str::is_empty) {
            let message = format!("the field {field} is missing or is not text");
            reader.error(Rule::ManifestField, item.position, message);
        }
        found.map(str::to_owned)
    };
    let (name, pattern) = (text("name"), text("pattern"));
    let severity = match item.get("severity").map(|node| (node.text(), node)) {
        None | Some((Some("error"), _)) => FindingSeverity::Error,
        Some((Some("warning"), _)) => FindingSeverity::Warning,
        Some((_, node)) => {
            reader.within("severity", |reader| {
                let message = "is neither error nor warning";
                reader.error(Rule::ManifestField, node.position, message);
            });
            return None;
        }
    };
    Some(PlacedPattern {
        pattern: CustomPattern {
            name: name?,
            pattern: pattern?,
            severity,
        },
        position: item.position,
    })
}
