//! Beginnings of texts, for rules that read a bounded part of a value.

/// Beginning of a text, cut at a character.
pub(super) fn prefix(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}
