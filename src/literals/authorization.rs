//! Values of HTTP's Authorization header, and user and password in base64.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{entropy, field_name, placeholder};

/// Characters of a token at least; `Token` is a word of prose, so it needs more.
const MIN_BEARER: usize = 8;
const MIN_TOKEN: usize = 16;

/// Characters of user and password in base64.
const MAX_BASIC: usize = 1024;

/// Whether a text has the value of an Authorization header, or a field for one has user and password.
pub(super) fn is_in(field: &str, text: &str) -> bool {
    if field_name::is_authorization(field) && is_basic(text.trim()) {
        return true;
    }
    let mut before = "";
    text.split_ascii_whitespace().any(|word| {
        let found = is_credential(before, word);
        before = word;
        found
    })
}

/// Whether a word is the credential of the scheme before it.
fn is_credential(scheme: &str, word: &str) -> bool {
    let scheme = scheme
        .rsplit(|letter: char| !letter.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    let word = word.trim_matches(['"', '\'', ',', ';', '`', '\\']);
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("basic") {
        return is_basic(word);
    }
    let min = if is("bearer") {
        MIN_BEARER
    } else if is("token") || is("apikey") {
        MIN_TOKEN
    } else {
        return false;
    };
    let is_token = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    let is_path = word.contains('/') && !entropy::is_random(word);
    word.len() >= min
        && is_token
        && !is_path
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && !placeholder::is_placeholder(word)
}

/// Whether a word is user and password in base64.
fn is_basic(word: &str) -> bool {
    if word.len() > MAX_BASIC {
        return false;
    }
    let decoded = STANDARD
        .decode(word)
        .or_else(|_| STANDARD_NO_PAD.decode(word));
    decoded.is_ok_and(|bytes| {
        let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        let colon = bytes.iter().position(|byte| *byte == b':');
        printable && colon.is_some_and(|colon| colon > 0 && colon + 1 < bytes.len())
    })
}
