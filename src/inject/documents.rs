//! Inputs and their documents: bytes to objects, and patched objects back among the bytes that were left alone.
//!
//! An input is split at its `---` lines before it is parsed: no such line can stand inside a YAML document. So
//! whatever is not patched is given back as it was written, comments and all, and a Secret that passes through
//! is never rebuilt.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// One file, or standard input.
#[derive(Debug)]
pub(super) struct Input {
    /// As messages call it.
    pub name: String,
    text: String,
    /// What lies between the separators, and is not empty.
    pub documents: Vec<Document>,
}

/// One document of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// From 1, as a person counts: empty documents are none.
    pub number: usize,
    /// The line of its first content, from 1.
    pub line: usize,
    /// The line of the separator before it, or the first line.
    first_line: usize,
    /// Its bytes, with that separator.
    span: Range<usize>,
}

/// Where an input cannot be read, and in few words why. Never with a word of the input itself: it may hold
/// values of Secrets, and the parsers' own messages quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    input: String,
    line: Option<(usize, Option<usize>)>,
    problem: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, line, problem } = self;
        match line {
            Some((line, Some(column))) => write!(f, "{input}:{line}:{column}: {problem}"),
            Some((line, None)) => write!(f, "{input}:{line}: {problem}"),
            None => write!(f, "{input}: {problem}"),
        }
    }
}

// === reading ===

impl Input {
    /// Reads a file; `-` is `stdin`, which can be had once.
    pub(super) fn open<R: Read>(path: &Path, stdin: &mut Option<R>) -> Result<Self, Unreadable> {
        let mut bytes = Vec::new();
        if path == Path::new("-") {
            let name = "standard input".to_owned();
            let unreadable = |problem: String| Unreadable { input: name.clone(), line: None, problem };
            let mut stdin = stdin.take().ok_or_else(|| unreadable("it can be read only once".to_owned()))?;
            stdin.read_to_end(&mut bytes).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
            return Self::new(name, bytes);
        }
        let name = path.display().to_string();
        let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        match read {
            Ok(_) => Self::new(name, bytes),
            Err(error) => Err(Unreadable { input: name, line: None, problem: format!("cannot be read: {error}") }),
        }
    }

    /// Splits bytes into documents.
    pub(super) fn new(name: String, bytes: Vec<u8>) -> Result<Self, Unreadable> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = valid.split(|b| *b == b'\n').count();
            Unreadable { input: name.clone(), line: Some((line, None)), problem: "is not UTF-8 text".to_owned() }
        })?;
        let documents = split(&text);
        Ok(Self { name, text, documents })
    }

    /// The document's text, with the separator before it.
    fn chunk(&self, document: &Document) -> &str {
        self.text.get(document.span.clone()).unwrap_or_default()
    }

    /// Reads a document as far as `T` looks at it.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self, document: &Document) -> Result<T, Unreadable> {
        let chunk = self.chunk(document).trim_start_matches('\u{feff}');
        // JSON first: not all of its escapes, nor its tabs, are YAML.
        let body = chunk.strip_prefix("---").unwrap_or(chunk).trim_start();
        if body.starts_with('{')
            && let Ok(read) = serde_json::from_str(body)
        {
            return Ok(read);
        }
        serde_saphyr::from_str_with_options(chunk, options()).map_err(|error| {
            let error = error.without_snippet();
            let place = error.location().map(|at| {
                (document.first_line + usize::try_from(at.line()).unwrap_or(1).saturating_sub(1), at.column())
            });
            let line = place.map_or(document.line, |(line, _)| line);
            let column = place.and_then(|(_, column)| usize::try_from(column).ok());
            Unreadable { input: self.name.clone(), line: Some((line, column)), problem: category(error).to_owned() }
        })
    }

    /// A document that is YAML, but not what it should be.
    pub(super) fn unreadable(&self, document: &Document, problem: impl Into<String>) -> Unreadable {
        Unreadable { input: self.name.clone(), line: Some((document.line, None)), problem: problem.into() }
    }
}

