//! Reader of the file: names and types of its settings, with positions.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::error::{ConfigError, MAX_REPORTED_ERRORS};
use super::sections::SECTIONS;
use super::setting::{Section, Setting};
use crate::finding::Place;
use crate::yaml::{self, Node, NodeValue, Position, YamlLimits};

/// Check of the values of a file.
pub(crate) type ValueCheck<'c> = dyn Fn(&ConfigFile) -> Vec<ConfigError> + 'c;

/// Settings of a file.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    /// Path as it was given.
    pub name: Arc<str>,
    pub values: Vec<FileValue>,
}

/// Files that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Pipes too, as in `<(…)` of a shell.
    Any,
    /// Files that can be read again. A pipe without a writer would block a server.
    Regular,
}

/// A setting's value in a file.
#[derive(Clone)]
pub(crate) struct FileValue {
    pub section: &'static Section,
    pub setting: &'static Setting,
    pub position: Position,
    /// Texts for the argument's parser; empty for an empty list.
    pub texts: Vec<String>,
}

impl std::fmt::Debug for FileValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Position { line, column } = self.position;
        let path = self.section.path(self.setting);
        write!(f, "{path} at {line}:{column}")
    }
}

impl FileValue {
    /// Error at the value.
    pub(super) fn error(&self, file: &ConfigFile, message: String) -> ConfigError {
        ConfigError {
            place: Place {
                file: Arc::clone(&file.name),
                position: Some(self.position),
                field: self.section.path(self.setting),
            },
            message,
        }
    }
}

impl ConfigFile {
    /// Parses the content of a file; `check` checks the values of settings that are known and have the right type.
    ///
    /// # Errors
    /// Every problem of the settings, in the order of the file.
    pub(crate) fn parse(
        name: &Arc<str>,
        bytes: &[u8],
        check: &ValueCheck<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        let not_text = |_| {
            let message = "the file is not UTF-8 text".to_owned();
            vec![file_error(name, None, message)]
        };
        let text = std::str::from_utf8(bytes).map_err(not_text)?;
        let root = yaml::parse(text, YamlLimits::HAND_WRITTEN).map_err(|error| {
            let message = format!("{error}; correct the file");
            vec![file_error(name, error.position, message)]
        })?;
        let mut reader = Reader {
            name,
            values: Vec::new(),
            errors: Vec::new(),
        };
        reader.read_root(&root);
        let mut errors = reader.errors;
        let file = Self {
            name: Arc::clone(name),
            values: reader.values,
        };
        errors.extend(check(&file));
        if errors.is_empty() {
            return Ok(file);
        }
        errors.sort_by_key(|error| error.place.position);
        if errors.len() > MAX_REPORTED_ERRORS {
            errors.truncate(MAX_REPORTED_ERRORS);
            let message = format!("more than {MAX_REPORTED_ERRORS} problems; the rest is left out");
            errors.push(file_error(name, None, message));
        }
        Err(errors)
    }
}

/// Reads the content of a file. It is small and local, so the runtime of a server is not held up.
///
/// # Errors
/// A sentence: it cannot be read, is of another kind, or is too large.
pub(crate) fn read_content(path: &Path, kind: FileKind) -> Result<Vec<u8>, ConfigError> {
    let name: Arc<str> = path.display().to_string().into();
    read_bytes(path, kind).map_err(|message| file_error(&name, None, message))
}

fn read_bytes(path: &Path, kind: FileKind) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("the file cannot be read: {error}");
    // The kind is checked first, because opening a pipe waits for its writer.
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err("this is a folder; name a file".to_owned());
    }
    if kind == FileKind::Regular && !metadata.is_file() {
        return Err(
            "this is not a regular file, and a server reads the file again when it changes; name a regular file"
                .to_owned(),
        );
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    let limit = u64::try_from(YamlLimits::HAND_WRITTEN.bytes + 1).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > YamlLimits::HAND_WRITTEN.bytes {
        let limit = YamlLimits::HAND_WRITTEN.bytes;
        return Err(format!("the file is larger than {limit} bytes"));
    }
    Ok(bytes)
}

fn file_error(name: &Arc<str>, position: Option<Position>, message: String) -> ConfigError {
    ConfigError {
        place: Place {
            file: Arc::clone(name),
            position,
            field: String::new(),
        },
        message,
    }
}

