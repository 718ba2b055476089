//! Limits of tokens and key sets. docs/IDENTITY.md lists them.

use std::time::Duration;

/// Bytes of a token, checked before anything is decoded. Tokens of Keycloak with the roles of one client have 1 to
/// 2 kB, and a request's head has at most 16 KiB.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Bytes of a header before decoding. One with a certificate chain is longer, and no key is taken from a header.
pub const MAX_HEADER_BYTES: usize = 2 << 10;
/// Depth of objects and lists. Claims of Keycloak have 5 levels.
pub const MAX_DEPTH: usize = 12;
/// Audiences of a token.
pub const MAX_AUDIENCES: usize = 64;
/// Roles of one origin in a token.
pub const MAX_ROLES: usize = 256;
/// Groups of a token. Entra ID leaves out more than 200.
pub const MAX_GROUPS: usize = 256;
/// Characters of a subject, client, role, group, name or token id.
pub const MAX_TEXT: usize = 256;
/// Bytes of a `kid`.
pub const MAX_KEY_ID: usize = 128;
/// Difference of clocks that is tolerated.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// Time between `iat` and `exp`. Access tokens of Keycloak live 5 minutes.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// Bytes of a key set.
pub const MAX_KEY_SET_BYTES: usize = 64 << 10;
/// Keys of a key set. Those that cannot be used count.
pub const MAX_KEYS: usize = 64;
/// Bits of an RSA key: shorter ones are weak, longer ones are slow.
pub const MIN_RSA_BITS: usize = 2_048;
/// See [`MIN_RSA_BITS`].
pub const MAX_RSA_BITS: usize = 8_192;
/// Names of a claim path.
pub const MAX_CLAIM_PATH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::error::TokenRejection;

    const DOCS: &str = include_str!("../../../docs/IDENTITY.md");

    #[test]
    fn docs_contain_the_limits() {
        let number = |number: u64| usize::try_from(number).unwrap();
        let limits = [
            ("Bytes of a token", MAX_TOKEN_BYTES),
            ("Bytes of a header in base64url", MAX_HEADER_BYTES),
            ("Depth of objects and lists", MAX_DEPTH),
            ("Audiences of a token", MAX_AUDIENCES),
            ("Roles of a token from one place", MAX_ROLES),
            ("Groups of a token", MAX_GROUPS),
            (
                "Characters of a subject, client, role, group or id",
                MAX_TEXT,
            ),
            ("Bytes of a key id", MAX_KEY_ID),
            (
                "Seconds by which clocks may differ",
                number(LEEWAY.as_secs()),
            ),
            (
                "Hours between `iat` and `exp`",
                number(MAX_LIFETIME.as_secs() / 3_600),
            ),
            ("KiB of a key set", MAX_KEY_SET_BYTES >> 10),
            ("Keys of a key set", MAX_KEYS),
            ("Least bits of an RSA key", MIN_RSA_BITS),
            ("Most bits of an RSA key", MAX_RSA_BITS),
            ("Names of a place of roles or groups", MAX_CLAIM_PATH),
        ];
        for (name, limit) in limits {
            let row = format!("| {name} | {limit} |");
            assert!(DOCS.contains(&row), "docs/IDENTITY.md lacks {row}");
        }
    }

    #[test]
    fn docs_contain_the_reasons_to_reject_a_token() {
        for reason in TokenRejection::ALL {
            let is_row = |line: &&str| {
                line.starts_with(&format!("| `{reason}` |"))
                    && line.ends_with(&format!("| `{}` |", reason.public()))
            };
            let rows = DOCS.lines().filter(is_row).count();
            assert_eq!(rows, 1, "docs/IDENTITY.md lacks {reason}");
        }
    }
}
