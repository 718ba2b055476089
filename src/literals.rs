//! Literal secrets: a detector for values that look like a secret. It returns the kind of secret, never the value.
//!
//! Every rule reads a value once, from left to right, with a bounded look ahead, so that the work grows with the length
//! of the value alone. docs/LITERALS.md describes the rules for users; the corpus of tests/testdata/literals holds them.

mod allow;
mod assignment;
mod authorization;
mod custom;
mod der;
mod detected;
mod entropy;
mod expression;
mod field_name;
mod jwt;
mod placeholder;
mod prefix;
mod private_key;
mod shapes;
mod url;
mod vendors;

#[cfg(test)]
mod tests;

pub(crate) use self::allow::is_allowed;
use self::custom::CompiledPattern;
pub(crate) use self::custom::{CustomPattern, MAX_PATTERNS, PatternError};
pub(crate) use self::detected::Detected;
use self::prefix::prefix;
use crate::finding::FindingSeverity;

/// Bytes of a value that the entropy rule and the custom patterns search. All other rules read the whole value: they
/// take the same few steps for each byte, while these two do the most work for each. A random text that begins later
/// belongs to a file in a field, and the rules for private keys and vendors find it there.
pub(crate) const MAX_SEARCHED_BYTES: usize = 64 * 1024;

/// Built-in rules, which are errors, and the custom patterns of a manifest.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    patterns: Vec<CompiledPattern>,
}

impl Detector {
    /// Adds the custom patterns of a manifest (`governance.secret_scanning.custom_patterns`), in their order.
    ///
    /// # Errors
    /// Every pattern that is not valid or exceeds a limit, with its index.
    pub(crate) fn with_custom_patterns(
        mut self,
        patterns: &[CustomPattern],
    ) -> Result<Self, Vec<PatternError>> {
        self.patterns = custom::compile(patterns)?;
        Ok(self)
    }

    /// The first rule that a value matches. `field` is the name of the field or variable that has the value, with or
    /// without the path before it.
    ///
    /// A default in an expression, as in `{{ env_var('X', 'default') }}`, counts as a value of the field.
    pub(crate) fn detect(&self, field: &str, value: &str) -> Option<Detected> {
        if let Some(rule) = built_in_rule(field, value) {
            return Some(Detected {
                rule: rule.to_owned(),
                severity: FindingSeverity::Error,
            });
        }
        let searched = prefix(value, MAX_SEARCHED_BYTES);
        self.patterns
            .iter()
            .find(|pattern| pattern.matches(searched))
            .map(CompiledPattern::detected)
    }
}

/// Whether a value of a profile takes everything from variables: it is made of calls of `env_var` without defaults.
pub(crate) fn reads_only_variables(value: &str) -> bool {
    expression::reads_only_variables(value)
}

/// Name of the first built-in rule that a value matches.
fn built_in_rule(field: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let (text, defaults) = expression::without_expressions(value);
    let text = text.trim();
    defaults
        .iter()
        .find_map(|default| literal_rule(field, default))
        .or_else(|| literal_rule(field, text))
}

/// Name of the first built-in rule that a text without expressions matches. The order is from the most to the least
/// specific rule.
fn literal_rule(field: &str, text: &str) -> Option<&'static str> {
    if text.is_empty() || placeholder::is_encrypted(text) {
        return None;
    }
    if private_key::is_in(text) {
        return Some("private-key");
    }
    if jwt::is_in(text) {
        return Some("jwt");
    }
    if let Some(vendor) = vendors::find(text) {
        return Some(vendor);
    }
    if url::has_password(text) {
        return Some("url-password");
    }
    if authorization::is_in(field, text) {
        return Some("authorization");
    }
    if assignment::is_in(text) {
        return Some("assignment");
    }
    if field_name::sounds_secret(field) && placeholder::is_literal(text) {
        return Some("field-name");
    }
    entropy::is_in(field, prefix(text, MAX_SEARCHED_BYTES)).then_some("random-text")
}
