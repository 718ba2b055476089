//! Inputs, and how their documents are parsed.

use std::io::Read;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::documents::{Document, content_start, split};
use super::encoding::{self, MARK};
use super::files::{self, MAX_INPUT_BYTES};
use super::unreadable::UnreadableInput;

/// Limit of nested maps and lists. Manifests have at most about 20 levels; each level is a call on the stack.
pub(crate) const MAX_DEPTH: usize = 256;

/// One file, or standard input.
#[derive(Debug)]
pub(crate) struct Input {
    /// Path, or `standard input`.
    pub name: String,
    text: String,
    /// Documents that are not empty.
    pub documents: Vec<Document>,
}

impl Input {
    /// Reads a file; `-` is `stdin`, which can be read once.
    pub(crate) fn open<R: Read>(
        path: &Path,
        stdin: &mut Option<R>,
    ) -> Result<Self, UnreadableInput> {
        let (name, bytes) = if path == Path::new("-") {
            let read = match stdin.take() {
                Some(stdin) => files::read(stdin, MAX_INPUT_BYTES),
                None => Err("it can be read only once".to_owned()),
            };
            ("standard input".to_owned(), read)
        } else {
            let opened =
                std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"));
            (
                path.display().to_string(),
                opened.and_then(|file| files::read(file, MAX_INPUT_BYTES)),
            )
        };
        match bytes {
            Ok(bytes) => Self::new(name, bytes),
            Err(problem) => Err(UnreadableInput::of_input(name, problem)),
        }
    }

    /// Splits bytes into documents.
    pub(crate) fn new(name: String, bytes: Vec<u8>) -> Result<Self, UnreadableInput> {
        match encoding::decode(bytes) {
            Ok(text) => {
                let documents = split(&text);
                Ok(Self {
                    name,
                    text,
                    documents,
                })
            }
            Err(error) => {
                let line = error.line.map(|line| (line, None));
                Err(UnreadableInput {
                    input: name,
                    line,
                    problem: error.problem.to_owned(),
                })
            }
        }
    }

    /// Input and number of a document, for messages.
    pub(crate) fn location(&self, document: &Document) -> String {
        format!("{}: document {}", self.name, document.number)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Text of a document and of the separator before it.
    pub(crate) fn chunk(&self, document: &Document) -> &str {
        self.text.get(document.span.clone()).unwrap_or_default()
    }

    /// Reads a document as `T`; values that `T` skips are not built.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        document: &Document,
    ) -> Result<T, UnreadableInput> {
        let chunk = self.chunk(document);
        let (head, content) = chunk.split_at(content_start(chunk));
        // JSON first: not all of its escapes, nor its tabs, are YAML.
        if content.starts_with('{')
            && let Ok(read) = serde_json::from_str(content)
        {
            return Ok(read);
        }
        let marked = head
            .contains(MARK)
            .then(|| head.replace(MARK, "") + content);
        serde_saphyr::from_str_with_options(marked.as_deref().unwrap_or(chunk), options()).map_err(
            |error| {
                let error = error.without_snippet();
                let position = error.location().map(|at| {
                    (
                        document.first_line
                            + usize::try_from(at.line()).unwrap_or(1).saturating_sub(1),
                        at.column(),
                    )
                });
                let line = position.map_or(document.line, |(line, _)| line);
                let column = position.and_then(|(_, column)| usize::try_from(column).ok());
                UnreadableInput {
                    input: self.name.clone(),
                    line: Some((line, column)),
                    problem: problem_of(error),
                }
            },
        )
    }

    /// Whether a YAML document has comments after its first content. They are lost when the document is rewritten.
    pub(crate) fn has_inner_comments(&self, document: &Document) -> bool {
        use serde_saphyr::budget::BudgetBreach;

        let chunk = self.chunk(document);
        let content = content_start(chunk);
        let line = chunk
            .get(..content)
            .and_then(|head| head.rfind('\n'))
            .map_or(0, |end| end + 1);
        // The first line includes its indentation, but not the separator.
        let is_indented = chunk
            .get(line..content)
            .is_some_and(|before| before.trim().is_empty());
        let body = chunk
            .get(if is_indented { line } else { content }..)
            .unwrap_or_default();
        if document.json || !body.contains('#') {
            return false;
        }
        let mut options = options();
        if let Some(budget) = &mut options.budget {
            budget.max_total_comment_bytes = 0;
        }
        let read: Result<IgnoredAny, _> = serde_saphyr::from_str_with_options(body, options);
        read.is_err_and(|error| {
            matches!(
                error.without_snippet(),
                serde_saphyr::Error::Budget {
                    breach: BudgetBreach::CommentBytes { .. },
                    ..
                }
            )
        })
    }

    /// Whether a document has comments before its first content.
    pub(crate) fn has_head_comments(&self, document: &Document) -> bool {
        let chunk = self.chunk(document);
        chunk
            .get(..content_start(chunk))
            .is_some_and(|head| head.contains('#'))
    }

    /// Error about a document that is valid YAML.
    pub(crate) fn unreadable(
        &self,
        document: &Document,
        problem: impl Into<String>,
    ) -> UnreadableInput {
        UnreadableInput {
            input: self.name.clone(),
            line: Some((document.line, None)),
            problem: problem.into(),
        }
    }
}

/// Options of the parser: the scalars of YAML 1.1, as in Kubernetes. Duplicate keys are an error, as in the strict
/// decoding of the API server.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        ignore_binary_tag_for_string: true,
        // Every document is in memory anyway, and lists of all objects of a cluster are long.
        budget: serde_saphyr::budget! {
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
        },
    }
}

/// Problem of a document, without any text of the document.
fn problem_of(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;

    if is_too_deep(error) {
        return format!(
            "the document has more than {MAX_DEPTH} levels of maps and lists in each other"
        );
    }
    let problem = match error {
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
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "the document is too large or too deep",
        _ => "is not valid YAML",
    };
    problem.to_owned()
}

/// Whether a document is nested too deeply. The parser counts all levels, and the scanner before it those in brackets.
fn is_too_deep(error: &serde_saphyr::Error) -> bool {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;
    use serde_saphyr::granit_parser::ErrorKind;
    use serde_saphyr::localizer::ExternalMessageSource;

    match error {
        Error::Budget { breach, .. } => matches!(breach, BudgetBreach::Depth { .. }),
        Error::ExternalMessage { source, .. } => matches!(
            source.as_ref(),
            ExternalMessageSource::Parser(error) if matches!(error.kind(), ErrorKind::RecursionLimitExceeded)
        ),
        _ => false,
    }
}
