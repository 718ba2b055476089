//! JSON web tokens: a header in base64, a payload, and a signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a header that are decoded.
const MAX_HEADER_BYTES: usize = 512;

/// Characters of a signature at least: a token without one is no credential.
const MIN_SIGNATURE: usize = 16;

/// Whether a text has a signed (three parts) or an encrypted (five parts) token.
pub(super) fn is_in(text: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter))
        .any(is_token)
}

fn is_token(word: &str) -> bool {
    if !word.starts_with("eyJ") {
        return false;
    }
    let mut parts = word.split('.');
    let header = parts.next().unwrap_or_default();
    let (payload, signature) = (parts.next(), parts.next());
    let encrypted = parts.next().is_some() && parts.next().is_some();
    let signed = payload.is_some_and(|payload| payload.starts_with("eyJ"))
        && signature.is_some_and(|signature| signature.len() >= MIN_SIGNATURE);
    (signed || encrypted) && is_header(header)
}

/// Whether a part is the header of a token: an object that names an algorithm.
fn is_header(part: &str) -> bool {
    part.len() <= MAX_HEADER_BYTES
        && URL_SAFE_NO_PAD
            .decode(part)
            .is_ok_and(|header| header.windows(5).any(|window| window == b"\"alg\""))
}
