//! Excerpts of an author's text for sentences.

use std::borrow::Cow;

/// Limit of an excerpt: longer than the longest name, far shorter than the largest request.
const MAX_CHARS: usize = 260;

/// The text, or its beginning.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_CHARS {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_CHARS, excerpt};

    #[test]
    fn excerpt_keeps_names_and_shortens_longer_text() {
        let name = "n".repeat(253);
        assert_eq!(excerpt(&name), name);
        assert_eq!(excerpt(&"é".repeat(100_000)).chars().count(), MAX_CHARS + 1);
    }
}
