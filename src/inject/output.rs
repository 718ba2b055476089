//! Documents back to text: patched ones are written anew in their own format, all others stay as they were.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::documents::{Document, Input, after_separator, content_start, is_blank, is_separator};
use super::encoding::MARK;
use super::request::ManifestFormat;
use super::unreadable::Unreadable;

/// Documents that are written anew, by input and number.
pub(super) type Changed = BTreeMap<(usize, usize), Value>;

/// The text of documents that are written anew, by input and number.
pub(super) type Rewritten = BTreeMap<(usize, usize), String>;

/// Writes documents anew: patched ones, and with `format` those of another format.
///
/// # Errors
/// An unpatched document that cannot be read as a whole; until now it was only looked at.
pub(super) fn rewrite(
    inputs: &[Input],
    mut changed: Changed,
    format: Option<ManifestFormat>,
) -> Result<Rewritten, Unreadable> {
    let mut rewritten = Rewritten::new();
    for (index, input) in inputs.iter().enumerate() {
        for document in &input.documents {
            let place = (index, document.number);
            let json = format.map_or(document.json, |format| format == ManifestFormat::Json);
            let value = match changed.remove(&place) {
                Some(value) => value,
                None if json == document.json => continue,
                None => input.read(document)?,
            };
            let text = if json {
                json_text(input, document, &value)
            } else {
                yaml_text(input, document, &value)
            };
            rewritten.insert(place, text);
        }
    }
    Ok(rewritten)
}

/// Writes the inputs one after the other; documents with an entry in `rewritten` as it says, and all else as it was.
pub(super) fn write(
    inputs: &[Input],
    rewritten: &Rewritten,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut before = Before::Nothing;
    for (index, input) in inputs.iter().enumerate() {
        let text = input.text();
        // A byte order mark has its meaning only at the start of a stream.
        let text = if before == Before::Nothing {
            text
        } else {
            text.trim_start_matches(MARK)
        };
        let skipped = input.text().len() - text.len();
        if before != Before::Nothing && !begins_with_separator(text) {
            before.separate(out)?;
            out.write_all(b"---\n")?;
            before = Before::Line;
        }
        let mut done = skipped;
        for document in &input.documents {
            let Some(text) = rewritten.get(&(index, document.number)) else {
                continue;
            };
            before.verbatim(
                input
                    .text()
                    .get(done..document.span.start)
                    .unwrap_or_default(),
                out,
            )?;
            before.verbatim(text, out)?;
            done = document.span.end;
        }
        before.verbatim(input.text().get(done..).unwrap_or_default(), out)?;
    }
    out.flush()
}

/// Writes the documents alone, as JSON objects back to back; comments and empty documents have no place there.
pub(super) fn write_json(
    inputs: &[Input],
    rewritten: &Rewritten,
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

/// What the output ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Line,
    HalfLine,
}

impl Before {
    fn verbatim(&mut self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if is_separator(text.split('\n').next().unwrap_or_default()) {
            self.separate(out)?;
        }
        out.write_all(text.as_bytes())?;
        *self = if text.ends_with('\n') {
            Self::Line
        } else {
            Self::HalfLine
        };
        Ok(())
    }

    /// Ends a line that an input left open.
    fn separate(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if *self == Self::HalfLine {
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

/// The separator and the comments at the head of a document.
fn head(chunk: &str) -> String {
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

/// A document as YAML, under the separator and the comments that stood at its head.
fn yaml_text(input: &Input, document: &Document, value: &Value) -> String {
    let separator = if document.joined { "---\n" } else { "" };
    format!("{separator}{}{}", head(input.chunk(document)), yaml(value))
}

/// A document as JSON, under the same: on one line where it was, and else with the indentation that it had.
fn json_text(input: &Input, document: &Document, value: &Value) -> String {
    let chunk = input.chunk(document);
    let content = chunk
        .get(content_start(chunk)..)
        .unwrap_or_default()
        .trim_end();
    let (_, second_line) = content.split_once('\n').unwrap_or_default();
    let indent = second_line.get(..second_line.len() - second_line.trim_start().len());
    let json = match indent {
        _ if !document.json => json_with(value, "    "),
        Some(indent) if !indent.is_empty() && !indent.contains('\n') => json_with(value, indent),
        _ => value.to_string(),
    };
    format!("{}{json}\n", head(chunk))
}

fn json_with(value: &Value, indent: &str) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, formatter,
        ))
        .expect("a JSON value, whose keys are texts, serialises");
    String::from_utf8(bytes).expect("JSON is text")
}

/// An object as YAML that readers of YAML 1.1 and 1.2 take alike.
fn yaml(value: &Value) -> String {
    // Long lines are not folded, and only tame texts become blocks: readers differ about the others.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(&Yaml(value), options)
        .expect("a JSON value, whose keys are texts, serialises");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A value whose scripts and other tame texts of many lines are written as literal blocks.
struct Yaml<'v>(&'v Value);

impl Serialize for Yaml<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, Yaml(value))))
            }
            Value::Array(list) => serializer.collect_seq(list.iter().map(Yaml)),
            Value::String(text) if is_tame_block(text) => {
                serde_saphyr::LitStr(text).serialize(serializer)
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

/// Whether every reader of YAML takes a literal block of this text alike: lines of printable characters that do
/// not begin or end in blanks where indentation or line breaks would have to be guessed.
fn is_tame_block(text: &str) -> bool {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let printable = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    lines.contains('\n')
        && !lines.starts_with([' ', '\n'])
        && !lines.ends_with('\n')
        && lines
            .split('\n')
            .all(|line| line.chars().all(printable) && (line.is_empty() || !line.trim().is_empty()))
}
