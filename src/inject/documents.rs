//! The documents of an input, with their positions in its text.
//!
//! An input is split at its `---` lines before it is parsed: no YAML document contains such a line. JSON objects that
//! follow each other without such a line are documents too. Therefore unpatched documents are printed as they were
//! written, with their comments, and a Secret is never rebuilt.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::encoding::MARK;

/// One document of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Number from 1; empty documents are not counted.
    pub number: usize,
    /// Line of its first content, from 1.
    pub line: usize,
    /// Line of the separator before it, or its first line.
    pub first_line: usize,
    /// Bytes of the document and of that separator.
    pub span: Range<usize>,
    /// Whether it is one JSON object.
    pub json: bool,
    /// Whether it follows another JSON object without a separator.
    pub joined: bool,
}

/// Whether a document begins with this line: `---` alone or before a space.
pub(crate) fn is_separator(line: &str) -> bool {
    let line = line.strip_prefix(MARK).unwrap_or(line);
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether a line has no content: blank lines, comments, directives and `...`.
pub(crate) fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches(MARK).trim();
    line.is_empty() || line.starts_with(['#', '%']) || line == "..."
}

/// Content of a separator line after the separator; empty for a comment.
pub(crate) fn after_separator(line: &str) -> &str {
    let rest = line
        .strip_prefix(MARK)
        .unwrap_or(line)
        .get(3..)
        .unwrap_or_default();
    if is_blank(rest) { "" } else { rest }
}

/// Offset of a document's content: after the separator, blank lines, comments and byte order marks.
pub(crate) fn content_start(chunk: &str) -> usize {
    let mut offset = 0;
    for line in chunk.split_inclusive('\n') {
        let content = if offset == 0 && is_separator(line) {
            after_separator(line)
        } else {
            line
        };
        if !is_blank(content) {
            let content = content.trim_start_matches(|c: char| c == MARK || c.is_whitespace());
            return offset + line.len() - content.len();
        }
        offset += line.len();
    }
    chunk.len()
}

/// Splits a text into documents.
pub(crate) fn split(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    // Offset and first line of the current chunk, and the line of its first content.
    let (mut start, mut first_line, mut content) = (0, 1, None);
    let mut end = |start: usize, end: usize, first_line: usize, content: Option<usize>| {
        if let Some(line) = content {
            let chunk = Document {
                number: 0,
                line,
                first_line,
                span: start..end,
                json: false,
                joined: false,
            };
            documents.extend(split_json(text, chunk));
        }
    };
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        if is_separator(line) {
            end(start, offset, first_line, content);
            (start, first_line, content) = (offset, number, None);
            if !after_separator(line).is_empty() {
                content = Some(number);
            }
        } else if content.is_none() && !is_blank(line) {
            content = Some(number);
        }
        offset += line.len();
    }
    end(start, offset, first_line, content);
    for (index, document) in documents.iter_mut().enumerate() {
        document.number = index + 1;
    }
    documents
}

/// Splits a chunk into JSON objects that follow each other without a separator, as `jq '.items[]'` writes them. A chunk
/// that is not JSON is one document, and so is the rest after the last valid object.
fn split_json(text: &str, chunk: Document) -> Vec<Document> {
    let body = text.get(chunk.span.clone()).unwrap_or_default();
    let content = content_start(body);
    let body = body.get(content..).unwrap_or_default();
    if !body.starts_with('{') {
        return vec![chunk];
    }
    let mut documents = Vec::new();
    let mut rest = chunk;
    let mut start = rest.span.start + content;
    while let Some(length) = json_length(text.get(start..rest.span.end).unwrap_or_default()) {
        let end = start + length;
        let after = text.get(end..rest.span.end).unwrap_or_default();
        let next = after.trim_start();
        if next.is_empty() {
            documents.push(Document { json: true, ..rest });
            return documents;
        }
        let object = next.trim_start_matches(|c: char| c == MARK || c.is_whitespace());
        if !object.starts_with('{') {
            break;
        }
        // White space between two objects belongs to the first one, and a byte order mark to the second.
        let boundary = end + after.len() - next.len();
        start = end + after.len() - object.len();
        let lines = text
            .get(rest.span.start..boundary)
            .unwrap_or_default()
            .matches('\n')
            .count();
        let line = rest.first_line + lines;
        let span = boundary..rest.span.end;
        let following = Document {
            number: 0,
            line,
            first_line: line,
            span,
            json: false,
            joined: true,
        };
        documents.push(Document {
            json: true,
            span: rest.span.start..boundary,
            ..rest
        });
        rest = following;
    }
    documents.push(rest);
    documents
}

/// Length of the JSON value at the start of a text.
fn json_length(text: &str) -> Option<usize> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    stream.next()?.ok().map(|_| stream.byte_offset())
}
