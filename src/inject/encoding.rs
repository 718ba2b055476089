//! Decoding of inputs: UTF-8, or UTF-16 after a byte order mark, as in kubectl.

/// U+FEFF, the byte order mark.
pub(crate) const MARK: char = '\u{feff}';

/// Error about bytes that are not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotText {
    /// Line of the first invalid byte, from 1, if it can be counted.
    pub line: Option<usize>,
    pub problem: &'static str,
}

/// Decodes a file or stream. A byte order mark of UTF-16 is removed, because the result is UTF-8.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes).map_err(|error| {
            let valid = error
                .as_bytes()
                .get(..error.utf8_error().valid_up_to())
                .unwrap_or_default();
            let line = valid.split(|b| *b == b'\n').count();
            NotText {
                line: Some(line),
                problem: "is not UTF-8 text",
            }
        }),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match decoded {
            Ok(c) => text.push(c),
            Err(_) => return Err(not_utf16(&text)),
        }
    }
    if rest.is_empty() {
        Ok(text)
    } else {
        Err(not_utf16(&text))
    }
}

fn not_utf16(before: &str) -> NotText {
    NotText {
        line: Some(before.split('\n').count()),
        problem: "is not UTF-16 text, as its byte order mark says",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_bytes(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff)
            .chain(text.encode_utf16())
            .flat_map(bytes)
            .collect()
    }

    #[rstest::rstest]
    #[case::little_endian(u16::to_le_bytes)]
    #[case::big_endian(u16::to_be_bytes)]
    fn utf16_is_decoded_by_its_mark(#[case] bytes: fn(u16) -> [u8; 2]) {
        let text = "a: é\n日本: 😀\n";
        assert_eq!(decode(utf16_bytes(text, bytes)).as_deref(), Ok(text));
        let mut cut = utf16_bytes(text, bytes);
        cut.pop();
        let problem = "is not UTF-16 text, as its byte order mark says";
        assert_eq!(
            decode(cut),
            Err(NotText {
                line: Some(2),
                problem
            })
        );
        let lone = [utf16_bytes("a\n", bytes), bytes(0xd800).to_vec()].concat();
        assert_eq!(
            decode(lone),
            Err(NotText {
                line: Some(2),
                problem
            })
        );
    }

    #[test]
    fn utf8_keeps_its_mark() {
        assert_eq!(decode("\u{feff}a".into()).as_deref(), Ok("\u{feff}a"));
        assert_eq!(
            decode(b"a\n\xff".to_vec()),
            Err(NotText {
                line: Some(2),
                problem: "is not UTF-8 text"
            })
        );
    }
}
