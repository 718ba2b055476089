//! Templates against what dbt made of them (`hack/dbt/record-renderings.py`), and their limits.

use std::collections::BTreeMap;

use super::*;
use crate::dbt::profile::STACK_BYTES;
use crate::stack::on_large_stack;

const RENDERINGS: &str = include_str!("../../../tests/testdata/dbt/renderings.jsonl");

fn environment(variables: BTreeMap<String, String>) -> Environment {
    Arc::new(move |name: &str| variables.get(name).cloned())
}

fn render(text: &str) -> Result<Json, RenderProblem> {
    let variables = [("A", "a"), ("DBT_ENV_SECRET_B", "canary-4f1c")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Renderer::new(&environment(variables.into())).render(text).0
}

#[test]
fn renderer_agrees_with_dbt_on_every_recorded_expression() {
    let mut failures = Vec::new();
    for line in RENDERINGS.lines() {
        let (text, variables, expected): (String, BTreeMap<String, String>, Json) =
            serde_json::from_str(line).unwrap();
        let (result, _) = Renderer::new(&environment(variables)).render(&text);
        let agrees = match (&result, expected.get("value")) {
            (Ok(value), Some(expected)) => {
                let number = |value: &Json| value.as_f64();
                value == expected || (value.is_number() && number(value) == number(expected))
            }
            (Err(problem), None) => {
                let is_missing = matches!(problem, RenderProblem::MissingVariable(_));
                is_missing == (expected["error"] == "EnvVarMissingError")
            }
            _ => false,
        };
        if !agrees {
            failures.push(format!("{text:?}: {result:?} instead of {expected}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(RENDERINGS.lines().count(), 89);
}

#[test]
fn calls_are_recorded_with_their_defaults() {
    let renderer = Renderer::new(&environment(BTreeMap::from([("A".into(), "a".into())])));
    let (_, calls) = renderer.render("{{ env_var('A') }}{{ env_var('B', 'b') }}{{ env_var('C') }}");
    let call = |name: &str, has_default, is_set| Call {
        name: name.to_owned(),
        has_default,
        is_set,
    };
    assert_eq!(
        calls,
        [
            call("A", false, true),
            call("B", true, false),
            call("C", false, false)
        ]
    );
}

#[rstest::rstest]
#[case::loops("{% for x in [1] %}{{ x }}{% endfor %}")]
#[case::assignment("{%- set x = 'a' %}{{ x }}")]
#[case::block("{% raw %}{{ x }}{% endraw %}")]
#[case::repeated("{{ 'a' * 1000000000 }}")]
#[case::power("{{ 9 ** 9 }}")]
#[case::repeated_in_a_test("{% if 'a' * 9 %}{% endif %}")]
#[case::repeated_after_a_quote("{{ 'it\\'s' ~ 'a' * 9 }}")]
#[case::repeated_after_a_map("{{ {'a': {'b': 1}} and [1] * 1000000000 }}")]
#[case::repeated_after_brackets("{{ [{'a': {}}] * 1000000000 }}")]
#[case::repeated_after_an_apostrophe("it's {{ 'a' * 1000000000 }}")]
#[case::repeated_after_a_comment("{# it's #}{{ 'a' * 1000000000 }}")]
#[case::repeated_after_an_expression("{{ 1 }}'{{ 'a' * 1000000000 }}")]
#[case::filter("{{ env_var('A') | center(1000000) }}")]
#[case::range("{{ range(10000000) }}")]
#[case::method("{{ env_var('A').zfill(1000000) }}")]
#[case::variable("{{ var('x') }}")]
fn unbounded_work_is_not_evaluated(#[case] text: &str) {
    let problem = render(text).unwrap_err();
    assert!(
        matches!(
            problem,
            RenderProblem::Unsupported(_) | RenderProblem::Jinja(_)
        ),
        "{problem:?}"
    );
}

#[rstest::rstest]
#[case("a * b {{ env_var('A') }} * {# * #}", "a * b a * ")]
#[case("{{ '*' ~ \"it's *\" }}", "*it's *")]
#[case("{{ {'a': {'b': '*'}}['a']['b'] }}", "*")]
fn stars_in_text_are_no_multiplication(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(render(text), Ok(Json::String(expected.to_owned())));
}

#[test]
fn replacements_are_bounded() {
    let grown = format!(
        "{{{{ env_var('A'){} }}}}",
        "|replace('a', 'aaaaaaaaaa')".repeat(20)
    );
    assert_eq!(render(&grown), Err(RenderProblem::Jinja("it fails")));
    assert!(render("{{ env_var('A') | replace('', 'b') }}").is_ok());
}

#[test]
fn long_templates_are_refused_and_long_text_is_not() {
    let text = |length: usize| format!("{{{{ env_var('A') }}}}{}", "x".repeat(length - 18));
    assert!(render(&text(MAX_TEMPLATE)).is_ok());
    assert_eq!(
        render(&text(MAX_TEMPLATE + 1)),
        Err(RenderProblem::TooLong(MAX_TEMPLATE))
    );
    assert!(render(&"x".repeat(1 << 20)).is_ok());
}

/// Each at the limit of a text.
#[rstest::rstest]
#[case::parentheses("(", "1", ")", true)]
#[case::lists("[", "1", "]", true)]
#[case::maps("{1:", "1", "}", true)]
#[case::calls("env_var(", "'A'", ")", true)]
#[case::not("not ", "1", "", false)]
#[case::minus("- ", "1", "", false)]
#[case::plus("1+", "1", "", false)]
#[case::text("1~", "1", "", false)]
#[case::equals("1<", "1", "", false)]
#[case::and("1 and ", "1", "", false)]
#[case::choice("1 if 1 else ", "1", "", false)]
#[case::filters("", "1", "|d", false)]
#[case::fields("", "1", ".a", false)]
#[case::items("", "1", "[1]", false)]
#[case::tests("", "1", " is none", false)]
fn deep_expressions_end(
    #[case] open: &str,
    #[case] value: &str,
    #[case] close: &str,
    #[case] is_refused: bool,
) {
    let depth = (MAX_TEMPLATE - 8) / (open.len() + close.len());
    let text = format!(
        "{{{{{}{value}{}}}}}",
        open.repeat(depth),
        close.repeat(depth)
    );
    assert!(text.len() <= MAX_TEMPLATE);
    let result = on_large_stack(STACK_BYTES, || render(&text)).unwrap();
    assert!(result.is_err() || !is_refused);
}

#[rstest::rstest]
#[case("{{ canary_7f3a( }}")]
#[case("{{ env_var('A') | canary_7f3a }}")]
#[case("{{ canary_7f3a }}")]
#[case("{{ 'canary-7f3a' | as_number }}")]
#[case("{{ env_var('DBT_ENV_SECRET_B') | as_number }}")]
#[case("{{ env_var('DBT_ENV_SECRET_B') }}{{ env_var('DBT_ENV_SECRET_B') }}")]
fn problems_do_not_quote_the_text(#[case] text: &str) {
    let problem = render(text).unwrap_err();
    assert!(
        !format!("{problem} {problem:?}").contains("canary"),
        "{problem}"
    );
}
