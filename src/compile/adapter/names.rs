//! Names of fields that hold secrets, for fields that the table does not have.

/// Last words of a name that make it one of a secret.
const SECRET_WORDS: &[&str] = &[
    "access_key",
    "access_key_id",
    "account_key",
    "api_key",
    "apikey",
    "auth_key",
    "bearer",
    "client_secret",
    "connection_string",
    "credential",
    "credentials",
    "encryption_key",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "private_key_id",
    "pwd",
    "sas",
    "secret",
    "secret_access_key",
    "secret_key",
    "secretkey",
    "shared_key",
    "signing_key",
    "token",
];

/// Whether a name ends in words for a secret: `oauth_client_secret`, `s3SecretAccessKey`. Names of paths, addresses and
/// files (`private_key_path`, `token_uri`) do not.
pub(super) fn is_known_secret_name(name: &str) -> bool {
    let name = snake_case(name);
    SECRET_WORDS.iter().any(|word| {
        name.strip_suffix(word)
            .is_some_and(|before| before.is_empty() || before.ends_with('_'))
    })
}

/// A name in lower case, with an underscore between words.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    let mut previous_is_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && previous_is_lower {
            snake.push('_');
        }
        previous_is_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        });
    }
    snake
}

/// Last name of a path.
pub(super) fn last_name(path: &str) -> &str {
    let name = path.rsplit('.').next().unwrap_or(path);
    name.trim_end_matches("[]")
}
