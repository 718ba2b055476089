//! Random text: keys without a shape of their own.

use super::field_name;
use super::private_key::{self, BEGIN_BASE64};

/// Characters of random text at least. Shorter ones are as often names.
const MIN_RANDOM: usize = 20;

/// Characters of random text in hexadecimal or small letters, in a field whose name hints at a secret.
const MIN_HINTED: usize = 24;

/// Shannon entropy of random text, in bits for each character. Twenty random letters and digits have about 4.
const MIN_ENTROPY: f64 = 3.5;

/// Changes between small letters, capitals and digits, in percent of the steps from one character to the next. Random
/// text has 62, names in `camelCase` less than 35.
const MIN_CHANGES: usize = 40;

/// Characters of one kind in a row: longer ones are words.
const MAX_SAME: usize = 7;

/// Limit in texts of more than 40 characters, where chance makes longer ones.
const MAX_SAME_IN_LONG: usize = 12;

/// Whether a text has random text, and the field is not one for digests and identifiers.
pub(super) fn is_in(field: &str, text: &str) -> bool {
    if field_name::is_public(field) {
        return false;
    }
    if field_name::hints_at_secret(field) && is_hinted(text.trim()) {
        return true;
    }
    let mut before = 0;
    let mut in_block = false;
    words(text).any(|(at, word)| {
        // Whatever is left in PEM is public: private keys have their own rule.
        let between = text.get(before..at).unwrap_or_default();
        before = at + word.len();
        if word.starts_with("-----BEGIN") || word.ends_with("-----BEGIN") {
            in_block = true;
        }
        if word.starts_with("-----END") || word.ends_with("-----END") {
            in_block = false;
        }
        !in_block && !is_public(text, between, at, word) && is_random(word)
    })
}

/// Words with their place: runs of characters that base64 has, in both of its alphabets, without its padding: `=` also
/// stands between names and values.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "+/_-".contains(letter);
    let mut rest = 0;
    std::iter::from_fn(move || {
        let tail = text.get(rest..)?;
        let start = rest + tail.find(is_letter)?;
        let tail = text.get(start..)?;
        let end = tail.find(|letter| !is_letter(letter)).unwrap_or(tail.len());
        rest = start + end;
        Some((start, tail.get(..end)?))
    })
}

/// Whether a word is a digest, a public key, a certificate or an image.
fn is_public(text: &str, between: &str, at: usize, word: &str) -> bool {
    let head = text.get(..at).unwrap_or_default();
    let digest = [":", "-"].iter().any(|sign| {
        let named = head.ends_with(sign) && ends_in_sha(head.trim_end_matches(*sign));
        named || (*sign == "-" && word.starts_with("sha") && is_sha(word))
    });
    let data = between == "," && head.ends_with("base64,");
    let ssh = word.starts_with("AAAA");
    let pem = word.starts_with(BEGIN_BASE64);
    digest || data || ssh || pem || (word.starts_with('M') && private_key::der_kind(word).is_some())
}

/// Whether a text ends in the name of a digest, as in `sha256`.
fn ends_in_sha(head: &str) -> bool {
    let tail = head.get(head.ceil_char_boundary(head.len().saturating_sub(6))..);
    tail.is_some_and(|tail| {
        let tail = tail.to_ascii_lowercase();
        tail.ends_with("sha1") || ["sha256", "sha384", "sha512"].contains(&tail.as_str())
    })
}

/// Whether a word begins as digests of npm do, as in `sha512-`.
fn is_sha(word: &str) -> bool {
    word.split_once('-')
        .is_some_and(|(name, _)| ends_in_sha(name))
}

/// Kinds of characters between which random text changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CharacterKind {
    Small,
    Capital,
    Digit,
}

fn kind(byte: u8) -> Option<CharacterKind> {
    if byte.is_ascii_lowercase() {
        Some(CharacterKind::Small)
    } else if byte.is_ascii_uppercase() {
        Some(CharacterKind::Capital)
    } else {
        byte.is_ascii_digit().then_some(CharacterKind::Digit)
    }
}

/// Whether a word is random: small letters, capitals and digits, mixed as no name mixes them.
pub(super) fn is_random(word: &str) -> bool {
    if word.len() < MIN_RANDOM {
        return false;
    }
    let mut counts = [0_usize; 128];
    let (mut total, mut changes, mut same, mut longest) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut small, mut capital, mut digits) = (0_usize, 0_usize, 0_usize);
    let mut before = None;
    for byte in letters(word) {
        let kind = kind(byte);
        match kind {
            Some(CharacterKind::Small) => small += 1,
            Some(CharacterKind::Capital) => capital += 1,
            _ => digits += 1,
        }
        if before.is_some() && before != kind {
            changes += 1;
            same = 0;
        }
        same += 1;
        longest = longest.max(same);
        before = kind;
        total += 1;
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let max_same = if total > 40 {
        MAX_SAME_IN_LONG
    } else {
        MAX_SAME
    };
    total >= MIN_RANDOM
        && small >= 2
        && capital >= 2
        && digits >= 1
        && changes * 100 >= MIN_CHANGES * (total - 1)
        && longest <= max_same
        && entropy(&counts, total) >= MIN_ENTROPY
}

/// Letters and digits of a word, without the parts between its signs that are plain words or numbers.
fn letters(word: &str) -> impl Iterator<Item = u8> {
    word.split(['-', '_', '/', '+'])
        .filter(|part| !is_plain(part))
        .flat_map(str::bytes)
}

/// Whether a part is a word, a name or a number: `floe`, `Runner`, `WH`, `2026`.
fn is_plain(part: &str) -> bool {
    let mut rest = part.bytes();
    let Some(first) = rest.next() else {
        return true;
    };
    if first.is_ascii_digit() {
        return rest.all(|byte| byte.is_ascii_digit());
    }
    let tail = part.as_bytes().get(1..).unwrap_or_default();
    tail.iter().all(u8::is_ascii_lowercase)
        || (first.is_ascii_uppercase() && tail.iter().all(u8::is_ascii_uppercase))
}

/// Shannon entropy in bits for each character.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^32")]
fn entropy(counts: &[usize], total: usize) -> f64 {
    let total = total as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = *count as f64 / total;
            -share * share.log2()
        })
        .sum()
}

/// Whether a whole text is random in an alphabet that digests and names have, too.
fn is_hinted(text: &str) -> bool {
    if text.len() < MIN_HINTED {
        return false;
    }
    let lower = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let upper = text
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let mut counts = [0_usize; 128];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (lower || upper)
        && digits >= 3
        && digits + 3 <= text.len()
        && entropy(&counts, text.len()) >= 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("Zk3vT9qL2mX7wR5nB8cD1fG4", true)]
    #[case("Zk3vT9qL2mX7wR5nB8cD", true)]
    #[case("Zk3vT9qL2mX7wR5nB8c", false)]
    #[case("floe-dbt-Runner-2B7XQ4Z9", false)]
    #[case("Xml2ConverterFactoryV3", false)]
    #[case("0123456789abcdef0123456789abcdef", false)]
    #[case("aB1aB1aB1aB1aB1aB1aB1aB1", false)]
    fn random_text_differs_from_names(#[case] word: &str, #[case] random: bool) {
        assert_eq!(is_random(word), random);
    }

    #[test]
    fn hexadecimal_needs_a_field_that_hints_at_a_secret() {
        let value = "9f86d081884c7d659a2feaa0c55ad015";
        assert!(is_in("hmac_seed", value));
        assert!(!is_in("value", value));
        assert!(!is_in("private_key_id", value));
    }
}
