//! Profiles as a whole: targets, places, passwords.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::yaml::{YamlLimits, parse};

const PROFILE: &str = r#"
customer_360:
  target: "{{ env_var('TARGET', 'dev') }}"
  outputs:
    dev:
      type: postgres
      port: "{{ env_var('PORT') | as_number }}"
      hosts: [a, "{{ env_var('HOST') }}"]
    prod:
      type: postgres
      host: "{{ env_var('PROD_HOST') }}"
"#;

fn environment(variables: &'static [(&'static str, &'static str)]) -> Environment {
    Arc::new(move |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn node(text: &str) -> Node {
    parse(text, YamlLimits::HAND_WRITTEN).unwrap()
}

fn problem(text: &str, target: Option<&str>) -> RenderProblem {
    let environment = environment(&[("PORT", "5432"), ("HOST", "h")]);
    match rendered(&node(text), "customer_360", target, &environment) {
        Err(error) => error.problem,
        Ok(_) => panic!("the profile was rendered"),
    }
}

#[test]
fn only_the_target_is_rendered() {
    let environment = environment(&[("PORT", "5432"), ("HOST", "h")]);
    let output = rendered(&node(PROFILE), "customer_360", None, &environment)
        .ok()
        .unwrap();
    assert_eq!(output.target, "dev");
    assert_eq!(
        output.value,
        json!({"type": "postgres", "port": 5432, "hosts": ["a", "h"]})
    );
    let uses: Vec<_> = output
        .variables
        .iter()
        .map(|v| (&*v.name, &*v.path, v.position.line))
        .collect();
    assert_eq!(
        uses,
        [
            ("TARGET", "target", 3),
            ("PORT", "outputs.dev.port", 7),
            ("HOST", "outputs.dev.hosts[1]", 8)
        ]
    );
    assert_eq!(
        problem(PROFILE, Some("prod")),
        RenderProblem::MissingVariable("PROD_HOST".to_owned())
    );
}

#[rstest::rstest]
#[case("other: {}", RenderProblem::NoProfile("customer_360".to_owned()))]
#[case("customer_360: {target: dev}", RenderProblem::NoOutputs)]
#[case("customer_360: {outputs: {dev: {}}}", RenderProblem::NoTarget)]
#[case(
    "customer_360: {target: dev, outputs: {dev: text}}",
    RenderProblem::NotAMap
)]
#[case(
    "customer_360: {target: 5, outputs: {dev: {}}}",
    RenderProblem::NoTarget
)]
fn incomplete_profiles_are_refused(#[case] text: &str, #[case] expected: RenderProblem) {
    assert_eq!(problem(text, None), expected);
}

/// Seen with dbt-core 1.11.16: the profile loads, with the expression as the password.
#[test]
fn missing_password_is_no_error_but_the_text_itself() {
    let text = "p: {target: dev, outputs: {dev: {password: \"{{ env_var('NO') }}\"}}}";
    let output = rendered(&node(text), "p", None, &environment(&[]))
        .ok()
        .unwrap();
    assert_eq!(output.value, json!({"password": "{{ env_var('NO') }}"}));
    assert!(!output.variables[0].is_set);
}
