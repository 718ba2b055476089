//! Container patterns: an exact name, or a glob of `*` and `?`.

use std::fmt;
use std::str::FromStr;

use wildmatch::WildMatch;

use super::excerpt::excerpt;

/// A pattern for container names, also used for the operator's list of sidecars.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    glob: Option<WildMatch>,
}

// The glob is made from the text, so the text alone tells two patterns apart.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A text that can match no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a container's name nor a glob: lower-case letters, digits, '-', '*' and '?'")]
pub struct PatternError(String);

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'*' | b'?');
        if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
            return Err(PatternError(excerpt(text).into_owned()));
        }
        let glob = text.contains(['*', '?']).then(|| WildMatch::new(text));
        Ok(Self { text: text.to_owned(), glob })
    }
}

impl Pattern {
    /// Whether it matches a container's name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.glob.as_ref().map_or(self.text == name, |glob| glob.matches(name))
    }

    /// Whether it is `*`: all there are, be it none.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.text == "*"
    }

    /// Whether it names one container, so that a miss is a mistake and not an empty match.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.glob.is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
