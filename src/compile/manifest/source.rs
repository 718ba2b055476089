//! Source files: bounded reading, and source lines for messages and marks.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::compile::adapter::is_field_name;
use crate::finding::{FileFinding, FindingSeverity, Place, Rule};
use crate::yaml::{self, Node, Position, YamlLimits};

/// A file in memory, and where its lines begin.
pub(crate) struct SourceFile {
    /// Path as it was given, or `standard input`.
    pub name: Arc<str>,
    text: String,
    /// Offset of each line.
    lines: Vec<usize>,
}

impl SourceFile {
    /// Reads a file of at most [`YamlLimits::HAND_WRITTEN`] bytes; `-` is `stdin`, which can be read once.
    ///
    /// # Errors
    /// One finding without a position, or with the line of the first byte that is not UTF-8.
    pub(crate) fn open<R: Read>(path: &Path, stdin: &mut Option<R>) -> Result<Self, FileFinding> {
        if path == Path::new("-") {
            let name = Arc::from("standard input");
            return match stdin.take() {
                Some(stdin) => Self::read(name, stdin),
                None => Err(unreadable(
                    &name,
                    None,
                    "it can be read only once; name a file instead of -".to_owned(),
                )),
            };
        }
        let name = shown_path(path);
        match File::open(path) {
            Ok(file) => Self::read(name, file),
            Err(error) => Err(unreadable(&name, None, format!("cannot be read: {error}"))),
        }
    }

    fn read(name: Arc<str>, from: impl Read) -> Result<Self, FileFinding> {
        let limit = YamlLimits::HAND_WRITTEN.bytes;
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        if let Err(error) = from.take(most).read_to_end(&mut bytes) {
            return Err(unreadable(&name, None, format!("cannot be read: {error}")));
        }
        if bytes.len() > limit {
            return Err(unreadable(
                &name,
                None,
                format!(
                    "is larger than {limit} bytes, the limit of a file that is written by hand"
                ),
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(name, text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = error.as_bytes().get(..valid).unwrap_or_default();
                let line = before.split(|byte| *byte == b'\n').count();
                let position = Position { line, column: 1 };
                Err(unreadable(
                    &name,
                    Some(position),
                    "is not UTF-8 text; save it as UTF-8".to_owned(),
                ))
            }
        }
    }

    pub(crate) fn new(name: Arc<str>, text: String) -> Self {
        let mut lines = vec![0];
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            // YAML also ends lines by a carriage return alone.
            let ends = *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
            if ends {
                lines.push(at + 1);
            }
        }
        Self { name, text, lines }
    }

    /// Parses the one document.
    ///
    /// # Errors
    /// The first syntax error or exceeded limit, with its masked line.
    pub(crate) fn parse(&self) -> Result<Node, FileFinding> {
        yaml::parse(&self.text, YamlLimits::HAND_WRITTEN).map_err(|error| FileFinding {
            rule: Rule::Unreadable,
            severity: FindingSeverity::Error,
            place: self.place(error.position, String::new()),
            message: error.to_string(),
            excerpt: error.position.and_then(|at| self.excerpt(at, "")),
        })
    }

    /// Source line by its number, from 1; empty if there is none.
    pub(crate) fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|at| self.lines.get(at));
        let Some(start) = start else {
            return "";
        };
        let end = self.lines.get(number).copied().unwrap_or(self.text.len());
        let line = self.text.get(*start..end).unwrap_or_default();
        line.trim_end_matches(['\n', '\r'])
    }

    pub(crate) fn place(&self, position: Option<Position>, field: String) -> Place {
        Place {
            file: Arc::clone(&self.name),
            position,
            field,
        }
    }

    /// Masked line of a position. Field names of manifests and `key`, which a parser took for a key, may be shown.
    pub(crate) fn excerpt(&self, at: Position, key: &str) -> Option<String> {
        let line = yaml::masked_line(self.line(at.line), &|field| {
            field == key || SHOWN_FIELDS.contains(&field) || is_field_name(field)
        });
        (!line.trim().is_empty()).then_some(line)
    }
}

/// Path for messages. Control characters in it would garble a terminal.
pub(crate) fn shown_path(path: &Path) -> Arc<str> {
    let path = path.to_string_lossy();
    if path.chars().any(char::is_control) {
        Arc::from(path.escape_debug().to_string())
    } else {
        Arc::from(path.as_ref())
    }
}

pub(crate) fn unreadable(
    file: &Arc<str>,
    position: Option<Position>,
    message: String,
) -> FileFinding {
    FileFinding {
        rule: Rule::Unreadable,
        severity: FindingSeverity::Error,
        place: Place {
            file: Arc::clone(file),
            position,
            field: String::new(),
        },
        message,
        excerpt: None,
    }
}

/// Field names that an excerpt may show, also in a file that is not valid YAML.
const SHOWN_FIELDS: [&str; 24] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "version",
    "owner",
    "description",
    "scope",
    "parent_manifest",
    "plugins",
    "governance",
    "type",
    "config",
    "connection_secret_ref",
    "secretRef",
    "source",
    "key",
    "compute",
    "catalog",
    "storage",
    "secrets",
    "identity",
    "host",
    "port",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_in_yaml() {
        let file = SourceFile::new(Arc::from("f"), "a\r\nb\rc\nd".to_owned());
        let lines: Vec<&str> = (0..6).map(|number| file.line(number)).collect();
        assert_eq!(lines, ["", "a", "b", "c", "d", ""]);
    }

    #[test]
    fn file_beyond_the_limit_is_refused() {
        let read = |length| {
            SourceFile::read(Arc::from("f"), std::io::repeat(b'#').take(length))
                .map_err(|finding| finding.message)
        };
        assert!(read(1024 * 1024).is_ok());
        let message = read(1024 * 1024 + 1).err().unwrap();
        assert!(message.contains("1048576 bytes"), "{message}");
    }

    #[test]
    fn bytes_that_are_not_text_are_reported_with_their_line() {
        let error = SourceFile::read(Arc::from("f"), &b"a: b\nc: \xff"[..])
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "f:2:1: is not UTF-8 text; save it as UTF-8"
        );
    }
}