struct Reader<'f> {
    name: &'f Arc<str>,
    values: Vec<FileValue>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn read_root(&mut self, root: &Node) {
        let entries = match &root.value {
            NodeValue::Null => return,
            NodeValue::Map(entries) => entries,
            other => {
                let found = other.type_name();
                let message = format!("expected sections such as {}, found {found}", known());
                self.error(root.position, String::new(), message);
                return;
            }
        };
        for entry in entries {
            if self.is_full() {
                return;
            }
            let known = SECTIONS.iter().find(|section| section.name == entry.key);
            let Some(section) = known else {
                let message = unknown("section", &entry.key, SECTIONS.iter().map(|s| s.name));
                self.error(entry.key_position, printable(&entry.key), message);
                continue;
            };
            self.read_section(section, &entry.node);
        }
    }

    fn read_section(&mut self, section: &'static Section, node: &Node) {
        let entries = match &node.value {
            NodeValue::Null => return,
            NodeValue::Map(entries) => entries,
            other => {
                let found = other.type_name();
                let message = format!("expected settings, found {found}");
                self.error(node.position, section.name.to_owned(), message);
                return;
            }
        };
        for entry in entries {
            if self.is_full() {
                return;
            }
            let path = format!("{}.{}", section.name, printable(&entry.key));
            let named = |setting: &&Setting| setting.name == entry.key;
            let Some(setting) = section.settings.iter().find(named) else {
                let message = unknown(
                    "setting",
                    &entry.key,
                    section.settings.iter().map(|s| s.name),
                );
                self.error(entry.key_position, path, message);
                continue;
            };
            match (setting.texts)(&entry.node) {
                Ok(texts) => self.values.push(FileValue {
                    section,
                    setting,
                    position: entry.node.position,
                    texts,
                }),
                Err(message) => self.error(entry.node.position, path, message),
            }
        }
    }

    /// Whether more problems were found than are reported.
    fn is_full(&self) -> bool {
        self.errors.len() > MAX_REPORTED_ERRORS
    }

    fn error(&mut self, position: Position, field: String, message: String) {
        self.errors.push(ConfigError {
            place: Place {
                file: Arc::clone(self.name),
                position: Some(position),
                field,
            },
            message,
        });
    }
}

/// Limit of the characters of a key that are printed.
const MAX_PRINTED_KEY: usize = 100;

/// A key of the file for terminals and logs: cut, and with control characters escaped.
fn printable(key: &str) -> String {
    let mut text = String::new();
    for c in key.chars().take(MAX_PRINTED_KEY) {
        match c {
            '"' | '\'' => text.push(c),
            c => text.extend(c.escape_debug()),
        }
    }
    if key.chars().nth(MAX_PRINTED_KEY).is_some() {
        text.push('…');
    }
    text
}

/// Sentence about an unknown name of a kind, with the nearest known one.
fn unknown(kind: &str, name: &str, known: impl Iterator<Item = &'static str> + Clone) -> String {
    let folded = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    // Much longer names are near to none, and a comparison takes the product of both lengths.
    let longest = known.clone().map(str::len).max().unwrap_or_default();
    let near = known
        .clone()
        .filter(|_| name.len() <= 2 * (longest + MAX_DISTANCE))
        .map(|known| {
            (
                strsim::damerau_levenshtein(&folded(known), &folded(name)),
                known,
            )
        })
        .min()
        .filter(|(distance, _)| *distance <= MAX_DISTANCE);
    if let Some((_, near)) = near {
        return format!("unknown {kind}; did you mean \"{near}\"?");
    }
    let known: Vec<_> = known.collect();
    format!("unknown {kind}; known are {}", known.join(", "))
}

/// Limit of the edits between a name and the one that is suggested for it.
const MAX_DISTANCE: usize = 2;