/// As Kubernetes reads YAML: the scalars of YAML 1.1, and a key that stands twice is an error, as the API
/// server's strict decoding has it.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        ignore_binary_tag_for_string: true,
        // A document is read whole into memory anyway, and lists of a whole cluster are long.
        budget: serde_saphyr::budget! { max_events: 20_000_000, max_nodes: 10_000_000 },
    }
}

/// What is wrong, in words that quote nothing.
fn category(error: &serde_saphyr::Error) -> &'static str {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { .. } => "a key stands twice in one mapping",
        Error::UnknownAnchor { .. } => "an alias refers to no anchor",
        Error::MultipleDocuments { .. } => "a second document begins without --- before it",
        Error::Eof { .. } => "the document is cut off",
        Error::NonFiniteFloat { .. } => "an infinite number or NaN, which Kubernetes does not take",
        Error::SerdeInvalidType { .. }
        | Error::SerdeInvalidValue { .. }
        | Error::SerdeMissingField { .. }
        | Error::Unexpected { .. }
        | Error::NullIntoString { .. }
        | Error::InvalidScalar { .. } => "a field of another type than Kubernetes has there",
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            "the document is too large or too deep"
        }
        _ => "is not valid YAML",
    }
}

/// Where a document begins: `---` at the start of a line, alone or before a space.
fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Lines that hold nothing of an object.
fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim();
    line.is_empty() || line.starts_with(['#', '%']) || line == "..."
}

/// What a separator line holds beside the separator; a comment is nothing.
fn after_separator(line: &str) -> &str {
    let rest = line.get(3..).unwrap_or_default();
    if is_blank(rest) { "" } else { rest }
}

fn split(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    // Of the chunk under way: where it begins, its first line, and the line of its first content.
    let (mut start, mut first_line, mut content) = (0, 1, None);
    let mut end = |start: usize, end: usize, first_line: usize, content: Option<usize>| {
        if let Some(line) = content {
            documents.push(Document { number: documents.len() + 1, line, first_line, span: start..end });
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
    documents
}

// === writing ===

/// Writes the inputs one after the other; documents with an entry in `changed`, by input and number, are written
/// anew, and all else as it was.
pub(super) fn write(
    inputs: &[Input],
    changed: &BTreeMap<(usize, usize), Value>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut before = Before::Nothing;
    for (index, input) in inputs.iter().enumerate() {
        if before != Before::Nothing && !begins_with_separator(&input.text) {
            before.separate(out)?;
            out.write_all(b"---\n")?;
            before = Before::Line;
        }
        let mut done = 0;
        for document in &input.documents {
            let Some(value) = changed.get(&(index, document.number)) else { continue };
            before.verbatim(input.text.get(done..document.span.start).unwrap_or_default(), out)?;
            before.verbatim(&rewritten(input.chunk(document), value), out)?;
            done = document.span.end;
        }
        before.verbatim(input.text.get(done..).unwrap_or_default(), out)?;
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
        if is_separator(text) {
            self.separate(out)?;
        }
        out.write_all(text.as_bytes())?;
        *self = if text.ends_with('\n') { Self::Line } else { Self::HalfLine };
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
    text.lines().find(|line| is_separator(line) || !is_blank(line)).is_some_and(is_separator)
}

/// A patched document as YAML, under the separator and the comments that stood at its head.
fn rewritten(chunk: &str, value: &Value) -> String {
    let mut head = String::new();
    for line in chunk.split_inclusive('\n') {
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
    head + &yaml(value)
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
            Value::Object(map) => serializer.collect_map(map.iter().map(|(key, value)| (key, Yaml(value)))),
            Value::Array(list) => serializer.collect_seq(list.iter().map(Yaml)),
            Value::String(text) if is_tame_block(text) => serde_saphyr::LitStr(text).serialize(serializer),
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
        && lines.split('\n').all(|line| line.chars().all(printable) && (line.is_empty() || !line.trim().is_empty()))
}
