//! Formatting of errors and foreign texts in logs: an error with all of its causes, a text up to a limit.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Displays an error and its causes, joined by `: `. The `Display` of an error in this program never repeats its cause.
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

/// Shortens a text to at most `limit` bytes, ellipsis included.
#[must_use]
pub fn excerpt(text: &str, limit: usize) -> Cow<'_, str> {
    const ELLIPSIS: char = '…';
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len_utf8()));
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
    fn excerpt_ends_between_characters() {
        assert_eq!(excerpt("secret", 6), "secret");
        assert_eq!(excerpt("secrets", 6), "sec…");
        assert_eq!(excerpt("éééé", 7), "éé…");
        assert_eq!(excerpt(&"x".repeat(1 << 20), 1024).len(), 1024);
    }
}
