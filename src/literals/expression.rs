//! Expressions in a value: Jinja, and references to variables. They name a secret without having it.

/// Character that stands for an expression in the text around it. No rule takes it for a part of a secret.
pub(super) const HOLE: char = '\u{fffc}';

/// The text with every expression replaced by [`HOLE`], and the defaults that stand in expressions of Jinja.
///
/// Expressions are `{{ … }}`, `{% … %}`, `{# … #}`, `${…}`, `${{ … }}`, `$(…)`, `$NAME`, `%(…)s` and `%NAME%`.
pub(super) fn without_expressions(value: &str) -> (String, Vec<&str>) {
    let mut text = String::with_capacity(value.len());
    let mut defaults = Vec::new();
    let mut rest = value;
    // An opening without its end is text, and so is every later one of its kind: it is not searched for again.
    let mut unclosed: [bool; CLOSED.len()] = [false; CLOSED.len()];
    while let Some(at) = rest.find(['{', '$', '%']) {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let Some(length) = expression_length(after, &mut unclosed) else {
            let first = after.chars().next().map_or(0, char::len_utf8);
            let (letter, left) = after.split_at(first);
            text.push_str(letter);
            rest = left;
            continue;
        };
        let (expression, left) = after.split_at(length);
        if expression.starts_with("{{") {
            defaults.extend(env_var_default(expression));
        }
        text.push(HOLE);
        rest = left;
    }
    text.push_str(rest);
    (text, defaults)
}

/// Openings with their ends. The first that fits counts.
const CLOSED: [(&str, &str); 7] = [
    ("${{", "}}"),
    ("{{", "}}"),
    ("{%", "%}"),
    ("{#", "#}"),
    ("${", "}"),
    ("$(", ")"),
    ("%(", ")s"),
];

/// Length of the expression at the start of a text.
fn expression_length(text: &str, unclosed: &mut [bool; CLOSED.len()]) -> Option<usize> {
    for ((open, close), unclosed) in CLOSED.iter().zip(unclosed) {
        let Some(inner) = text.strip_prefix(open) else {
            continue;
        };
        if *unclosed {
            return None;
        }
        let Some(end) = inner.find(close) else {
            *unclosed = true;
            return None;
        };
        return Some(open.len() + end + close.len());
    }
    let name = |text: &str| {
        let length = text
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            .count();
        let starts = text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        (length > 0 && starts).then_some(length)
    };
    if let Some(rest) = text.strip_prefix('$') {
        // Names of variables in upper case: a password may have a dollar sign.
        let length = name(rest)?;
        let upper = rest.bytes().take(length).all(|b| !b.is_ascii_lowercase());
        return (upper && length > 1).then_some(1 + length);
    }
    let length = name(text.strip_prefix('%')?)?;
    let upper = text
        .bytes()
        .skip(1)
        .take(length)
        .all(|b| !b.is_ascii_lowercase());
    (upper && text.as_bytes().get(1 + length) == Some(&b'%')).then_some(length + 2)
}

/// Second argument of `env_var`, if it is text in quotes and not empty.
fn env_var_default(expression: &str) -> Option<&str> {
    let (_, arguments) = expression.split_once("env_var")?;
    let (_, after_name) = quoted(arguments)?;
    let (default, _) = quoted(after_name.trim_start().strip_prefix(',')?)?;
    (!default.trim().is_empty()).then_some(default)
}

/// First text in quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let at = text.find(['\'', '"'])?;
    let quote = text.get(at..)?.chars().next()?;
    let inner = text.get(at + 1..)?;
    inner.split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        without_expressions(value).0.replace(HOLE, "_")
    }

    #[rstest::rstest]
    #[case("a {{ env_var('X') }} b", "a _ b")]
    #[case("${X}${{ secrets.X }}$(X)%(x)s$FOO%FOO%", "______")]
    #[case("{% if x %}y{# z #}", "_y_")]
    #[case("pa$$word 100% $5 ${open", "pa$$word 100% $5 ${open")]
    #[case("pa$word", "pa$word")]
    #[case("p%40ss%21word", "p%40ss%21word")]
    fn expressions_leave_the_text_around_them(#[case] value: &str, #[case] rest: &str) {
        assert_eq!(text(value), rest);
    }

    #[rstest::rstest]
    #[case("{{ env_var('X', 'hunter2') }}", &["hunter2"])]
    #[case("{{ env_var(\"X\",\"a\") }}{{ env_var('Y', 'b') }}", &["a", "b"])]
    #[case("{{ env_var('X') }}", &[])]
    #[case("{{ env_var('X', '') }}", &[])]
    #[case("{{ env_var('X') | default('y') }}", &[])]
    fn defaults_of_env_var_are_found(#[case] value: &str, #[case] defaults: &[&str]) {
        assert_eq!(without_expressions(value).1, defaults);
    }

    #[test]
    fn openings_without_an_end_are_read_once() {
        let value = "{{".repeat(500_000);
        let started = std::time::Instant::now();
        assert_eq!(without_expressions(&value).0, value);
        assert!(started.elapsed().as_secs() < 5);
    }
}
