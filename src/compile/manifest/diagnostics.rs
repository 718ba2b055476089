//! Findings of one run, collected up to a limit, and the path of the field that is read.

use std::sync::LazyLock;

use crate::finding::{FileFinding, FindingSeverity, Rule};
use crate::literals::Detector;
use crate::yaml::Position;

use super::source::SourceFile;

/// Limit of findings of one severity. The rest is counted.
pub(crate) const MAX_FINDINGS: usize = 100;

/// Limit of a field's path in messages, in bytes. The path of a deeper field ends in `…`.
pub(crate) const MAX_FIELD_PATH: usize = 160;

/// Limit of a key's length in messages, in bytes.
const MAX_SHOWN_KEY: usize = 64;

/// Findings so far.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    errors: Vec<FileFinding>,
    warnings: Vec<FileFinding>,
    omitted_errors: usize,
    omitted_warnings: usize,
}

impl Diagnostics {
    pub(crate) fn add(&mut self, finding: FileFinding) {
        let (list, omitted) = match finding.severity {
            FindingSeverity::Error => (&mut self.errors, &mut self.omitted_errors),
            FindingSeverity::Warning => (&mut self.warnings, &mut self.omitted_warnings),
        };
        if list.len() < MAX_FINDINGS {
            list.push(finding);
        } else {
            *omitted += 1;
        }
    }

    pub(crate) fn extend(&mut self, findings: impl IntoIterator<Item = FileFinding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Errors, then warnings, each by its place.
    pub(crate) fn sorted(&self) -> Vec<&FileFinding> {
        let mut findings: Vec<&FileFinding> = self.errors.iter().chain(&self.warnings).collect();
        findings.sort_by(|a, b| (a.severity, &a.place).cmp(&(b.severity, &b.place)));
        findings
    }

    /// Rules of the errors.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Rule> {
        self.errors.iter().map(|finding| finding.rule)
    }

    /// Errors and warnings that are only counted.
    pub(crate) fn omitted(&self) -> (usize, usize) {
        (self.omitted_errors, self.omitted_warnings)
    }
}

/// Reader of one file: reports findings about its fields.
pub(crate) struct FieldReader<'r> {
    pub file: &'r SourceFile,
    pub diagnostics: &'r mut Diagnostics,
    pub path: FieldPath,
}

impl<'r> FieldReader<'r> {
    pub(crate) fn new(file: &'r SourceFile, diagnostics: &'r mut Diagnostics) -> Self {
        Self {
            file,
            diagnostics,
            path: FieldPath::default(),
        }
    }

    /// Reads below a field.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.push(key);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// Reads an item of a list.
    pub(crate) fn within_item<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.push_index(index);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    pub(crate) fn error(&mut self, rule: Rule, at: Position, message: impl Into<String>) {
        self.report(rule, FindingSeverity::Error, at, message.into());
    }

    pub(crate) fn warning(&mut self, rule: Rule, at: Position, message: impl Into<String>) {
        self.report(rule, FindingSeverity::Warning, at, message.into());
    }

    pub(crate) fn report(
        &mut self,
        rule: Rule,
        severity: FindingSeverity,
        at: Position,
        message: String,
    ) {
        self.diagnostics.add(FileFinding {
            rule,
            severity,
            place: self.file.place(Some(at), self.path.to_string()),
            message,
            excerpt: self.file.excerpt(at, self.path.last_key()),
        });
    }
}

/// Path of a field, as in `plugins.compute.config.attach[0].path`.
#[derive(Debug, Default)]
pub(crate) struct FieldPath {
    text: String,
    is_cut: bool,
}

/// State of a path before a key, to go back to.
#[derive(Clone, Copy)]
pub(crate) struct PathLength(usize, bool);

impl FieldPath {
    pub(super) fn push(&mut self, key: &str) -> PathLength {
        let before = PathLength(self.text.len(), self.is_cut);
        let dot = if self.text.is_empty() { "" } else { "." };
        self.append(&format!("{dot}{}", shown_key(key)));
        before
    }

    pub(super) fn push_index(&mut self, index: usize) -> PathLength {
        let before = PathLength(self.text.len(), self.is_cut);
        self.append(&format!("[{index}]"));
        before
    }

    fn append(&mut self, text: &str) {
        if !self.is_cut && self.text.len() + text.len() <= MAX_FIELD_PATH {
            self.text.push_str(text);
        } else {
            self.is_cut = true;
        }
    }

    pub(super) fn truncate(&mut self, PathLength(length, is_cut): PathLength) {
        self.text.truncate(length);
        self.is_cut = is_cut;
    }

    fn last_key(&self) -> &str {
        self.text.rsplit('.').next().unwrap_or_default()
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        if self.is_cut {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// Key for messages: a name of a field, or `…`. Text that is not a name may be a value that slipped into a key.
pub(crate) fn shown_key(key: &str) -> &str {
    static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);
    let looks_secret = || key.len() >= MIN_SECRET && DETECTOR.detect("", key).is_some();
    if is_field_name(key) && !looks_secret() {
        key
    } else {
        "…"
    }
}

/// Length from which a key is compared with the forms of secrets, in bytes. The forms that are known are longer.
const MIN_SECRET: usize = 16;

/// Whether a key has the form of a field's name: few of the characters and the length of most secrets.
fn is_field_name(key: &str) -> bool {
    let starts = key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    starts && key.len() <= MAX_SHOWN_KEY && key.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn path_shows_names_and_hides_other_keys() {
        let mut path = FieldPath::default();
        path.push("plugins");
        let length = path.push("compute");
        path.push("p@ss word");
        path.push_index(3);
        assert_eq!(path.to_string(), "plugins.compute.…[3]");
        path.truncate(length);
        assert_eq!(path.to_string(), "plugins");
    }

    #[test]
    fn path_is_cut_at_its_limit() {
        let mut path = FieldPath::default();
        for _ in 0..100 {
            path.push("twenty_letters_long_");
        }
        assert!(path.text.len() <= MAX_FIELD_PATH);
        assert!(path.to_string().ends_with('…'));
    }

    #[test]
    fn findings_beyond_the_limit_are_counted() {
        let file = SourceFile::new(Arc::from("f"), "a: b".to_owned());
        let mut diagnostics = Diagnostics::default();
        let mut reader = FieldReader::new(&file, &mut diagnostics);
        for _ in 0..MAX_FINDINGS + 5 {
            reader.error(Rule::ManifestField, Position::default(), "is wrong");
        }
        assert_eq!(diagnostics.sorted().len(), MAX_FINDINGS);
        assert_eq!(diagnostics.omitted(), (5, 0));
    }
}
