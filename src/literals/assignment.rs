//! Secrets that a text assigns to a name: connection strings, command lines, JSON, SQL, and files in a field.

use super::prefix::prefix;
use super::{allow, field_name, placeholder};

/// Characters of a name before `=` or `:`.
const MAX_NAME: usize = 128;

/// Bytes of a value that are read, so that texts in which every value has the next one are read once.
const MAX_VALUE: usize = 256;

/// Characters of a value at least.
const MIN_VALUE: usize = 3;

/// Names of query parameters that are secret although they are words of another kind: the signature of a shared URL.
const PARAMETERS: &[&str] = &["sig", "signature", "x-amz-signature", "x-goog-signature"];

/// Whether a text assigns a literal to a name that sounds secret.
pub(super) fn is_in(text: &str) -> bool {
    has_equals(text) || has_json(text) || has_words(text) || has_lines(text)
}

/// `name=value`, in connection strings, queries and command lines. Spaces stand around `=` only before a quote.
fn has_equals(text: &str) -> bool {
    text.match_indices('=').any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + 1..).unwrap_or_default();
        if after.starts_with('=') || before.ends_with(['=', '!', '<', '>']) {
            return false;
        }
        let spaced = before.ends_with(' ') || after.starts_with(' ');
        let name = name_before(before.trim_end_matches(' '));
        let value = after.trim_start_matches(' ');
        if !is_secret_name(name) || (spaced && !value.starts_with(['"', '\''])) {
            return false;
        }
        is_assigned(name, value)
    })
}

/// `"name": "value"`, with either kind of quotes, also escaped.
fn has_json(text: &str) -> bool {
    text.match_indices(':').any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end_matches(' ');
        let after = text
            .get(at + 1..)
            .unwrap_or_default()
            .trim_start_matches(' ');
        let after = after.strip_prefix('\\').unwrap_or(after);
        let Some(unquoted) = before.strip_suffix(['"', '\'']) else {
            return false;
        };
        let name = name_before(unquoted.strip_suffix('\\').unwrap_or(unquoted));
        after.starts_with(['"', '\'']) && is_secret_name(name) && is_assigned(name, after)
    })
}

/// `--password value` of command lines, and `PASSWORD 'value'` and `IDENTIFIED BY 'value'` of SQL.
fn has_words(text: &str) -> bool {
    let mut before = "";
    let mut earlier = "";
    text.split_ascii_whitespace().any(|word| {
        let option = before.starts_with("--")
            && !before.contains('=')
            && !word.starts_with('-')
            && is_secret_name(before.trim_start_matches('-'));
        let sql = word.starts_with('\'')
            && (is_secret_name(before)
                || (before.eq_ignore_ascii_case("by")
                    && earlier.eq_ignore_ascii_case("identified")));
        let found = (option || sql) && is_assigned(before, word);
        earlier = before;
        before = word;
        found
    })
}

/// `name: value` and `name = value` in the lines of a text that is a file, without those that a mark allows.
fn has_lines(text: &str) -> bool {
    text.contains('\n')
        && text.lines().any(|line| {
            let content = line.trim_start_matches([' ', '\t', '-']);
            let Some(at) = content.find([':', '=']) else {
                return false;
            };
            let (name, value) = content.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            let name = name.trim_end().trim_matches(['"', '\'']);
            let value = value.split(" #").next().unwrap_or_default().trim();
            value.len() >= MIN_VALUE
                && !name.contains(' ')
                && name.len() <= MAX_NAME
                && !value.contains('(')
                && is_secret_name(name)
                && placeholder::is_literal(value)
                && !allow::is_allowed(line)
        })
}

/// Name at the end of a text.
fn name_before(text: &str) -> &str {
    let length = text
        .bytes()
        .rev()
        .take(MAX_NAME)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
        .count();
    text.get(text.len() - length..).unwrap_or_default()
}

fn is_secret_name(name: &str) -> bool {
    field_name::sounds_secret(name)
        || PARAMETERS
            .iter()
            .any(|parameter| name.eq_ignore_ascii_case(parameter))
}

/// Beginning of a text, up to a byte of ASCII.
fn before_byte(text: &str, is_end: impl Fn(u8) -> bool) -> &str {
    let end = text.bytes().position(is_end);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// Whether a byte ends a value without quotes.
fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(
            byte,
            b';' | b'&' | b',' | b'"' | b'\'' | b'`' | b')' | b'}' | b']' | b'|'
        )
}

/// Whether the value at the start of a text is a literal. A parameter of SQL, a column and a call are not.
fn is_assigned(name: &str, text: &str) -> bool {
    let text = prefix(text, MAX_VALUE);
    let quote = text
        .bytes()
        .next()
        .filter(|byte| matches!(byte, b'"' | b'\''));
    let value = match quote {
        Some(quote) => text
            .get(1..)
            .map(|rest| before_byte(rest, |byte| byte == quote)),
        None => Some(before_byte(text, ends_value)),
    };
    let value = value.unwrap_or_default().trim_end_matches('\\');
    if value.len() < MIN_VALUE || (quote.is_none() && value.starts_with([':', '?', '@', '&'])) {
        return false;
    }
    let column = value.rsplit_once('.').is_some_and(|(_, column)| {
        name.eq_ignore_ascii_case(column) || name.ends_with(&format!(".{column}"))
    });
    let call = quote.is_none() && value.contains('(');
    !column && !call && placeholder::is_literal(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("a=b;Password=hunter2;c=d", true)]
    #[case("password = 'hunter2'", true)]
    #[case("password = hunter2", false)]
    #[case("password == 'hunter2'", false)]
    #[case("u.token=t.token", false)]
    #[case("token=get_token()", false)]
    #[case("sig=abcdef", true)]
    #[case("{\"password\": \"hunter2\"}", true)]
    #[case("{\\\"password\\\":\\\"hunter2\\\"}", true)]
    #[case("{\"password\": \"\"}", false)]
    #[case("run --password hunter2", true)]
    #[case("run --password --user x", false)]
    #[case("identified by 'hunter2'", true)]
    #[case("the token: hunter2", false)]
    #[case("x:\n  password: hunter2\n", true)]
    #[case("x:\n  password: hunter2 # gitleaks:allow\n", false)]
    #[case("[db]\npassword = hunter2\n", true)]
    #[case("x\npassword: /run/secrets/x\n", false)]
    fn assignments_are_found(#[case] text: &str, #[case] found: bool) {
        assert_eq!(is_in(text), found);
    }
}
