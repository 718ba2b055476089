//! Literal secrets in a manifest: every text and every number goes through the detector.

use std::collections::BTreeMap;
use std::str::FromStr;

use injection::SecretName;

use super::diagnostics::{Diagnostics, FieldReader};
use super::root::PlacedPattern;
use super::source::SourceFile;
use crate::finding::{FindingSeverity, Rule};
use crate::literals::{self, CustomPattern, Detector};
use crate::yaml::{Entry, Node, NodeValue, Position};

/// Reports the literal secrets of a document, by the detectors of its file and of its parent. Lines with a mark are left
/// out. Returns whether the names of Secrets and their keys are free of them, so that messages may have these names.
pub(super) fn check(
    document: &Node,
    file: &SourceFile,
    detectors: &[&Detector],
    diagnostics: &mut Diagnostics,
) -> bool {
    let mut reader = FieldReader::new(file, diagnostics);
    let mut search = Search {
        detectors,
        reader: &mut reader,
        names_are_harmless: true,
        marked_lines: BTreeMap::new(),
    };
    search.node("", None, document);
    search.names_are_harmless
}

/// Detector with the custom patterns of a file. Patterns that cannot be used are reported.
pub(super) fn detector(
    custom_patterns: &[PlacedPattern],
    file: &SourceFile,
    diagnostics: &mut Diagnostics,
) -> Detector {
    let mut reader = FieldReader::new(file, diagnostics);
    let patterns: Vec<CustomPattern> = custom_patterns
        .iter()
        .map(|placed| placed.pattern.clone())
        .collect();
    match Detector::default().with_custom_patterns(&patterns) {
        Ok(detector) => detector,
        Err(errors) => {
            for error in errors {
                let Some(custom) = custom_patterns.get(error.index) else {
                    continue;
                };
                let keys = ["governance", "secret_scanning", "custom_patterns"];
                let lengths = keys.map(|key| reader.path.push(key));
                reader.within_item(error.index, |reader| {
                    reader.error(Rule::ManifestField, custom.position, error.to_string());
                });
                lengths
                    .into_iter()
                    .rev()
                    .for_each(|length| reader.path.truncate(length));
            }
            Detector::default()
        }
    }
}

struct Search<'s, 'r> {
    detectors: &'s [&'s Detector],
    reader: &'s mut FieldReader<'r>,
    names_are_harmless: bool,
    /// Whether lines with a finding have a mark. A line may have thousands of values.
    marked_lines: BTreeMap<usize, bool>,
}

impl Search<'_, '_> {
    fn node(&mut self, field: &str, key: Option<Position>, node: &Node) {
        let number = match &node.value {
            NodeValue::Text(text) => {
                self.value(field, key, text, node.position);
                return;
            }
            NodeValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let length = self.reader.path.push_index(index);
                    self.node(field, key, item);
                    self.reader.path.truncate(length);
                }
                return;
            }
            NodeValue::Map(entries) => {
                for entry in entries {
                    self.entry(entry);
                }
                return;
            }
            NodeValue::Integer(number) => number.to_string(),
            NodeValue::Unsigned(number) => number.to_string(),
            NodeValue::Float(number) => number.to_string(),
            NodeValue::Null | NodeValue::Bool(_) => return,
        };
        self.value(field, key, &number, node.position);
    }

    fn entry(&mut self, entry: &Entry) {
        let length = self.reader.path.push(&entry.key);
        self.value("", None, &entry.key, entry.key_position);
        let names_a_secret = (entry.key.ends_with("_secret_ref") || entry.key == "secretRef")
            && is_reference(&entry.node);
        match &entry.node.value {
            _ if !names_a_secret => self.node(&entry.key, Some(entry.key_position), &entry.node),
            NodeValue::Map(names) => {
                for name in names {
                    let length = self.reader.path.push(&name.key);
                    self.name(name.key_position, &name.node);
                    self.reader.path.truncate(length);
                }
            }
            _ => self.name(entry.key_position, &entry.node),
        }
        self.reader.path.truncate(length);
    }

    /// Name of a Secret, or of a key of it. Only its own form can show that a secret stands there.
    fn name(&mut self, key: Position, node: &Node) {
        let Some(text) = node.text() else { return };
        let severity = self.value("", Some(key), text, node.position);
        if severity == Some(FindingSeverity::Error) {
            self.names_are_harmless = false;
        }
    }

    /// Severity of the finding about a value, if there is one.
    fn value(
        &mut self,
        field: &str,
        key: Option<Position>,
        text: &str,
        at: Position,
    ) -> Option<FindingSeverity> {
        let found = self
            .detectors
            .iter()
            .filter_map(|detector| detector.detect(field, text))
            .min_by_key(|found| found.severity)?;
        if self.is_allowed(at) || key.is_some_and(|key| self.is_allowed(key)) {
            return None;
        }
        self.reader.report(
            Rule::LiteralSecret,
            found.severity,
            at,
            format!(
                "looks like a secret (rule {}); put it into a Secret and refer to it by {{secretRef: {{name: …, key: …}}}}, or mark the line with \"# pragma: allowlist secret\" if it is harmless",
                found.rule
            ),
        );
        Some(found.severity)
    }

    fn is_allowed(&mut self, at: Position) -> bool {
        let file = self.reader.file;
        let mark = || literals::is_allowed(file.line(at.line));
        *self.marked_lines.entry(at.line).or_insert_with(mark)
    }
}

/// Whether a node has the form of a reference: the name of a Secret, or a map whose texts are names.
fn is_reference(node: &Node) -> bool {
    match &node.value {
        NodeValue::Text(text) => SecretName::from_str(text).is_ok(),
        NodeValue::Map(entries) => entries.iter().all(|entry| {
            ["source", "name", "key"].contains(&entry.key.as_str())
                && !matches!(entry.node.value, NodeValue::List(_) | NodeValue::Map(_))
        }),
        _ => false,
    }
}
