//! Positions of fields in the text of a file.
//!
//! A document is parsed with positions only when something is found in it.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use crate::finding::{FileFinding, FindingSeverity, Place, Rule};
use crate::inject::documents::Document;
use crate::inject::input::{Input, MAX_DEPTH};
use crate::inject::objects::dotted;
use crate::literals::is_allowed;
use crate::yaml::{self, Node, NodeValue, Position, YamlLimits, masked_line};

/// Limits of a document whose positions are looked for. Beyond them, findings have the document's first line.
pub(super) const LIMITS: YamlLimits = YamlLimits {
    bytes: 64 * 1024 * 1024,
    depth: MAX_DEPTH,
    nodes: 2_000_000,
    aliases: 10_000,
    // Keys of annotations have at most 317; custom resources have any.
    key_bytes: 1024,
};

/// Limit of the bytes of a line that are looked at: for a mark, and for an excerpt. JSON may be one line of any length.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// One file or standard input.
pub(super) struct FileSource<'i> {
    pub(super) input: &'i Input,
    name: Arc<str>,
    /// Offsets of the lines.
    lines: OnceCell<Vec<usize>>,
    /// The line that was last looked at for a mark: JSON may have all values on one.
    marked: Cell<Option<(usize, bool)>>,
}

impl<'i> FileSource<'i> {
    pub(super) fn new(input: &'i Input) -> Self {
        Self {
            input,
            name: input.name.as_str().into(),
            lines: OnceCell::new(),
            marked: Cell::new(None),
        }
    }

    pub(super) fn document<'s>(&'s self, document: &'s Document) -> DocumentSource<'s> {
        DocumentSource {
            file: self,
            document,
            root: OnceCell::new(),
            first_column: OnceCell::new(),
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

    /// Whether a line has a mark that allows its literals.
    pub(super) fn is_marked(&self, number: usize) -> bool {
        match self.marked.get() {
            Some((line, is_marked)) if line == number => is_marked,
            _ => {
                let is_marked = is_allowed(self.line(number));
                self.marked.set(Some((number, is_marked)));
                is_marked
            }
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
    /// The document with the entries of each map in the order of their keys; `None` if it cannot be parsed with
    /// positions.
    root: OnceCell<Option<Node>>,
    first_column: OnceCell<usize>,
}

impl DocumentSource<'_> {
    pub(super) fn input(&self) -> &Input {
        self.file.input
    }

    /// Position of a field: of its key, or of its nearest parent that is there. `None` if the document cannot be parsed
    /// with positions.
    fn known_position(&self, path: &[&str]) -> Option<Position> {
        let root = self.root.get_or_init(|| {
            let mut root = yaml::parse(self.file.input.chunk(self.document), LIMITS).ok()?;
            root.sort_keys();
            Some(root)
        });
        let root = root.as_ref()?;
        let at = locate(root, path).unwrap_or(root.position);
        let column = if at.line == 1 {
            at.column + self.first_column()
        } else {
            at.column
        };
        Some(Position {
            line: self.document.first_line + at.line.saturating_sub(1),
            column,
        })
    }

    /// Position of a field, or the document's first line.
    fn position(&self, path: &[&str]) -> Position {
        self.known_position(path).unwrap_or(Position {
            line: self.document.line,
            column: 1,
        })
    }

    /// Whether the line of a field has a mark that allows its literals. Without positions there are no marks.
    pub(super) fn is_marked(&self, path: &[&str]) -> bool {
        self.known_position(path)
            .is_some_and(|at| self.file.is_marked(at.line))
    }

    /// Characters before the document on its first line.
    fn first_column(&self) -> usize {
        *self.first_column.get_or_init(|| {
            let before = self.file.input.text().get(..self.document.span.start);
            let line = before.and_then(|before| before.rsplit('\n').next());
            line.map_or(0, |line| line.chars().count())
        })
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

/// Position of the last field of a path that is there. Maps are in the order of their keys.
fn locate(root: &Node, path: &[&str]) -> Option<Position> {
    let (mut node, mut position) = (root, None);
    for field in path {
        match &node.value {
            NodeValue::Map(entries) => {
                let found = entries.binary_search_by(|entry| entry.key.as_str().cmp(field));
                let Some(entry) = found.ok().and_then(|at| entries.get(at)) else {
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
    fn marks_are_read_at_the_field_and_not_without_positions() {
        let is_marked = |text: &str| {
            let input = Input::new("f".to_owned(), text.as_bytes().to_vec()).unwrap();
            let source = FileSource::new(&input);
            let document = source.document(input.documents.last().unwrap());
            [&["b"][..], &["a"], &["b"]].map(|path| document.is_marked(path))
        };
        let text = "a: 1 # gitleaks:allow\nb: 2\n";
        assert_eq!(is_marked(text), [false, true, false]);
        let long = "k".repeat(LIMITS.key_bytes);
        assert_eq!(
            is_marked(&format!("{text}{long}: 1\n")),
            [false, true, false]
        );
        assert_eq!(is_marked(&format!("{text}{long}k: 1\n")), [false; 3]);
    }

    #[test]
    fn fields_of_large_maps_are_found_in_little_time() {
        let keys: Vec<String> = (0..40_000).rev().map(|index| format!("k{index}")).collect();
        let text = keys.join(": x\n") + ": x\n";
        let input = Input::new("f".to_owned(), text.into_bytes()).unwrap();
        let source = FileSource::new(&input);
        let document = source.document(&input.documents[0]);
        assert_eq!(document.position(&["k0"]).column, 1);
        let started = std::time::Instant::now();
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(document.position(&[key]).line, index + 1);
        }
        assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
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
    }
}
