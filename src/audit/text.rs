//! Texts of a record: bounded, without control characters, and still distinguishable when they were changed.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use serde::{Serialize, Serializer};

use crate::telemetry::characters::is_obeyed;

/// Entries of a list in a record, such as the groups of a user: as many as a token of an organisation has in use.
pub const MAX_LIST: usize = 12;

/// A name or an identifier in a record, of at most `N` bytes as they are written (a quote and a backslash are two).
///
/// Characters that a terminal or a log viewer would obey, such as control characters and marks that reorder text, are
/// written as `\u{202e}`. A text that was changed so, or is too long, ends with `…` and 16 digits of the SHA-256 of the
/// original: different texts remain different.
///
/// There is no conversion from a secret's value, whose type has no access to its text without `expose_secret`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize> {
    text: Box<str>,
    /// Whether JSON may write the text otherwise. Checked once, and not again when the text is written.
    is_special: bool,
}

/// Text that JSON has as it is.
#[derive(Serialize)]
struct PlainText<'t>(&'t str);

/// Name of [`PlainText`] among serialized values.
pub(super) const PLAIN_TEXT: &str = "PlainText";

/// Bytes of the mark at the end of a changed text: `…` and 16 digits.
const MARK: usize = '…'.len_utf8() + 16;

impl<const N: usize> Text<N> {
    #[must_use]
    pub fn new(text: &str) -> Self {
        const { assert!(N > MARK, "room for the mark of a changed text") };
        // Most texts are names.
        if text.len() <= N && is_plain(text) {
            return Self {
                text: text.into(),
                is_special: false,
            };
        }
        let text = if written_length(text) <= N && !text.chars().any(is_obeyed) {
            text.into()
        } else {
            Self::changed(text)
        };
        Self {
            text,
            is_special: true,
        }
    }

    /// Text with a mark, for one that is too long or has characters that would be obeyed.
    fn changed(text: &str) -> Box<str> {
        let (mut kept, mut length, mut escaped) = (String::new(), 0, String::new());
        // A long text is not read further than it can be kept.
        for character in text.chars().take(N) {
            escaped.clear();
            if is_obeyed(character) {
                escaped.extend(character.escape_unicode());
            } else {
                escaped.push(character);
            }
            length += written_length(&escaped);
            if length > N - MARK {
                break;
            }
            kept.push_str(&escaped);
        }
        kept.push('…');
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        for byte in digest.as_ref().iter().take(8) {
            let _ = write!(kept, "{byte:02x}");
        }
        kept.into()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_special {
            serializer.serialize_str(&self.text)
        } else {
            PlainText(&self.text).serialize(serializer)
        }
    }
}

/// At most [`MAX_LIST`] texts. The last entry of a longer list is the number of those that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TextList<const N: usize>(Vec<Text<N>>);

impl<const N: usize> TextList<N> {
    #[must_use]
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut texts = texts.into_iter();
        let mut kept: Vec<Text<N>> = texts.by_ref().take(MAX_LIST).map(Text::new).collect();
        let more = texts.count();
        if more > 0 {
            kept.pop();
            kept.push(Text::new(&format!("…and {} more", more + 1)));
        }
        Self(kept)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a text has printable ASCII characters without a quote and a backslash, which JSON has as they are. All bytes
/// are read, many at a time, which takes less than to stop at the first other one.
pub(super) fn is_plain(text: &str) -> bool {
    let is_other = |byte: u8| !matches!(byte, b' '..=b'~') | matches!(byte, b'"' | b'\\');
    !text
        .bytes()
        .fold(false, |found, byte| found | is_other(byte))
}

/// Bytes of a text without control characters in a JSON string.
fn written_length(text: &str) -> usize {
    text.len()
        + text
            .bytes()
            .filter(|byte| matches!(byte, b'"' | b'\\'))
            .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("system:serviceaccount:jobs:dbt", "system:serviceaccount:jobs:dbt")]
    #[case::at_the_limit("éééééééééééééééééééé", "éééééééééééééééééééé")]
    #[case::quotes(r#"CORP\al"ice"#, r#"CORP\al"ice"#)]
    #[case::beyond("01234567890123456789012345678901234567890", "012345678901234567890…")]
    #[case::between_characters("éééééééééééééééééééééé", "éééééééééé…")]
    #[case::newline("a\nb", "a\\u{a}b…")]
    #[case::direction("a\u{202e}b", "a\\u{202e}b…")]
    #[case::no_width("ad\u{200b}min", "ad\\u{200b}min…")]
    #[case::terminal("\u{1b}[2J", "\\u{1b}[2J…")]
    fn text_is_bounded_and_shown(#[case] text: &str, #[case] expected: &str) {
        let kept = Text::<40>::new(text);
        let kept = kept.as_str();
        let (kept, mark) = kept.split_at(kept.find('…').map_or(kept.len(), |at| at + 3));
        assert_eq!(kept, expected);
        assert_eq!(mark.len(), if expected.ends_with('…') { 16 } else { 0 });
    }

    #[test]
    fn text_differs_where_the_originals_differ() {
        assert_eq!(Text::<40>::default(), Text::new(""));
        let text = |end: &str| Text::<40>::new(&("x".repeat(100) + end));
        assert_ne!(text("a"), text("b"));
        assert_ne!(Text::<40>::new("a\u{200b}"), Text::<40>::new("a\\u{200b}"));
    }

    #[test]
    fn list_is_bounded() {
        let list = |count: usize| TextList::<40>::new(vec!["group"; count]);
        assert_eq!(list(MAX_LIST).0.len(), MAX_LIST);
        assert_eq!(list(MAX_LIST + 9).0.len(), MAX_LIST);
        assert_eq!(list(MAX_LIST + 9).0[MAX_LIST - 1].as_str(), "…and 10 more");
    }

    proptest! {
        #[test]
        fn text_fits_and_is_json_without_escapes_of_controls(text in any::<String>()) {
            let written = serde_json::to_string(&Text::<40>::new(&text)).unwrap();
            prop_assert!(written.len() <= 42, "{written}");
            prop_assert!(!written.chars().any(is_obeyed));
        }
    }
}
