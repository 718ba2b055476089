//! Literal secrets in a manifest: every text outside of references goes through the detector.

use std::str::FromStr;

use injection::SecretName;

use super::diagnostics::{Diagnostics, FieldReader};
use super::root::PlacedPattern;
use super::source::SourceFile;
use crate::finding::{FindingSeverity, Rule};
use crate::literals::{self, CustomPattern, Detector};
use crate::yaml::{Entry, Node, NodeValue, Position};

/// Reports the literal secrets of a document. Lines with a mark are left out.
pub(super) fn check(
    document: &Node,
    file: &SourceFile,
    custom_patterns: &[PlacedPattern],
    diagnostics: &mut Diagnostics,
) {
    let mut reader = FieldReader::new(file, diagnostics);
    let detector = detector(custom_patterns, &mut reader);
    let mut search = Search {
        detector: &detector,
        reader: &mut reader,
    };
    search.node("", None, document);
}

/// Detector with the custom patterns of the document. Patterns that cannot be used are reported.
fn detector(custom_patterns: &[PlacedPattern], reader: &mut FieldReader<'_>) -> Detector {
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
    detector: &'s Detector,
    reader: &'s mut FieldReader<'r>,
}

impl Search<'_, '_> {
    fn node(&mut self, field: &str, key: Option<Position>, node: &Node) {
        match &node.value {
            NodeValue::Text(text) => self.text(field, key, text, node.position),
            NodeValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let length = self.reader.path.push_index(index);
                    self.node(field, key, item);
                    self.reader.path.truncate(length);
                }
            }
            NodeValue::Map(entries) => entries.iter().for_each(|entry| self.entry(entry)),
            _ => {}
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let length = self.reader.path.push(&entry.key);
        if let Some(found) = self.detector.detect("", &entry.key) {
            self.report(&found.rule, found.severity, &[entry.key_position]);
        }
        let names_a_secret = (entry.key.ends_with("_secret_ref") || entry.key == "secretRef")
            && is_reference(&entry.node);
        if !names_a_secret {
            self.node(&entry.key, Some(entry.key_position), &entry.node);
        }
        self.reader.path.truncate(length);
    }

    fn text(&mut self, field: &str, key: Option<Position>, text: &str, at: Position) {
        if let Some(found) = self.detector.detect(field, text) {
            let positions: Vec<Position> = key.into_iter().chain([at]).collect();
            self.report(&found.rule, found.severity, &positions);
        }
    }

    fn report(&mut self, rule: &str, severity: FindingSeverity, positions: &[Position]) {
        let file = self.reader.file;
        let is_allowed = |at: &Position| literals::is_allowed(file.line(at.line));
        let Some(at) = positions.last() else { return };
        if positions.iter().any(is_allowed) {
            return;
        }
        self.reader.report(
            Rule::LiteralSecret,
            severity,
            *at,
            format!(
                "looks like a secret (rule {rule}); put it into a Secret and refer to it by {{secretRef: {{name: …, key: …}}}}, or mark the line with \"# pragma: allowlist secret\" if it is harmless"
            ),
        );
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
