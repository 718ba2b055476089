//! Output of documents. Patched documents are rewritten in their own format, all others are printed as they were.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::documents::{Document, after_separator, content_start, is_blank, is_separator};
use super::encoding::MARK;
use super::input::Input;
use super::request::ManifestFormat;
use super::unreadable::UnreadableInput;

/// Patched documents, by index of the input and number of the document.
pub(super) type PatchedDocuments = BTreeMap<(usize, usize), Value>;

/// Texts of rewritten documents, by index of the input and number of the document.
pub(super) type RewrittenDocuments = BTreeMap<(usize, usize), String>;

/// Rewrites patched documents, and with `format` those of another format.
///
/// # Errors
/// An unpatched document that cannot be built. Its values were skipped until now.
pub(super) fn rewrite(
    inputs: &[Input],
    mut patched: PatchedDocuments,
    format: Option<ManifestFormat>,
) -> Result<RewrittenDocuments, UnreadableInput> {
    let mut rewritten = RewrittenDocuments::new();
    for (index, input) in inputs.iter().enumerate() {
        for document in &input.documents {
            let key = (index, document.number);
            let json = format.map_or(document.json, |format| format == ManifestFormat::Json);
            let value = match patched.remove(&key) {
                Some(value) => value,
                None if json == document.json => continue,
                None => input.read(document)?,
            };
            let text = if json {
                json_text(input, document, &value)
            } else {
                yaml_text(input, document, &value)
            };
            rewritten.insert(key, text);
        }
    }
    Ok(rewritten)
}

/// Writes the inputs one after the other, with the documents in `rewritten` replaced.
pub(super) fn write(
    inputs: &[Input],
    rewritten: &RewrittenDocuments,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut end = OutputEnd::Nothing;
    for (index, input) in inputs.iter().enumerate() {
        let text = input.text();
        // A byte order mark is only allowed at the start of a stream.
        let text = if end == OutputEnd::Nothing {
            text
        } else {
            text.trim_start_matches(MARK)
        };
        let skipped = input.text().len() - text.len();
        if end != OutputEnd::Nothing && !begins_with_separator(text) {
            end.end_line(out)?;
            out.write_all(b"---\n")?;
            end = OutputEnd::Line;
        }
        let mut done = skipped;
        for document in &input.documents {
            let Some(text) = rewritten.get(&(index, document.number)) else {
                continue;
            };
            end.write(
                input
                    .text()
                    .get(done..document.span.start)
                    .unwrap_or_default(),
                out,
            )?;
            end.write(text, out)?;
            done = document.span.end;
        }
        end.write(input.text().get(done..).unwrap_or_default(), out)?;
    }
    out.flush()
}

/// Writes the documents as JSON objects one after the other, without comments and empty documents.
pub(super) fn write_json(
    inputs: &[Input],
    rewritten: &RewrittenDocuments,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (index, input) in inputs.iter().enumerate() {
        for document in &input.documents {
            let text = rewritten
                .get(&(index, document.number))
                .map_or_else(|| input.chunk(document), String::as_str);
            let text = text
                .get(content_start(text)..)
                .unwrap_or_default()
                .trim_end();
            if text != "null" {
                writeln!(out, "{text}")?;
            }
        }
    }
    out.flush()
}

/// End of the output that is written so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OutputEnd {
    Nothing,
    Line,
    /// A line without its line break.
    OpenLine,
}

impl OutputEnd {
    fn write(&mut self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if is_separator(text.split('\n').next().unwrap_or_default()) {
            self.end_line(out)?;
        }
        out.write_all(text.as_bytes())?;
        *self = if text.ends_with('\n') {
            Self::Line
        } else {
            Self::OpenLine
        };
        Ok(())
    }

    /// Writes the line break that is missing at the end of an input.
    fn end_line(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if *self == Self::OpenLine {
            out.write_all(b"\n")?;
            *self = Self::Line;
        }
        Ok(())
    }
}

fn begins_with_separator(text: &str) -> bool {
    text.lines()
        .find(|line| is_separator(line) || !is_blank(line))
        .is_some_and(is_separator)
}

/// Separator and comments before a document's content.
fn document_head(chunk: &str) -> String {
    let mut head = String::new();
    for line in chunk.split_inclusive('\n') {
        let line = line.trim_start_matches(MARK);
        if head.is_empty() && is_separator(line) {
            if after_separator(line).is_empty() {
                head.push_str(line);
                continue;
            }
            head.push_str("---\n");
            break;
        }
        if !is_blank(line) {
            break;
        }
        head.push_str(line);
    }
    head
}

/// Document as YAML, after the separator and comments that were before its content.
fn yaml_text(input: &Input, document: &Document, value: &Value) -> String {
    let separator = if document.joined { "---\n" } else { "" };
    format!(
        "{separator}{}{}",
        document_head(input.chunk(document)),
        yaml(value)
    )
}

/// Document as JSON, after the same: on one line if it was, or with the indentation that it had.
fn json_text(input: &Input, document: &Document, value: &Value) -> String {
    let chunk = input.chunk(document);
    let content = chunk
        .get(content_start(chunk)..)
        .unwrap_or_default()
        .trim_end();
    let (_, second_line) = content.split_once('\n').unwrap_or_default();
    let indent = second_line.get(..second_line.len() - second_line.trim_start().len());
    let json = match indent {
        _ if !document.json => indented_json(value, "    "),
        Some(indent) if !indent.is_empty() && !indent.contains('\n') => {
            indented_json(value, indent)
        }
        _ => value.to_string(),
    };
    format!("{}{json}\n", document_head(chunk))
}

fn indented_json(value: &Value, indent: &str) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, formatter,
        ))
        .expect("a JSON value, whose keys are texts, serialises");
    String::from_utf8(bytes).expect("JSON is text")
}

/// Object as YAML that parsers of YAML 1.1 and 1.2 read alike.
fn yaml(value: &Value) -> String {
    // Long lines are not folded, and only portable texts become blocks: parsers differ about the others.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(&BlockYaml(value), options)
        .expect("a JSON value, whose keys are texts, serialises");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A value whose portable texts of many lines, such as scripts, are written as literal blocks.
struct BlockYaml<'v>(&'v Value);

impl Serialize for BlockYaml<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, BlockYaml(value))))
            }
            Value::Array(list) => serializer.collect_seq(list.iter().map(BlockYaml)),
            Value::String(text) if is_portable_block(text) => {
                serde_saphyr::LitStr(text).serialize(serializer)
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

/// Whether all parsers of YAML read a literal block of this text alike: lines of printable characters, without blanks
/// at the start and end where parsers would guess indentation or line breaks.
fn is_portable_block(text: &str) -> bool {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let printable = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    lines.contains('\n')
        && !lines.starts_with([' ', '\n'])
        && !lines.ends_with('\n')
        && lines
            .split('\n')
            .all(|line| line.chars().all(printable) && (line.is_empty() || !line.trim().is_empty()))
}
