//! Naming convention for Secrets: a glob, in which `{service}` and other words in braces stand for a part of the name.

use std::fmt;
use std::str::FromStr;

use crate::contract::plan_error::PlanError;
use crate::contract::request::InjectionRequest;
use crate::contract::secret_ref::MAX_NAME;
use crate::contract::selector::{Glob, MAX_POSITIONS};
use crate::excerpt::excerpt;

/// Word that selects [`FLOE_CONVENTION`].
const PRESET: &str = "floe";

/// Convention of the floe platform's specification.
pub const FLOE_CONVENTION: &str = "{service}-{environment}-credentials";

/// A convention for names of Secrets. `*` stands for any characters, `?` for one, and a word in braces for at least one.
#[derive(Clone, Debug)]
pub struct NameConvention {
    text: String,
    glob: Glob,
}

// The glob is derived from the text.
impl PartialEq for NameConvention {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NameConvention {}

/// A text that is not a convention.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a pattern for names of Secrets: lower-case letters, digits, '-', '.', '*', '?' and words in braces such as {{service}}, at most {MAX_POSITIONS} characters, a word in braces counted as two; or {PRESET}, which stands for {FLOE_CONVENTION}"
)]
pub struct NameConventionError(String);

impl FromStr for NameConvention {
    type Err = NameConventionError;

    fn from_str(text: &str) -> Result<Self, NameConventionError> {
        let text = if text == PRESET {
            FLOE_CONVENTION
        } else {
            text
        };
        let glob = glob_of(text).ok_or_else(|| NameConventionError(excerpt(text).into_owned()))?;
        Ok(Self {
            text: text.to_owned(),
            glob,
        })
    }
}

/// Glob of a pattern, with words in braces replaced by `?*`.
fn glob_of(text: &str) -> Option<Glob> {
    let is_literal = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '*' | '?')
    };
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if text.len() > MAX_NAME {
        return None;
    }
    let (mut glob, mut rest) = (String::new(), text);
    while let Some((literal, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}')?;
        if !is_word(word) {
            return None;
        }
        glob.push_str(literal);
        glob.push_str("?*");
        rest = after;
    }
    glob.push_str(rest);
    let fits = !glob.is_empty() && glob.len() <= MAX_POSITIONS && glob.chars().all(is_literal);
    fits.then(|| Glob::of(&glob))
}

impl NameConvention {
    /// Whether a name follows the convention.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.glob.matches(name)
    }

    /// Requested secrets whose names do not follow the convention, each once.
    #[must_use]
    pub fn violations(&self, request: &InjectionRequest) -> Vec<PlanError> {
        request
            .key_queries()
            .into_keys()
            .filter(|secret| !self.matches(secret.name.as_str()))
            .filter_map(|secret| {
                Some(PlanError::NameConvention {
                    secret: secret.clone(),
                    pattern: self.text.clone(),
                    site: request.site_of(secret)?.clone(),
                })
            })
            .collect()
    }
}

impl fmt::Display for NameConvention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<NameConvention>().unwrap().matches(name)
    }

    #[test]
    fn preset_and_globs_match_whole_names() {
        for name in ["snowflake-prod-credentials", "my-db-dev-credentials"] {
            assert!(
                matches("floe", name) && matches(FLOE_CONVENTION, name),
                "{name}"
            );
        }
        for name in [
            "snowflake-credentials",
            "db",
            "a-b-credentials-old",
            "--credentials",
        ] {
            assert!(!matches("floe", name), "{name}");
        }
        assert!(matches("team-*", "team-") && matches("team-?.db", "team-a.db"));
        assert!(!matches("team-?", "team-ab") && !matches("team-{x}", "team-"));
        // Names are not limited to the length of a pattern.
        assert!(matches(
            "*-credentials",
            &("a".repeat(240) + "-credentials")
        ));
        assert_eq!(
            "floe".parse::<NameConvention>().unwrap().to_string(),
            FLOE_CONVENTION
        );
    }

    #[test]
    fn patterns_are_limited_and_checked() {
        let longest = "a".repeat(MAX_POSITIONS);
        assert!(matches(&longest, &longest));
        let braces = "{a}".repeat(10_000);
        for text in [
            "", "A", "a_b", "{", "{}", "{A}", "a}", "{a", "a{b{c}}", &braces,
        ] {
            assert!(text.parse::<NameConvention>().is_err(), "{text}");
        }
        let error = (longest + "a")
            .parse::<NameConvention>()
            .unwrap_err()
            .to_string();
        assert!(error.contains("at most 63 characters"), "{error}");
    }
}
