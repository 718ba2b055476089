//! Shapes of keys: fixed texts and runs of characters, matched at the start of a word.

/// Characters of a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alphabet {
    Digits,
    /// `0-9a-f`
    Hex,
    /// `0-9a-f` and `-`, as in UUIDs.
    HexDash,
    /// `A-Z0-9`
    Upper,
    /// `a-z0-9`
    Lower,
    /// `A-Za-z0-9`
    Alnum,
    /// `A-Za-z0-9`, with at least one of each kind: behind a beginning that is also that of words.
    Mixed,
    /// `A-Za-z0-9_-`
    Url,
    /// `A-Za-z0-9+/=_-`
    Base64,
    /// `A-Za-z0-9~._-`
    Azure,
}

/// A part of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Text(&'static str),
    /// Exactly so many characters.
    Run(Alphabet, usize),
    /// From the first to the second number of characters.
    Range(Alphabet, usize, usize),
    /// So many characters, whatever follows.
    From(Alphabet, usize),
}

/// A kind of key.
#[derive(Debug)]
pub(super) struct Shape {
    /// Name of the rule.
    pub(super) rule: &'static str,
    pub(super) parts: &'static [Part],
}

/// Characters of a run from which it must not be a placeholder such as `xxxxxxxx`.
const MIN_RANDOM_RUN: usize = 16;

/// Different characters that a run of [`MIN_RANDOM_RUN`] has at least.
const MIN_DISTINCT: u32 = 5;

impl Alphabet {
    fn contains(self, byte: u8) -> bool {
        match self {
            Self::Digits => byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Self::HexDash => Self::Hex.contains(byte) || byte == b'-',
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Lower => byte.is_ascii_lowercase() || byte.is_ascii_digit(),
            Self::Alnum | Self::Mixed => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
            Self::Base64 => byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte),
            Self::Azure => byte.is_ascii_alphanumeric() || b"~._-".contains(&byte),
        }
    }
}

impl Shape {
    /// Whether a text begins with the shape. Reads no more of it than the shape has characters.
    pub(super) fn is_prefix_of(&self, text: &[u8]) -> bool {
        let mut rest = text;
        for part in self.parts {
            let Some(after) = part.strip(rest) else {
                return false;
            };
            rest = after;
        }
        matches!(self.parts.last(), Some(Part::From(..)))
            || !rest.first().is_some_and(u8::is_ascii_alphanumeric)
    }

    /// Whether the shape may begin with a byte.
    pub(super) fn may_begin_with(&self, byte: u8) -> bool {
        match self.parts.first() {
            Some(Part::Text(text)) => text.as_bytes().first() == Some(&byte),
            Some(Part::Run(alphabet, _) | Part::Range(alphabet, ..) | Part::From(alphabet, _)) => {
                alphabet.contains(byte)
            }
            None => false,
        }
    }
}

impl Part {
    /// The text behind the part, if it begins with it.
    fn strip(self, text: &[u8]) -> Option<&[u8]> {
        let (alphabet, min, max) = match self {
            Self::Text(fixed) => return text.strip_prefix(fixed.as_bytes()),
            Self::Run(alphabet, length) | Self::From(alphabet, length) => {
                (alphabet, length, length)
            }
            Self::Range(alphabet, min, max) => (alphabet, min, max),
        };
        let length = text
            .iter()
            .take(max)
            .take_while(|byte| alphabet.contains(**byte))
            .count();
        let (run, rest) = text.split_at_checked(length)?;
        (length >= min && is_varied(run) && is_mixed(alphabet, run)).then_some(rest)
    }
}

/// Whether a long run has more than a few different characters, and does not call itself an example.
fn is_varied(run: &[u8]) -> bool {
    if run.len() < MIN_RANDOM_RUN {
        return true;
    }
    let seen = run
        .iter()
        .fold(0_u128, |seen, byte| seen | 1 << (byte & 0x7f));
    seen.count_ones() >= MIN_DISTINCT && !run.ends_with(b"EXAMPLE")
}

fn is_mixed(alphabet: Alphabet, run: &[u8]) -> bool {
    !matches!(alphabet, Alphabet::Mixed)
        || (run.iter().any(u8::is_ascii_digit)
            && run.iter().any(u8::is_ascii_uppercase)
            && run.iter().any(u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rule: "test",
        parts: &[
            Part::Text("t_"),
            Part::Run(Alphabet::Hex, 4),
            Part::Text("."),
            Part::Range(Alphabet::Digits, 2, 3),
        ],
    };

    #[rstest::rstest]
    #[case("t_00ff.12", true)]
    #[case("t_00ff.123-more", true)]
    #[case("t_00ff.1234", false)]
    #[case("t_00ff.1", false)]
    #[case("t_00ff.12x", false)]
    #[case("t_00fg.12", false)]
    #[case("t_00f", false)]
    #[case("", false)]
    fn shapes_match_their_whole_word(#[case] text: &str, #[case] matches: bool) {
        assert_eq!(SHAPE.is_prefix_of(text.as_bytes()), matches);
    }

    #[test]
    fn runs_of_a_placeholder_do_not_match() {
        let shape = Shape {
            rule: "test",
            parts: &[Part::Text("k"), Part::Run(Alphabet::Upper, 16)],
        };
        assert!(!shape.is_prefix_of(b"kXXXXXXXXXXXXXXXX"));
        assert!(!shape.is_prefix_of(b"kIOSFODNN7EXAMPLE"));
        assert!(shape.is_prefix_of(b"kIOSFODNN7ABCDEFG"));
    }
}
