//! URLs with a password, as in `postgres://user:password@host/`.

use super::placeholder;

/// Characters of a scheme that are looked at.
const MAX_SCHEME: usize = 32;

/// Whether a text has a URL whose password is a literal.
pub(super) fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, separator)| {
        let (before, after) = (
            text.get(..at).unwrap_or_default(),
            text.get(at + separator.len()..).unwrap_or_default(),
        );
        is_scheme(before)
            && password(authority(after)).is_some_and(|word| !placeholder::is_placeholder(word))
    })
}

/// Whether a text ends in a scheme: a letter before the colon is enough.
fn is_scheme(before: &str) -> bool {
    before
        .bytes()
        .rev()
        .take(MAX_SCHEME)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        .any(|byte| byte.is_ascii_alphabetic())
}

/// User, password, host and port: what stands before the path. It ends before the next URL, so that every byte of a
/// text is read for one URL alone.
fn authority(after: &str) -> &str {
    let end = after.find(|letter: char| letter.is_whitespace() || "/?#\"'<>`\\".contains(letter));
    end.and_then(|end| after.get(..end)).unwrap_or(after)
}

fn password(authority: &str) -> Option<&str> {
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("postgres://u:p4ss@h", true)]
    #[case("postgres://:p4ss@h/x", true)]
    #[case("first https://a/ then https://u:p4ss@h", true)]
    #[case("https://u:p@ss@h", true)]
    #[case("://u:p4ss@h", false)]
    #[case("https://u:@h", false)]
    #[case("https://h:80/a@b", false)]
    #[case("https://h?x=a:b@c", false)]
    fn passwords_are_found_before_the_host(#[case] text: &str, #[case] found: bool) {
        assert_eq!(has_password(text), found);
    }
}
