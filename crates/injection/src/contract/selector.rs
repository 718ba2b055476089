//! Container patterns: an exact name, or a glob of `*` and `?`.

use std::fmt;
use std::str::FromStr;

use crate::excerpt::excerpt;
use crate::limits::MAX_CONTAINER_NAME;

/// Limit of positions in a pattern: the bits of a word, less one for the end.
pub(crate) const MAX_POSITIONS: usize = 63;

/// A pattern for container names, also in the operator's list of sidecars.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    glob: Option<Box<Glob>>,
}

// The glob is derived from the text, so comparing the text is enough.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A text that matches no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither a container's name nor a glob: lower-case letters, digits, '-', '*' and '?', at most 63 characters"
)]
pub struct PatternError(String);

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fits =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'*' | b'?');
        if text.is_empty() || text.len() > MAX_CONTAINER_NAME || !text.bytes().all(fits) {
            return Err(PatternError(excerpt(text).into_owned()));
        }
        let glob = text.contains(['*', '?']).then(|| Box::new(Glob::of(text)));
        Ok(Self {
            text: text.to_owned(),
            glob,
        })
    }
}

/// A glob of at most 63 positions, as bit sets of positions. A name is matched by following all ways through the
/// pattern at once, so that each byte of it costs the same few steps, whatever the pattern is.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    /// Positions that match a byte, those of `?` included.
    fits: [u64; 128],
    /// Positions of `?`, for bytes that no pattern has.
    any: u64,
    stars: u64,
    /// Position after the last one.
    end: u64,
}

impl Glob {
    /// Glob of an ASCII text of at most [`MAX_POSITIONS`] bytes.
    pub(crate) fn of(text: &str) -> Self {
        // A run of stars is merged to one, so that the position after a star is never a star.
        let mut pattern = text.as_bytes().to_vec();
        pattern.dedup_by(|a, b| *a == b'*' && *b == b'*');
        let mut glob = Self {
            fits: [0; 128],
            any: 0,
            stars: 0,
            end: 1 << pattern.len(),
        };
        for (place, byte) in pattern.iter().enumerate() {
            match byte {
                b'*' => glob.stars |= 1 << place,
                b'?' => glob.any |= 1 << place,
                byte => {
                    if let Some(fits) = glob.fits.get_mut(usize::from(*byte)) {
                        *fits |= 1 << place;
                    }
                }
            }
        }
        for fits in &mut glob.fits {
            *fits |= glob.any;
        }
        glob
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        // A star matches the empty string too: a match at a star is also at the position after it.
        let past_stars = |places: u64| places | ((places & self.stars) << 1);
        let mut places = past_stars(1);
        for byte in name.bytes() {
            let fits = self
                .fits
                .get(usize::from(byte))
                .copied()
                .unwrap_or(self.any);
            places = past_stars(((places & fits) << 1) | (places & self.stars));
        }
        places & self.end != 0
    }
}

impl Pattern {
    /// Whether it matches a container's name. A name longer than 63 bytes is invalid, and matches no glob.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.glob {
            Some(glob) => name.len() <= MAX_CONTAINER_NAME && glob.matches(name),
            None => self.text == name,
        }
    }

    /// Whether it is `*`, which may match no container at all.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.text == "*"
    }

    /// Whether it names one container, so that it is an error if the container does not exist.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[rstest::rstest]
    #[case("app", "app", true)]
    #[case("app", "apps", false)]
    #[case("*", "", true)]
    #[case("*", "anything", true)]
    #[case("a*", "a", true)]
    #[case("*-proxy", "istio-proxy", true)]
    #[case("*-proxy", "istio-proxy-2", false)]
    #[case("a?c", "abc", true)]
    #[case("a?c", "ac", false)]
    #[case("?*", "", false)]
    #[case("**a**", "bab", true)]
    #[case("a*b*c", "axxbxxc", true)]
    #[case("a*b*c", "axxcxxb", false)]
    #[case("*ab", "aab", true)]
    fn globs_match(#[case] glob: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(pattern(glob).matches(name), expected);
    }

    #[test]
    fn pattern_and_name_are_limited() {
        let longest = "a".repeat(63);
        assert!(pattern(&longest).matches(&longest));
        assert!(pattern(&"?".repeat(63)).matches(&longest));
        assert!(pattern(&"*".repeat(63)).matches(&longest));
        assert!(pattern("*").matches(&longest) && !pattern("*").matches(&"a".repeat(64)));
        assert!("a".repeat(64).parse::<Pattern>().is_err());
    }

    /// Reference implementation: the definition of a glob, without a limit of time.
    fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => matches_slowly(rest, name),
            (Some((b'*', rest)), Some((_, tail))) => {
                matches_slowly(rest, name) || matches_slowly(pattern, tail)
            }
            (Some((b'?', rest)), Some((_, tail))) => matches_slowly(rest, tail),
            (Some((a, rest)), Some((b, tail))) => a == b && matches_slowly(rest, tail),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_by_their_definition(glob in "[ab*?]{1,10}", name in "[ab]{0,10}") {
            prop_assert_eq!(pattern(&glob).matches(&name), matches_slowly(glob.as_bytes(), name.as_bytes()));
        }
    }
}
