//! Text of files in lines of output.

use std::borrow::Cow;

/// The text with its control characters escaped, as in `\n` and `\u{1b}`: a name in a file must neither begin a line of
/// its own, which a CI system may run as a command, nor control the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            escaped.extend(letter.escape_default());
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            printable("a\n::error\u{1b}[31m\r\u{9b}"),
            "a\\n::error\\u{1b}[31m\\r\\u{9b}"
        );
        assert!(matches!(printable("é …"), Cow::Borrowed(_)));
    }
}