fn known() -> String {
    let names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, bytes: &[u8]) -> Result<ConfigFile, Vec<ConfigError>> {
        ConfigFile::parse(&name.into(), bytes, &|_| Vec::new())
    }

    fn errors(text: &str) -> Vec<String> {
        let parsed = parse("c.yaml", text.as_bytes());
        let errors = parsed.map(|file| file.values).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_have_a_position_and_texts() {
        let text = "# settings\nserve:\n  listen: 127.0.0.1:1\n  workerThreads: 3\n  \
            trustedCallers: yes\ninjection: {exemptNamespaces: [a, b]}\ntls:\n";
        let file = parse("c.yaml", text.as_bytes()).unwrap();
        let read: Vec<_> = file
            .values
            .iter()
            .map(|value| (format!("{value:?}"), value.texts.join("|")))
            .collect();
        let expected = [
            ("serve.listen at 3:11", "127.0.0.1:1"),
            ("serve.workerThreads at 4:18", "3"),
            ("serve.trustedCallers at 5:19", "true"),
            ("injection.exemptNamespaces at 6:31", "a|b"),
        ];
        assert_eq!(
            read,
            expected.map(|(one, two)| (one.to_owned(), two.to_owned()))
        );
    }

    #[test]
    fn every_problem_is_reported_with_its_place() {
        let text = "server:\n  listen: x\nserve:\n  listens: hunter2\n  workerThreads: many\n  \
            listen: 8443\n  drainTimeout:\nlog: [hunter2]\ninjection:\n  namespaces: [a, 'b,c']\n";
        assert_eq!(
            errors(text),
            [
                "c.yaml:1:1: server: unknown section; did you mean \"serve\"?",
                "c.yaml:4:3: serve.listens: unknown setting; did you mean \"listen\"?",
                "c.yaml:5:18: serve.workerThreads: expected a number from 1 to 64, found text",
                "c.yaml:6:11: serve.listen: expected an IP address and a port, as in \"0.0.0.0:8443\", found a number; put it in quotes if it is meant",
                "c.yaml:7:15: serve.drainTimeout: the value is missing: write a duration, as in 10s or 1m30s, or remove the line",
                "c.yaml:8:6: log: expected settings, found a list",
                "c.yaml:10:15: injection.namespaces: item 2 has a comma: write one item for each name",
            ]
        );
    }

    #[test]
    fn yaml_errors_have_a_position_and_no_text_of_the_file() {
        for (text, expected) in [
            ("log: {filter: hunter2\n", "c.yaml:"),
            ("log: *hunter2\n", "an alias refers to no anchor"),
            (
                "log:\n  filter: a\n  filter: hunter2\n",
                "c.yaml:3:3: a key stands twice",
            ),
            ("- hunter2\n", "expected sections such as kubernetes"),
        ] {
            let message = errors(text).join("\n");
            assert!(message.contains(expected), "{text:?}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn bounds_are_enforced() {
        let one = |text: &str| errors(text).join("\n");
        let long = "x".repeat(super::super::types::MAX_TEXT_LENGTH + 1);
        assert!(one(&format!("log: {{filter: {long}}}")).contains("longer than 4096 characters"));
        for exact in [&long[1..], &"é".repeat(long.len() - 1)] {
            let exact = format!("log: {{filter: {exact}}}");
            assert!(parse("c", exact.as_bytes()).is_ok());
        }
        let items = |count: usize| {
            format!(
                "injection: {{namespaces: [{}]}}",
                vec!["a"; count].join(",")
            )
        };
        assert!(one(&items(1001)).contains("more than 1000 items"));
        assert!(parse("c", items(1000).as_bytes()).is_ok());
        let many: Vec<String> = (0..60).map(|index| format!("x{index}: 1\n")).collect();
        let many = many.concat();
        let reported = errors(&many);
        assert_eq!(reported.len(), MAX_REPORTED_ERRORS + 1);
        assert!(
            reported[50].contains("more than 50 problems"),
            "{reported:?}"
        );
        assert!(one(&"# \n".repeat(400_000)).contains("larger than 1048576 bytes"));
        let not_utf8 = parse("c", b"log: \xff").unwrap_err();
        assert_eq!(not_utf8[0].to_string(), "c: the file is not UTF-8 text");
    }

    #[test]
    fn files_that_cannot_be_read_are_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| read_content(path, FileKind::Any).unwrap_err().to_string();
        assert!(message(folder.path()).ends_with("this is a folder; name a file"));
        let missing = folder.path().join("missing.yaml");
        assert!(message(&missing).contains("missing.yaml: the file cannot be read: No such file"));
        let large = folder.path().join("large.yaml");
        std::fs::write(&large, vec![b'#'; 2 * 1024 * 1024]).unwrap();
        assert!(message(&large).ends_with("the file is larger than 1048576 bytes"));
    }

    #[test]
    fn server_refuses_a_pipe_without_waiting_for_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = read_content(&pipe, FileKind::Regular)
            .unwrap_err()
            .to_string();
        assert!(error.contains("this is not a regular file"), "{error}");
    }

    #[test]
    fn keys_are_printed_without_control_characters() {
        let text = "\"\\e[31mred\\nline\": 1\nserve: {\"l\\e\\u202e\": 1}\n";
        let long = format!("{text}{}: 1\n", "x".repeat(200));
        let errors = errors(&long);
        assert!(
            errors[0].starts_with("c.yaml:1:1: \\u{1b}[31mred\\nline: unknown section"),
            "{errors:?}"
        );
        assert!(
            errors[1].contains("serve.l\\u{1b}\\u{202e}: unknown setting"),
            "{errors:?}"
        );
        assert!(
            errors[2].len() < 300 && errors[2].contains("x…: unknown"),
            "{errors:?}"
        );
    }

    #[test]
    fn reader_stops_at_the_limit_of_reported_errors() {
        let name: Arc<str> = "c.yaml".into();
        let keys = (0..10_000).map(|index| format!("x{index}: 1\n"));
        let text: String = keys.collect();
        let root = yaml::parse(&text, YamlLimits::HAND_WRITTEN).unwrap();
        let mut reader = Reader {
            name: &name,
            values: Vec::new(),
            errors: Vec::new(),
        };
        reader.read_root(&root);
        assert_eq!(reader.errors.len(), MAX_REPORTED_ERRORS + 1);
    }
}
