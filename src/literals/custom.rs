//! Custom patterns of a manifest: regular expressions with a name and a severity.

use regex::bytes::{Regex, RegexBuilder};

use super::detected::Detected;
use crate::finding::FindingSeverity;

/// Patterns of one manifest.
pub(crate) const MAX_PATTERNS: usize = 32;

/// Bytes of one pattern.
pub(crate) const MAX_PATTERN_BYTES: usize = 1024;

/// Bytes of one pattern's name.
pub(crate) const MAX_NAME_BYTES: usize = 64;

/// Bytes of one compiled pattern, which bound the work for each byte of a value: `[a-z]{1000}` fits, repetitions of
/// repetitions do not. The table in which a pattern remembers its steps has twice as many.
pub(crate) const MAX_COMPILED_BYTES: usize = 128 * 1024;

/// Levels of groups in each other.
pub(crate) const MAX_GROUP_DEPTH: u32 = 32;

/// A pattern of `governance.secret_scanning.custom_patterns`.
#[derive(Clone, Debug)]
pub(crate) struct CustomPattern {
    pub name: String,
    pub pattern: String,
    pub severity: FindingSeverity,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct CompiledPattern {
    name: String,
    severity: FindingSeverity,
    regex: Regex,
}

/// A pattern that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit}")]
pub(crate) struct PatternError {
    /// Index of the pattern in the manifest.
    pub index: usize,
    pub limit: PatternLimit,
}

/// Reasons to reject a pattern. Its text is not quoted: an author may have written a secret as the pattern for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternLimit {
    #[error("there are more than {MAX_PATTERNS} patterns; remove some, or join them with |")]
    TooMany,
    #[error(
        "the name is empty or longer than {MAX_NAME_BYTES} bytes, or has control characters; shorten it"
    )]
    Name,
    #[error("the pattern is empty or longer than {MAX_PATTERN_BYTES} bytes; shorten it")]
    Length,
    #[error(
        "the pattern is not a regular expression that can be searched in linear time; look-around and back references \
         are not supported"
    )]
    Syntax,
    #[error("the pattern is too large when compiled; use smaller numbers of repetitions")]
    Compiled,
    #[error("the pattern matches the empty text, and so every value; make a part of it mandatory")]
    Empty,
}

/// Compiles patterns in their order.
///
/// # Errors
/// Every pattern that cannot be used.
pub(super) fn compile(
    patterns: &[CustomPattern],
) -> Result<Vec<CompiledPattern>, Vec<PatternError>> {
    if patterns.len() > MAX_PATTERNS {
        return Err(vec![PatternError {
            index: MAX_PATTERNS,
            limit: PatternLimit::TooMany,
        }]);
    }
    let mut compiled = Vec::new();
    let mut errors = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        match CompiledPattern::new(pattern) {
            Ok(pattern) => compiled.push(pattern),
            Err(limit) => errors.push(PatternError { index, limit }),
        }
    }
    if errors.is_empty() {
        Ok(compiled)
    } else {
        Err(errors)
    }
}

impl CompiledPattern {
    fn new(pattern: &CustomPattern) -> Result<Self, PatternLimit> {
        let name = pattern.name.trim();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
            return Err(PatternLimit::Name);
        }
        if pattern.pattern.is_empty() || pattern.pattern.len() > MAX_PATTERN_BYTES {
            return Err(PatternLimit::Length);
        }
        // Classes such as `\w` are those of ASCII: Unicode's are hundreds of times larger, and no key has such letters.
        let regex = RegexBuilder::new(&pattern.pattern)
            .unicode(false)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(2 * MAX_COMPILED_BYTES)
            .nest_limit(MAX_GROUP_DEPTH)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PatternLimit::Compiled,
                _ => PatternLimit::Syntax,
            })?;
        if regex.is_match(b"") {
            return Err(PatternLimit::Empty);
        }
        Ok(Self {
            name: name.to_owned(),
            severity: pattern.severity,
            regex,
        })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }

    pub(super) fn detected(&self) -> Detected {
        Detected {
            rule: self.name.clone(),
            severity: self.severity,
        }
    }
}
