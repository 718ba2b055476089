//! Values of secret fields that are not the secret: placeholders, switches, paths, and references to a secret's place.

use super::expression::HOLE;
use super::{entropy, field_name};

/// Words of which placeholders are made, in lower case. `changeme` and its kin announce that a value is missing.
const PLACEHOLDER_WORDS: &[&str] = &[
    "changeme",
    "change",
    "replaceme",
    "replace",
    "redacted",
    "todo",
    "tbd",
    "fixme",
    "placeholder",
    "your",
    "example",
    "insert",
    "masked",
    "hidden",
    "omitted",
    "removed",
];

/// Switches and empty values, in lower case.
const SWITCHES: &[&str] = &[
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "null",
    "none",
    "nil",
    "undefined",
    "n/a",
    "~",
    "empty",
    "default",
    "required",
    "optional",
    "enabled",
    "disabled",
    "?",
];

/// Beginnings of references to a place where a secret is, and of encrypted values.
const REFERENCES: &[&str] = &[
    "arn:",
    "projects/",
    "vault:",
    "op://",
    "ENC[",
    "ENC(",
    "{cipher}",
    "ssm:",
    "secretsmanager:",
    "file:",
    "env:",
    "ref+",
    "keyring:",
    "ssh-rsa ",
    "ssh-ed25519 ",
    "ecdsa-sha2-",
    "sha256:",
    "sha512:",
];

/// Whether the text of a secret field is a literal, and neither a placeholder nor a reference to one.
pub(super) fn is_literal(text: &str) -> bool {
    let text = text.trim().trim_matches(['"', '\'']);
    !text.contains(HOLE)
        && !is_placeholder(text)
        && !is_reference(text)
        && !is_path(text)
        && !is_variable_name(text)
}

/// Whether a text stands for a value that is not there. Texts without a letter or digit are placeholders.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    if text.contains(HOLE) || !text.chars().any(char::is_alphanumeric) {
        return true;
    }
    if is_enclosed(text) || is_one_letter(text) {
        return true;
    }
    // Placeholders are short, and so are the texts below.
    if text.len() > 64 {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    SWITCHES.contains(&lower.as_str())
        || lower
            .split(|character: char| !character.is_ascii_alphanumeric())
            .any(|word| PLACEHOLDER_WORDS.contains(&word))
}

/// Whether a whole text is encrypted, by SOPS or Jasypt: it is as random as a key, and no secret.
pub(super) fn is_encrypted(text: &str) -> bool {
    (text.starts_with("ENC[AES256_GCM,") && text.ends_with(']'))
        || (text.starts_with("ENC(") && text.ends_with(')'))
}

/// Whether brackets enclose the whole text, as in `<password>`.
fn is_enclosed(text: &str) -> bool {
    [('<', '>'), ('{', '}'), ('[', ']')]
        .iter()
        .any(|(open, close)| text.starts_with(*open) && text.ends_with(*close))
        && !text.contains(['"', '\n'])
}

/// Whether one letter repeats, as in `xxxxxxxx`.
fn is_one_letter(text: &str) -> bool {
    let mut letters = text.chars().filter(|letter| letter.is_alphanumeric());
    let first = letters.next();
    let mut count = 1;
    let same = letters.all(|letter| {
        count += 1;
        Some(letter) == first
    });
    same && count >= 3
}

/// Whether a text names the place of a secret, or is encrypted.
fn is_reference(text: &str) -> bool {
    let is_url = text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.len() < 32
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    is_url || REFERENCES.iter().any(|start| text.starts_with(start))
}

/// Whether a text is the path of a file. Base64 may begin with a slash, too, but then it is random.
fn is_path(text: &str) -> bool {
    let absolute =
        text.starts_with(['/', '~']) || text.starts_with("./") || text.starts_with("../");
    let drive = text.as_bytes().get(1..3).is_some_and(|next| next == b":\\");
    (absolute || drive)
        && text.contains(['/', '\\'])
        && !text.contains(['\n', '='])
        && !text.split(['/', '\\']).any(entropy::is_random)
}

/// Whether a text is the name of a variable that has the secret, as in `DB_PASSWORD`.
fn is_variable_name(text: &str) -> bool {
    text.contains('_')
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && field_name::sounds_secret(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("hunter2", true)]
    #[case("password", true)]
    #[case("p4ss/word", true)]
    #[case("aa", true)]
    #[case("<password>", false)]
    #[case("xxxx-xxxx", false)]
    #[case("change-me", false)]
    #[case("changeit", true)]
    #[case("your_token", false)]
    #[case("/run/secrets/x", false)]
    #[case("/Zk3vT9qL2mX7wR5nB8cD1fG4hJ6kP0s+Yu", true)]
    #[case("https://example.com/token", false)]
    #[case("DB_PASSWORD", false)]
    #[case("TOP_SPEED", true)]
    #[case("C:\\keys\\a.pem", false)]
    fn literals_differ_from_placeholders(#[case] text: &str, #[case] literal: bool) {
        assert_eq!(is_literal(text), literal);
    }
}
