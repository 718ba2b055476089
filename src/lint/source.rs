//! Positions of fields in the text of a file.
//!
//! A document is parsed with positions only when something is found in it.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::finding::{FileFinding, FindingSeverity, Place, Rule};
use crate::inject::documents::Document;
use crate::inject::input::{Input, MAX_DEPTH};
use crate::inject::objects::dotted;
use crate::yaml::{self, Node, NodeValue, Position, YamlLimits, masked_line};

/// Limits of a document whose positions are looked for. Beyond them, findings have the document's first line.
pub(super) const LIMITS: YamlLimits = YamlLimits {
    bytes: 64 * 1024 * 1024,
    depth: MAX_DEPTH,
    nodes: 2_000_000,
    aliases: 10_000,
};

/// Limit of the bytes of a line that are looked at: for a mark, and for an excerpt. JSON may be one line of any length.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// One file or standard input.
pub(super) struct FileSource<'i> {
    pub(super) input: &'i Input,
    name: Arc<str>,
    /// Offsets of the lines.
    lines: OnceCell<Vec<usize>>,
}

impl<'i> FileSource<'i> {
    pub(super) fn new(input: &'i Input) -> Self {
        Self {
            input,
            name: input.name.as_str().into(),
            lines: OnceCell::new(),
        }
    }

    pub(super) fn document<'s>(&'s self, document: &'s Document) -> DocumentSource<'s> {
        DocumentSource {
            file: self,
            document,
            root: OnceCell::new(),
        }
    }

    /// Finding at a position of the file. `field` is the path of the field; a part of a list is in brackets.
    pub(super) fn finding_at(
        &self,
        rule: Rule,
        severity: FindingSeverity,
        position: Position,
        field: &str,
        message: String,
    ) -> FileFinding {
        let name = field.rsplit('.').next().unwrap_or_default();
        self.finding(rule, severity, (position, field.to_owned(), name), message)
    }

    fn finding(
        &self,
        rule: Rule,
        severity: FindingSeverity,
        (position, field, name): (Position, String, &str),
        message: String,
    ) -> FileFinding {
        let line = self.line(position.line);
        FileFinding {
            rule,
            severity,
            place: Place {
                file: Arc::clone(&self.name),
                position: Some(position),
                field,
            },
            message,
            excerpt: Some(masked_line(line, &|key| key == name)),
        }
    }

    /// Text of a line, from 1; empty beyond the last.
    pub(super) fn line(&self, number: usize) -> &'i str {
        let text = self.input.text();
        let lines = self.lines.get_or_init(|| {
            let ends = text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(ends).collect()
        });
        let Some(start) = number.checked_sub(1).and_then(|index| lines.get(index)) else {
            return "";
        };
        let end = lines.get(number).copied().unwrap_or(text.len());
        let line = text.get(*start..end).unwrap_or_default();
        let line = line.get(..line.floor_char_boundary(MAX_LINE_BYTES));
        line.unwrap_or_default().trim_end_matches(['\n', '\r'])
    }
}

/// One document of a file.
pub(super) struct DocumentSource<'s> {
    pub(super) file: &'s FileSource<'s>,
    pub(super) document: &'s Document,
    root: OnceCell<Option<Node>>,
}

impl DocumentSource<'_> {
    pub(super) fn input(&self) -> &Input {
        self.file.input
    }

    /// Position of a field: of its key, or of its nearest parent that is there. The document's first line if the
    /// document cannot be parsed with positions.
    fn position(&self, path: &[&str]) -> Position {
        let first_line = Position {
            line: self.document.line,
            column: 1,
        };
        let root = self
            .root
            .get_or_init(|| yaml::parse(self.file.input.chunk(self.document), LIMITS).ok());
        let Some(root) = root else { return first_line };
        let at = locate(root, path).unwrap_or(root.position);
        let column = if at.line == 1 {
            at.column + self.first_column()
        } else {
            at.column
        };
        Position {
            line: self.document.first_line + at.line.saturating_sub(1),
            column,
        }
    }

    /// Characters before the document on its first line.
    fn first_column(&self) -> usize {
        let before = self.file.input.text().get(..self.document.span.start);
        let line = before.and_then(|before| before.rsplit('\n').next());
        line.map_or(0, |line| line.chars().count())
    }

    /// Line of a field, as it stands in the file.
    pub(super) fn line(&self, path: &[&str]) -> &str {
        self.file.line(self.position(path).line)
    }

    /// Finding about a field of the document.
    pub(super) fn finding(
        &self,
        rule: Rule,
        severity: FindingSeverity,
        path: &[&str],
        message: String,
    ) -> FileFinding {
        let position = self.position(path);
        let name = path.last().copied().unwrap_or_default();
        self.file
            .finding(rule, severity, (position, dotted(path), name), message)
    }
}

