//! How errors and foreign texts are written into logs: the whole chain of causes, once each, and no more of a text than
//! a line has room for.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Displays an error and its causes, joined by `: `. Our errors never repeat their cause in `Display`.
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text, or its beginning of at most `most` bytes with an ellipsis in them.
#[must_use]
pub fn excerpt(text: &str, most: usize) -> Cow<'_, str> {
    const ELLIPSIS: char = '…';
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len_utf8()));
    Cow::Owned(
        text.get(..end)
            .unwrap_or_default()
            .chars()
            .chain([ELLIPSIS])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(excerpt("secret", 6), "secret");
        assert_eq!(excerpt("secrets", 6), "sec…");
        assert_eq!(excerpt("éééé", 7), "éé…");
        assert_eq!(excerpt(&"x".repeat(1 << 20), 1024).len(), 1024);
    }
}
