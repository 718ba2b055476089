//! Private keys: PEM, PEM and DER in base64, files of `PuTTY`, age identities.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::der::{self, DerKind};

/// Beginning of a block of PEM.
const BEGIN: &str = "-----BEGIN ";

/// [`BEGIN`] in base64, as far as it does not depend on what follows.
pub(super) const BEGIN_BASE64: &str = "LS0tLS1CRUdJ";

/// Beginnings that no other text has.
const MARKS: [&str; 2] = ["PuTTY-User-Key-File-", "AGE-SECRET-KEY-1"];

/// Characters of the label in a block's first line.
const MAX_LABEL: usize = 64;

/// Characters of base64 that are decoded: enough for the first line of PEM and the start of DER.
const HEAD: usize = 96;

/// Characters of the shortest private key in DER and base64, an Ed25519 key.
const MIN_DER: usize = 60;

/// Whether a text has a private key.
pub(super) fn is_in(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark)) || has_pem(text) || has_base64(text)
}

fn has_pem(text: &str) -> bool {
    text.match_indices(BEGIN).any(|(at, begin)| {
        let label = text.as_bytes().get(at + begin.len()..).unwrap_or_default();
        let label = label.get(..label.len().min(MAX_LABEL)).unwrap_or_default();
        let end = label.windows(5).position(|window| window == b"-----");
        let label = end.and_then(|end| label.get(..end)).unwrap_or_default();
        label.windows(11).any(|window| window == b"PRIVATE KEY")
    })
}

fn has_base64(text: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '+' && letter != '/')
        .filter(|word| word.len() >= MIN_DER)
        .any(|word| {
            if word.starts_with(BEGIN_BASE64) {
                return head(word)
                    .is_some_and(|head| head.windows(11).any(|window| window == b"PRIVATE KEY"));
            }
            word.starts_with('M') && der_kind(word) == Some(DerKind::PrivateKey)
        })
}

/// Kind of the structure that a word has in base64.
pub(super) fn der_kind(word: &str) -> Option<DerKind> {
    der::kind(&head(word)?)
}

/// First bytes of a word in base64.
fn head(word: &str) -> Option<Vec<u8>> {
    let length = word.len().min(HEAD) / 4 * 4;
    STANDARD_NO_PAD.decode(word.get(..length)?).ok()
}