/// Position of the last field of a path that is there.
fn locate(root: &Node, path: &[&str]) -> Option<Position> {
    let (mut node, mut position) = (root, None);
    for field in path {
        match &node.value {
            NodeValue::Map(entries) => {
                let Some(entry) = entries.iter().find(|entry| entry.key == *field) else {
                    break;
                };
                position = Some(entry.key_position);
                node = &entry.node;
            }
            NodeValue::List(items) => {
                let Some(item) = field.parse::<usize>().ok().and_then(|at| items.get(at)) else {
                    break;
                };
                position = Some(item.position);
                node = item;
            }
            _ => break,
        }
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(text: &str, path: &[&str]) -> Vec<(usize, usize)> {
        let input = Input::new("f".to_owned(), text.as_bytes().to_vec()).unwrap();
        let source = FileSource::new(&input);
        let position = |document| {
            let at = source.document(document).position(path);
            (at.line, at.column)
        };
        input.documents.iter().map(position).collect()
    }

    #[test]
    fn positions_count_from_the_file_and_fall_back_to_parents() {
        let text = "# c\n---\nkind: A\nspec:\n  list:\n  - name: x\n---  \n\nspec: {list: []}\n";
        assert_eq!(
            positions(text, &["spec", "list", "0", "name"]),
            [(6, 5), (9, 8)]
        );
        assert_eq!(positions(text, &["none"]), [(3, 1), (9, 1)]);
    }

    #[test]
    fn json_objects_on_one_line_have_columns() {
        let text = "{\"a\": 1} {\"b\": {\"a\": 2}}\n{\n\t\"a\": 3}";
        let found = positions(text, &["a"]);
        assert_eq!(found.first(), Some(&(1, 2)));
        assert_eq!(positions(text, &["b", "a"]).get(1), Some(&(1, 17)));
        assert_eq!(found.get(2), Some(&(3, 2)));
    }

    #[test]
    fn lines_are_cut_at_the_limit() {
        let text = format!("a: {}\r\nb: c", "é".repeat(MAX_LINE_BYTES));
        let input = Input::new("f".to_owned(), text.into_bytes()).unwrap();
        let source = FileSource::new(&input);
        assert_eq!(source.line(1).len(), MAX_LINE_BYTES - 1);
        assert_eq!(
            (source.line(2), source.line(3), source.line(0)),
            ("b: c", "", "")
        );
    }

    #[test]
    fn excerpts_are_masked() {
        let text =
            "kind: A\nmetadata:\n  annotations:\n    secrets.floe.dev/refs: hunter2 # hunter2\n";
        let input = Input::new("f".to_owned(), text.as_bytes().to_vec()).unwrap();
        let source = FileSource::new(&input);
        let document = source.document(&input.documents[0]);
        let path = ["metadata", "annotations", "secrets.floe.dev/refs"];
        let finding = document.finding(
            Rule::Annotation,
            FindingSeverity::Error,
            &path,
            String::new(),
        );
        assert_eq!(
            finding.excerpt.as_deref(),
            Some("    secrets.floe.dev/refs: …")
        );
        assert_eq!(
            finding.place.field,
            "metadata.annotations.secrets.floe.dev/refs"
        );
        assert_eq!(
            document.line(&path),
            "    secrets.floe.dev/refs: hunter2 # hunter2"
        );
    }
}
