//! Names of fields and variables that sound secret, as in `client_secret`, and names that only have such a word in them.

/// Characters of a name that are read: its end. Names are shorter; a key of a map may be anything.
const MAX_NAME_BYTES: usize = 256;

/// Last words of a name that make it secret, and ends of words written together, as in `PGPASSWORD`.
const SECRET_ENDS: &[&str] = &[
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "secretkey",
    "accesskey",
    "privatekey",
];

/// Last words that make a name secret if they are words of their own: `compass` does not end in `pass`.
const SECRET_WORDS: &[&str] = &[
    "pass",
    "pwd",
    "pw",
    "pswd",
    "dbpass",
    "credential",
    "credentials",
    "pat",
    "sas",
];

/// Words before `key` that make it secret. A `partition_key` is not.
const SECRET_KEYS: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "account",
    "storage",
    "shared",
    "encryption",
    "signing",
    "master",
    "fernet",
    "hmac",
    "auth",
    "app",
    "application",
    "service",
    "license",
];

/// Words before `secret` that make it the name of a Kubernetes Secret, and words before `token` that page through lists.
const PLAIN_BEFORE: &[(&str, &[&str])] = &[
    (
        "secret",
        &[
            "existing",
            "pull",
            "tls",
            "password",
            "credentials",
            "k8s",
            "kubernetes",
            "use",
            "is",
            "has",
        ],
    ),
    (
        "token",
        &[
            "page",
            "next",
            "continue",
            "continuation",
            "pagination",
            "pad",
            "eos",
            "bos",
            "use",
            "is",
            "has",
        ],
    ),
    ("password", &["use", "is", "has", "require", "no"]),
];

/// Words anywhere in a name that hint at a secret, for random text that proves nothing by itself.
const HINTS: &[&str] = &[
    "key",
    "secret",
    "token",
    "pass",
    "password",
    "auth",
    "credential",
    "credentials",
    "salt",
    "hmac",
    "cookie",
    "sas",
    "signature",
];

/// Last words of names whose values are random and public.
const PUBLIC_WORDS: &[&str] = &[
    "id",
    "ids",
    "uid",
    "uuid",
    "guid",
    "digest",
    "checksum",
    "sha",
    "sha1",
    "sha256",
    "sha512",
    "md5",
    "hash",
    "commit",
    "revision",
    "rev",
    "fingerprint",
    "etag",
    "integrity",
    "version",
    "image",
    "certificate",
    "certificates",
    "cert",
    "certs",
    "ca",
    "bundle",
    "cabundle",
    "public",
    "pub",
    "arn",
];

/// Prefix of our annotations, whose values name secrets: `secrets.floe.dev/env.PGPASSWORD: postgres/password`.
const ANNOTATION_PREFIX: &str = "secrets.floe.dev/";

/// Whether the value of a field with this name is expected to be a secret.
pub(super) fn sounds_secret(field: &str) -> bool {
    if field.contains(ANNOTATION_PREFIX) {
        return false;
    }
    let words = words(field);
    let mut backwards = words.iter().rev().map(String::as_str);
    let Some(last) = backwards.next() else {
        return false;
    };
    let before = backwards.next().unwrap_or_default();
    if last == "key" {
        return SECRET_KEYS.contains(&before);
    }
    let plain = PLAIN_BEFORE
        .iter()
        .any(|(word, qualifiers)| *word == last && qualifiers.contains(&before));
    !plain && (SECRET_WORDS.contains(&last) || SECRET_ENDS.iter().any(|end| last.ends_with(end)))
}

/// Whether a name hints at a secret, more weakly than [`sounds_secret`].
pub(super) fn hints_at_secret(field: &str) -> bool {
    !is_public(field)
        && words(field)
            .iter()
            .any(|word| HINTS.contains(&word.as_str()))
}

/// Whether random text is usual for a field, as in `commit`.
pub(super) fn is_public(field: &str) -> bool {
    let words = words(field);
    let mut backwards = words.iter().rev().map(String::as_str);
    match (backwards.next(), backwards.next()) {
        (Some("key"), Some("public" | "host" | "authorized")) => true,
        (Some(last), _) => PUBLIC_WORDS.contains(&last),
        _ => false,
    }
}

/// Whether a field has the value of an Authorization header, as `auth` in npm's and Docker's files.
pub(super) fn is_authorization(field: &str) -> bool {
    words(field)
        .last()
        .is_some_and(|word| matches!(word.as_str(), "auth" | "authorization"))
}

/// Words of the last field in a path, in lower case: of `config.auth.clientSecret[0]`, `client` and `secret`.
fn words(field: &str) -> Vec<String> {
    let start = field.ceil_char_boundary(field.len().saturating_sub(MAX_NAME_BYTES));
    let mut name = field.get(start..).unwrap_or_default();
    // Indices of a list: its name is that of its items.
    while let Some((list, index)) = name
        .strip_suffix(']')
        .and_then(|name| name.rsplit_once('['))
    {
        if !index.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        name = list;
    }
    // Settings of Hadoop and Spark are words with dots: `fs.s3a.secret.key`.
    let parent = name.strip_suffix(".key").and_then(last_part);
    let mut words = parent.map(split_words).unwrap_or_default();
    words.extend(last_part(name).map(split_words).unwrap_or_default());
    words
}

/// Name behind the last dot or slash.
fn last_part(name: &str) -> Option<&str> {
    name.rsplit(['.', '/']).find(|part| !part.is_empty())
}

/// Words of one name, in lower case: at every sign, and before a capital that follows a small letter or a digit.
fn split_words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = '_';
    for letter in name.chars() {
        let starts =
            letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if (starts || !letter.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("password", true)]
    #[case("PGPASSWORD", true)]
    #[case("clientSecret", true)]
    #[case("oauth2.client_secret", true)]
    #[case("auth.passwords[0][1]", true)]
    #[case("X-API-Key", true)]
    #[case("AIRFLOW__CORE__FERNET_KEY", true)]
    #[case("spark.hadoop.fs.s3a.secret.key", true)]
    #[case("config.password.secretRef.key", false)]
    #[case("password_file", false)]
    #[case("secret_name", false)]
    #[case("existingSecret", false)]
    #[case("token_endpoint", false)]
    #[case("partition_key", false)]
    #[case("key", false)]
    #[case("compass", false)]
    #[case("password.length", false)]
    #[case("", false)]
    #[case("[0]", false)]
    fn names_are_read_by_their_last_words(#[case] field: &str, #[case] secret: bool) {
        assert_eq!(sounds_secret(field), secret);
    }

    #[test]
    fn long_names_are_read_at_their_end() {
        let name = format!("{}.password", "ä".repeat(1_000_000));
        assert!(sounds_secret(&name));
        assert!(!sounds_secret(&"[0]".repeat(1_000_000)));
    }
}
