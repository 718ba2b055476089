//! Jinja in config strings: `env_var` calls are read, and every other expression is refused, because dbt would run it.

use std::str::FromStr;

use injection::EnvVarName;

use super::model::TemplatePart;

/// Limit of expressions in one text.
pub(crate) const MAX_EXPRESSIONS: usize = 64;

/// An expression that is not accepted. `Display` is a sentence to follow the field's path, without any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JinjaError {
    #[error(
        "has Jinja other than {{{{ env_var('NAME') }}}}, which dbt would run; write the value itself, or a secretRef"
    )]
    OtherExpression,
    #[error(
        "has an env_var call whose first argument is not the name of a variable: letters, digits and '_', not starting with a digit"
    )]
    VariableName,
    #[error(
        "has an env_var call with text that is escaped or has line breaks; write it without backslashes on one line"
    )]
    Escape,
    #[error("has more than {MAX_EXPRESSIONS} expressions; move them into fewer")]
    TooMany,
}

/// Whether a text has anything that Jinja would read.
pub(crate) fn has_jinja(text: &str) -> bool {
    find_opening(text).is_some()
}

/// Parts of a text; `None` if it has no expression.
pub(crate) fn parse(text: &str) -> Result<Option<Vec<TemplatePart>>, JinjaError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = find_opening(rest) {
        let (before, expression) = rest.split_at(at);
        if !before.is_empty() {
            parts.push(TemplatePart::Text(before.to_owned()));
        }
        let (part, after) = env_var(expression)?;
        if parts.len() >= 2 * MAX_EXPRESSIONS {
            return Err(JinjaError::TooMany);
        }
        parts.push(part);
        rest = after;
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let expressions = |part: &&TemplatePart| matches!(part, TemplatePart::EnvVar { .. });
    if parts.iter().filter(expressions).count() > MAX_EXPRESSIONS {
        return Err(JinjaError::TooMany);
    }
    if !rest.is_empty() {
        parts.push(TemplatePart::Text(rest.to_owned()));
    }
    Ok(Some(parts))
}

/// Offset of the first `{{`, `{%` or `{#`.
fn find_opening(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes
        .windows(2)
        .position(|pair| matches!(pair, [b'{', b'{' | b'%' | b'#']))
}

/// One `{{ env_var('NAME', 'default') }}` and the text after it.
fn env_var(text: &str) -> Result<(TemplatePart, &str), JinjaError> {
    let other = JinjaError::OtherExpression;
    let rest = text.strip_prefix("{{").ok_or(other)?;
    let rest = skip_blanks(rest).strip_prefix("env_var").ok_or(other)?;
    let rest = skip_blanks(rest).strip_prefix('(').ok_or(other)?;
    let (name, rest) = quoted(skip_blanks(rest))?;
    let mut rest = skip_blanks(rest);
    let mut default = None;
    if let Some(second) = rest.strip_prefix(',') {
        let (text, after) = quoted(skip_blanks(second))?;
        default = Some(text.to_owned());
        rest = skip_blanks(after);
    }
    let rest = rest.strip_prefix(')').ok_or(other)?;
    let rest = skip_blanks(rest).strip_prefix("}}").ok_or(other)?;
    let name = EnvVarName::from_str(name).map_err(|_| JinjaError::VariableName)?;
    Ok((TemplatePart::EnvVar { name, default }, rest))
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// Text in single or double quotes, and the text after it.
fn quoted(text: &str) -> Result<(&str, &str), JinjaError> {
    let quote = match text.as_bytes().first() {
        Some(b'\'') => '\'',
        Some(b'"') => '"',
        _ => return Err(JinjaError::OtherExpression),
    };
    let inner = text.get(1..).unwrap_or_default();
    let (literal, rest) = inner.split_once(quote).ok_or(JinjaError::OtherExpression)?;
    if literal.contains('\\') || literal.chars().any(char::is_control) {
        return Err(JinjaError::Escape);
    }
    Ok((literal, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> TemplatePart {
        TemplatePart::Text(text.to_owned())
    }

    fn variable(name: &str, default: Option<&str>) -> TemplatePart {
        TemplatePart::EnvVar {
            name: EnvVarName::from_str(name).unwrap(),
            default: default.map(str::to_owned),
        }
    }

    #[rstest::rstest]
    #[case("{{ env_var('A') }}", vec![variable("A", None)])]
    #[case("{{env_var(\"A\")}}", vec![variable("A", None)])]
    #[case("{{  env_var ( 'A' , \"b'c\" )  }}", vec![variable("A", Some("b'c"))])]
    #[case("{{\n env_var('A', '')\t}}", vec![variable("A", Some(""))])]
    #[case("x{{ env_var('A') }}y{{ env_var('B') }}", vec![
        text("x"), variable("A", None), text("y"), variable("B", None),
    ])]
    #[case("{ {{ env_var('A') }}}", vec![text("{ "), variable("A", None), text("}")])]
    fn env_var_is_read(#[case] source: &str, #[case] parts: Vec<TemplatePart>) {
        assert!(parse(source) == Ok(Some(parts)));
    }

    #[rstest::rstest]
    #[case("")]
    #[case("plain")]
    #[case("{product_slug}.duckdb")]
    #[case("a }} b %} c #}")]
    #[case("{ { x } }")]
    fn text_without_jinja_is_left_alone(#[case] source: &str) {
        assert!(parse(source) == Ok(None));
    }

    #[rstest::rstest]
    #[case("{{ var('A') }}", JinjaError::OtherExpression)]
    #[case("{{ env_var('A') | int }}", JinjaError::OtherExpression)]
    #[case("{{- env_var('A') }}", JinjaError::OtherExpression)]
    #[case("{{ env_var('A') -}}", JinjaError::OtherExpression)]
    #[case("{{ env_var(A) }}", JinjaError::OtherExpression)]
    #[case("{{ env_var('A', none) }}", JinjaError::OtherExpression)]
    #[case("{{ env_var('A', 'b', 'c') }}", JinjaError::OtherExpression)]
    #[case("{{ env_var('A') }", JinjaError::OtherExpression)]
    #[case("{{ env_var('A", JinjaError::OtherExpression)]
    #[case("{{{ env_var('A') }}}", JinjaError::OtherExpression)]
    #[case("{% set a = 1 %}", JinjaError::OtherExpression)]
    #[case("a {# comment #}", JinjaError::OtherExpression)]
    #[case("{{", JinjaError::OtherExpression)]
    #[case("{{ env_var('1A') }}", JinjaError::VariableName)]
    #[case("{{ env_var('') }}", JinjaError::VariableName)]
    #[case("{{ env_var('A B') }}", JinjaError::VariableName)]
    #[case("{{ env_var('A', 'b\\n') }}", JinjaError::Escape)]
    #[case("{{ env_var('A', 'b\nc') }}", JinjaError::Escape)]
    fn other_jinja_is_refused(#[case] source: &str, #[case] error: JinjaError) {
        assert!(parse(source) == Err(error), "{source}");
        assert!(has_jinja(source));
    }

    #[test]
    fn expressions_are_limited() {
        let one = "{{ env_var('A') }}";
        assert!(parse(&one.repeat(MAX_EXPRESSIONS)).is_ok());
        assert!(parse(&one.repeat(MAX_EXPRESSIONS + 1)) == Err(JinjaError::TooMany));
        let spaced = format!("{one}-");
        assert!(parse(&spaced.repeat(MAX_EXPRESSIONS)).is_ok());
        assert!(parse(&spaced.repeat(MAX_EXPRESSIONS + 1)) == Err(JinjaError::TooMany));
    }
}
