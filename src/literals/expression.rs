//! Expressions in a value: Jinja, and references to variables. They name a secret without having it.

/// Character that stands for an expression in the text around it. No rule takes it for a part of a secret.
pub(super) const HOLE: char = '\u{fffc}';

/// The text with every expression replaced by [`HOLE`], and the defaults that stand in expressions of Jinja.
///
/// Expressions are `{{ … }}`, `{% … %}`, `{# … #}`, `${…}`, `${{ … }}`, `$(…)`, `$NAME`, `%(…)s` and `%NAME%`.
pub(super) fn without_expressions(value: &str) -> (String, Vec<&str>) {
    let (text, expressions) = split(value);
    let jinja = expressions
        .into_iter()
        .filter(|expression| expression.starts_with("{{"));
    (text, jinja.filter_map(env_var_default).collect())
}

/// Whether a value is made of expressions of Jinja alone that read variables by `env_var`, and no text in them can
/// become a part of the result: no default, no text that is printed or joined to a variable.
pub(super) fn reads_only_variables(value: &str) -> bool {
    let (text, expressions) = split(value);
    let is_hole = |letter: char| letter == HOLE || letter.is_whitespace();
    text.chars().all(is_hole)
        && expressions
            .iter()
            .any(|expression| expression.starts_with("{{"))
        && expressions.iter().all(|expression| {
            let reads = expression.starts_with("{{") && expression.contains("env_var");
            let is_statement = expression.starts_with("{%");
            expression.starts_with("{#") || ((reads || is_statement) && has_only_names(expression))
        })
}

/// Whether every text in quotes is the name of a variable, what one is compared with, or a separator, and there is no
/// long number.
fn has_only_names(expression: &str) -> bool {
    let mut rest = expression;
    while let Some(at) = rest.find(['\'', '"']) {
        let before = rest.get(..at).unwrap_or_default().trim_end();
        let Some((text, after)) = quoted(rest) else {
            return false;
        };
        let is_name = before
            .strip_suffix('(')
            .is_some_and(|before| before.trim_end().ends_with("env_var"));
        let is_compared = before.ends_with("==") || before.ends_with("!=");
        if has_long_number(before) || !(is_separator(text) || is_name || is_compared) {
            return false;
        }
        rest = after;
    }
    !has_long_number(rest)
}

/// Whether a text is too short for a secret and has no letters or digits, as the line ends that `replace` takes.
fn is_separator(text: &str) -> bool {
    text.len() <= 4 && !text.replace("\\n", "").contains(char::is_alphanumeric)
}

/// Whether an expression has a number of more than three digits, which a filter would hardly take.
fn has_long_number(expression: &str) -> bool {
    expression
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .any(|word| word.len() > 3 && word.starts_with(|first: char| first.is_ascii_digit()))
}

/// The text with every expression replaced by [`HOLE`], and the expressions.
fn split(value: &str) -> (String, Vec<&str>) {
    let mut text = String::with_capacity(value.len());
    let mut expressions = Vec::new();
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
        expressions.push(expression);
        text.push(HOLE);
        rest = left;
    }
    text.push_str(rest);
    (text, expressions)
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

    #[rstest::rstest]
    #[case("{{ env_var('X') }}", true)]
    #[case(" {{- env_var(\"X\") | as_native }}{{ env_var( 'Y', '' ) }}", true)]
    #[case("{{ env_var('X') if env_var('T') == 'prod' else env_var('Y') }}", true)]
    #[case("{% if env_var('T') == 'prod' %}{{ env_var('X') }}{% endif %}", true)]
    #[case(r"{{ env_var('X') | replace('\n', '') }}", true)]
    #[case("{{ env_var('X', 'hunter2') }}", false)]
    #[case("{{ env_var('X', 1234567) }}", false)]
    #[case("{{ env_var('X') ~ 1234567 }}", false)]
    #[case("{% set x = 'hunter2' %}{{ x if env_var('X') else x }}", false)]
    #[case("{{ env_var('X') | default('hunter2') }}", false)]
    #[case("{{ env_var('X') ~ 'hunter2' }}", false)]
    #[case("{{ 'hunter2' }}", false)]
    #[case("{{ 12345 }}", false)]
    #[case("{{ env_var('X }}", false)]
    #[case("hunter2{{ '' }}", false)]
    #[case("hunter2 {{ env_var('X') }}", false)]
    #[case("{% if env_var('X') %}hunter2{% endif %}", false)]
    #[case("$PASSWORD", false)]
    #[case("${PASSWORD}", false)]
    fn literals_in_expressions_are_seen(#[case] value: &str, #[case] expected: bool) {
        assert_eq!(reads_only_variables(value), expected);
    }

    #[test]
    fn openings_without_an_end_are_read_once() {
        let value = "{{".repeat(500_000);
        let started = std::time::Instant::now();
        assert_eq!(without_expressions(&value).0, value);
        assert!(started.elapsed().as_secs() < 5);
    }
}
