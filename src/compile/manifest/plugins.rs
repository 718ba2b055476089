//! `plugins`: the selection of each category.

use std::collections::BTreeMap;
use std::str::FromStr;

use injection::SecretName;

use super::config::ConfigReader;
use super::diagnostics::{FieldReader, shown_key};
use super::shape::{NOT_A_SECRET_NAME, expected, is_null};
use super::source::SourceFile;
use crate::compile::model::{ConnectionSecret, Plugin};
use crate::finding::Rule;
use crate::yaml::{Entry, Node, Position};

/// Categories of the floe spec.
pub(crate) const CATEGORIES: [&str; 12] = [
    "compute",
    "orchestrator",
    "catalog",
    "storage",
    "semantic_layer",
    "ingestion",
    "secrets",
    "telemetry_backend",
    "lineage_backend",
    "identity",
    "dbt",
    "quality",
];

/// Fields of a selection.
const FIELDS: [&str; 4] = ["type", "version", "config", "connection_secret_ref"];

/// Fields that the floe spec has for `quality` in place of those of a selection.
pub(super) const QUALITY_FIELDS: [&str; 7] = [
    "provider",
    "quality_gates",
    "dimension_weights",
    "calculation",
    "thresholds",
    "check_timeout_seconds",
    "enabled",
];

/// Limit of a plugin's type, in bytes.
pub(super) const MAX_TYPE: usize = 64;

/// A selection that is not read yet.
#[derive(Clone, Copy)]
pub(super) struct Selection<'n> {
    pub file: &'n SourceFile,
    node: &'n Node,
    position: Position,
}

/// Selections by category. Unknown categories and selections that are not maps are reported.
pub(super) fn select<'n>(
    plugins: &'n Node,
    file: &'n SourceFile,
    reader: &mut FieldReader<'_>,
) -> BTreeMap<&'static str, Selection<'n>> {
    let mut selections = BTreeMap::new();
    let Some(entries) = plugins.entries() else {
        expected(plugins, "a map from categories to plugins", reader);
        return selections;
    };
    for entry in entries {
        let Some(category) = CATEGORIES.into_iter().find(|known| *known == entry.key) else {
            reader.within(&entry.key, |reader| {
                reader.error(
                    Rule::ManifestField,
                    entry.key_position,
                    format!(
                        "is not a category of plugins; the categories are {}",
                        CATEGORIES.join(", ")
                    ),
                );
            });
            continue;
        };
        // A null selects nothing, and the parent's selection stands.
        if is_null(&entry.node) || (category == "quality" && has_own_fields(&entry.node)) {
            continue;
        }
        reader.within(category, |reader| {
            if check_fields(&entry.node, reader) {
                let selection = Selection {
                    file,
                    node: &entry.node,
                    position: entry.key_position,
                };
                selections.insert(category, selection);
            }
        });
    }
    selections
}

/// Whether a selection of `quality` has the form that only this category has.
fn has_own_fields(node: &Node) -> bool {
    let is_own = |entry: &Entry| QUALITY_FIELDS.contains(&entry.key.as_str());
    node.entries()
        .is_some_and(|entries| !entries.is_empty() && entries.iter().all(is_own))
}

/// Checks the names of a selection's fields; whether it is a map at all.
fn check_fields(node: &Node, reader: &mut FieldReader<'_>) -> bool {
    let Some(entries) = node.entries() else {
        expected(
            node,
            "a map of type, version, config and connection_secret_ref",
            reader,
        );
        return false;
    };
    for entry in entries {
        if !FIELDS.contains(&entry.key.as_str()) {
            reader.error(
                Rule::ManifestField,
                entry.key_position,
                format!(
                    "the field {} is not known here; the fields are {}, and settings of the plugin belong into config",
                    shown_key(&entry.key),
                    FIELDS.join(", ")
                ),
            );
        }
    }
    true
}

impl<'n> Selection<'n> {
    /// Value of `type`, without a check.
    pub(super) fn kind(&self) -> Option<&'n Node> {
        self.node.get("type")
    }

    /// Configuration, if it is not null.
    pub(super) fn config(&self) -> Option<&'n Node> {
        self.node.get("config").filter(|node| !is_null(node))
    }

    /// Reads the fields; `None` without a valid type.
    pub(super) fn read(
        &self,
        config: &mut ConfigReader<'_>,
        reader: &mut FieldReader<'_>,
    ) -> Option<Plugin> {
        let kind = self.read_kind(reader);
        self.check_version(reader);
        let connection = self.read_connection(reader);
        let fields = match self.config() {
            None => Vec::new(),
            Some(node) => reader.within("config", |reader| {
                if node.entries().is_none() {
                    expected(node, "a map of the plugin's settings", reader);
                }
                config.fields(node, reader)
            }),
        };
        Some(Plugin {
            kind: kind?,
            place: reader
                .file
                .place(Some(self.position), reader.path.to_string()),
            config: fields,
            connection,
        })
    }

    fn read_kind(&self, reader: &mut FieldReader<'_>) -> Option<String> {
        let Some(kind) = self.kind() else {
            let message = "the required field type is missing";
            reader.error(Rule::ManifestField, self.node.position, message);
            return None;
        };
        reader.within("type", |reader| match kind.text() {
            Some(text) if is_plugin_type(text) => Some(text.to_owned()),
            _ => {
                reader.error(
                    Rule::ManifestField,
                    kind.position,
                    format!(
                        "is not the type of a plugin: text of letters, digits, '_' and '-', starting with a letter, at most {MAX_TYPE} characters"
                    ),
                );
                None
            }
        })
    }

    fn check_version(&self, reader: &mut FieldReader<'_>) {
        let Some(version) = self.node.get("version").filter(|node| !is_null(node)) else {
            return;
        };
        if !version.text().is_some_and(is_version) {
            reader.within("version", |reader| {
                let message = "is not a version such as \"1.2.3\"; write three numbers in quotes";
                reader.error(Rule::ManifestField, version.position, message);
            });
        }
    }

    fn read_connection(&self, reader: &mut FieldReader<'_>) -> Option<ConnectionSecret> {
        let node = self
            .node
            .get("connection_secret_ref")
            .filter(|node| !is_null(node))?;
        reader.within("connection_secret_ref", |reader| {
            let secret = node.text().and_then(|text| SecretName::from_str(text).ok());
            if secret.is_none() {
                reader.error(Rule::Reference, node.position, NOT_A_SECRET_NAME);
            }
            Some(ConnectionSecret {
                secret: secret?,
                place: reader
                    .file
                    .place(Some(node.position), reader.path.to_string()),
            })
        })
    }
}

fn is_plugin_type(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.len() <= MAX_TYPE
        && text.bytes().all(inner)
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn is_version(text: &str) -> bool {
    let is_number = |part: &str| {
        !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split('.').count() == 3 && text.split('.').all(is_number)
}
