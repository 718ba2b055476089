//! Marks in comments that allow the literal secrets of their line.

/// Comments that allow, without their spaces: detect-secrets' and gitleaks' own.
const MARKS: [&str; 3] = [
    "pragma:allowlistsecret",
    "pragma:allowlist-secret",
    "gitleaks:allow",
];

/// Whether a source line has a comment that allows literal secrets in it: `# pragma: allowlist secret`, or
/// `# gitleaks:allow`. The mark begins the comment; words may follow it.
pub(crate) fn is_allowed(line: &str) -> bool {
    let Some(comment) = comment_of(line) else {
        return false;
    };
    let letters = comment
        .chars()
        .filter(|character| !character.is_whitespace());
    MARKS.iter().any(|mark| {
        let mut rest = letters.clone();
        mark.chars().all(|expected| rest.next() == Some(expected)) && ends_word(comment, mark)
    })
}

/// Whether the mark ends at the end of a word, so that `gitleaks:allowed-hosts` is not a mark.
fn ends_word(comment: &str, mark: &str) -> bool {
    let mut left = mark.chars().count();
    let mut rest = comment.chars();
    while left > 0 {
        match rest.next() {
            Some(character) if character.is_whitespace() => {}
            Some(_) => left -= 1,
            None => return false,
        }
    }
    rest.next()
        .is_none_or(|next| !next.is_alphanumeric() && next != '-' && next != '_')
}

/// Text of the comment at the end of a line of YAML. A `#` begins one at the start of a line or after a space, unless it
/// stands in quotes.
fn comment_of(line: &str) -> Option<&str> {
    let mut quote = None;
    let mut before = ' ';
    let mut opens = true;
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            None if character == '#' && before.is_whitespace() => {
                return line.get(at + 1..);
            }
            // Quotes begin a scalar; within one, as in `it's`, they are letters.
            None if opens && matches!(character, '"' | '\'') => quote = Some(character),
            _ => {}
        }
        if !character.is_whitespace() {
            opens = matches!(character, ':' | ',' | '[' | '{' | '-' | '?');
        }
        before = character;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("client_secret: demo-secret  # pragma: allowlist secret", true)]
    #[case("client_secret: demo-secret # gitleaks:allow", true)]
    #[case("# pragma: allowlist secret", true)]
    #[case("password: \"a # b\"  #pragma:allowlist secret", true)]
    #[case("password: it's # gitleaks:allow because of the demo", true)]
    #[case("password: 'it''s' # gitleaks:allow", true)]
    #[case("private_key: | # pragma: allowlist secret", true)]
    #[case("password: \"x\\\" # gitleaks:allow\"", false)]
    #[case("password: \"x # pragma: allowlist secret\"", false)]
    #[case("password: 'x # gitleaks:allow'", false)]
    #[case("password: x#gitleaks:allow", false)]
    #[case("password: x # gitleaks:allowed-hosts", false)]
    #[case("password: x # pragma: allowlist secrets", false)]
    #[case("password: x # never gitleaks:allow", false)]
    #[case("password: pragma: allowlist secret", false)]
    #[case("password: x #", false)]
    #[case("", false)]
    fn marks_count_in_comments_alone(#[case] line: &str, #[case] allowed: bool) {
        assert_eq!(is_allowed(line), allowed);
    }
}
