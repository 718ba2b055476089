//! Random manifests: whatever is in them, the plan is refused or keeps the guarantee.

use std::cell::Cell;
use std::collections::BTreeSet;

use injection::SecretSource;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::fixture::{manifest, options, plugin};
use crate::compile::adapter::{ADAPTERS, is_secret_field};
use crate::compile::demand::Delivery;
use crate::compile::plan::{Compiled, ConnectionKeys, PlanFailure, PlanOptions, plan};
use crate::compile::profile::MAX_PROFILE_BYTES;
use crate::yaml::{self, Node, NodeValue, YamlLimits};

const NAMES: &[&str] = &[
    "db",
    "secret",
    "secret-a",
    "secret-a-b",
    "a.b",
    "1-x",
    "a--b",
    "long-name-long-name-long-name-long-name-long-name-long-name-long-name",
];
const KEYS: &[&str] = &[
    "",
    "/password",
    "/b",
    "/a-b",
    "/a_b",
    "/tls.crt",
    "/.dockerconfigjson",
    "/A",
    "/value",
];
const SOURCES: &[&str] = &[
    "",
    "",
    "",
    "infisical:",
    "external-secrets:",
    "env:",
    "vault:",
];

/// Field names that YAML, Jinja or a path could misread.
const HOSTILE: &[&str] = &[
    "",
    "y",
    "null",
    "a.b",
    "x[0]",
    "it's",
    "\"",
    "a: b",
    "# c",
    "{{ x }}",
    "é",
    "\n",
    "\u{2028}",
    "<<",
    "*a",
    "&a",
    "-",
    "threads",
    "password",
    "token",
    "type",
    "path",
    "settings",
    "memory_limit",
    "access_mode",
    "keyfile_json",
];

const TEXTS: &[&str] = &[
    "",
    "text",
    "md:db",
    "a\"b\\c",
    "line\nbreak\n",
    "\r\n",
    "\u{0}\u{7f}\u{85}\u{feff}",
    "}} %}",
    "007",
    "yes",
    "iam",
    "oauth",
    "snowflake_jwt",
    "service-account-json",
    "ldap",
    "{{ env_var('CANARY') }}",
    "{% if x %}",
    "\u{1f600}é",
];

fn pick(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    (0..list.len()).prop_map(move |index| list[index])
}

fn name() -> impl Strategy<Value = String> {
    let known: Vec<&str> = ADAPTERS
        .iter()
        .flat_map(|a| {
            a.required
                .iter()
                .chain(a.secret)
                .chain(a.numbers)
                .chain(a.booleans)
                .chain(a.printed)
                .chain(a.plain)
        })
        .copied()
        .filter(|n| !n.contains('['))
        .collect();
    prop_oneof![
        6 => (0..known.len()).prop_map(move |index| known[index].to_owned()),
        2 => pick(HOSTILE).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    let reference = (pick(SOURCES), pick(NAMES), pick(KEYS))
        .prop_map(|(source, name, key)| json!({"secretRef": format!("{source}{name}{key}")}));
    let template = prop_oneof![
        Just("{{HOME}}"),
        Just("{{PORT=5432}}"),
        Just("a{{HOME}}b{{X=it's \\ {{'}}c"),
        Just("{{DBT_ENV_SECRET_X}}"),
        Just("{{DBT_ENV_SECRET_X}}{{DBT_ENV_SECRET_Y}}"),
        Just("{{FLOE_SECRET_DB_PASSWORD}}"),
    ];
    prop_oneof![
        5 => reference,
        1 => template.prop_map(super::fixture::template),
        3 => pick(TEXTS).prop_map(|text| json!(text)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => (-1e30..1e30).prop_map(|number: f64| json!(number)),
        1 => any::<bool>().prop_map(|value| json!(value)),
        1 => Just(Value::Null),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 24, 4, |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((name(), below), 0..4).prop_map(|entries| {
                Value::Object(
                    entries
                        .into_iter()
                        .filter(|(name, _)| name != "secretRef" && name != "template")
                        .collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

/// Fields that the type requires, so that plans are not only refused.
fn required(kind: &str) -> Map<String, Value> {
    let Some(adapter) = ADAPTERS.iter().find(|adapter| adapter.kind == kind) else {
        return Map::new();
    };
    let value = |field: &&str| match *field {
        "port" => json!(5432),
        "method" => json!("ldap"),
        field if is_secret_field(kind, field) => json!({"secretRef": "db/password"}),
        _ => json!("text"),
    };
    adapter
        .required
        .iter()
        .map(|field| ((*field).to_owned(), value(field)))
        .collect()
}

fn case() -> impl Strategy<Value = (crate::compile::model::Manifest, PlanOptions)> {
    let kinds: Vec<&'static str> = ADAPTERS
        .iter()
        .map(|a| a.kind)
        .chain(["other", "we{{ird"])
        .collect();
    let config = prop::collection::vec((name(), tree()), 0..8);
    let switches = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    ((0..kinds.len()), config, tree(), switches).prop_map(move |(kind, config, other, switches)| {
        let (mask, env_from, field_keys, complete, connection, infisical) = switches;
        let kind = kinds[kind];
        let mut fields = if complete { required(kind) } else { Map::new() };
        fields.extend(config);
        let mut manifest = manifest(
            kind,
            Value::Object(fields),
            connection.then_some("connection"),
        );
        let other = json!({ "field": other });
        manifest.plugins.insert(
            "catalog".to_owned(),
            plugin("catalog", "polaris", other, connection.then_some("root")),
        );
        if infisical {
            manifest.default_source = SecretSource::Infisical;
            manifest.infisical = Some(injection::InfisicalPath {
                environment: "prod".into(),
                path: "/a b".into(),
            });
        }
        let connection_keys = if field_keys {
            ConnectionKeys::Field
        } else {
            ConnectionKeys::Variable
        };
        (
            manifest,
            PlanOptions {
                connection_keys,
                env_from: env_from && connection,
                mask,
                ..options()
            },
        )
    })
}

/// Whether every text of a profile is free of Jinja, but for expressions with its variables. Names of fields are not
/// rendered.
fn has_only_allowed_expressions(compiled: &Compiled) -> bool {
    let variables: BTreeSet<&str> = compiled
        .demands
        .iter()
        .map(|d| d.variable.as_str())
        .chain(compiled.elsewhere.iter().map(|e| e.variable.as_str()))
        .collect();
    let limits = YamlLimits {
        key_bytes: YamlLimits::HAND_WRITTEN.key_bytes,
        bytes: MAX_PROFILE_BYTES,
        depth: 70,
        nodes: MAX_PROFILE_BYTES,
        aliases: 0,
    };
    let profile = yaml::parse(&compiled.profile, limits).unwrap();
    are_texts(&profile, &|text| has_only_variables(text, &variables))
}

fn are_texts(node: &Node, is_allowed: &impl Fn(&str) -> bool) -> bool {
    match &node.value {
        NodeValue::Text(text) => is_allowed(text),
        NodeValue::List(items) => items.iter().all(|item| are_texts(item, is_allowed)),
        NodeValue::Map(entries) => entries
            .iter()
            .all(|entry| are_texts(&entry.node, is_allowed)),
        _ => true,
    }
}

fn has_only_variables(text: &str, variables: &BTreeSet<&str>) -> bool {
    let mut outside = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{ env_var('") {
        // Braces of a default are escaped, so the first two end the expression.
        let Some((expression, after)) = after.split_once("}}") else {
            return false;
        };
        let name = expression.split('\'').next().unwrap_or_default();
        if !variables.contains(name) || expression.contains('{') || before.ends_with('{') {
            return false;
        }
        outside.push_str(before);
        outside.push('|');
        rest = after;
    }
    outside.push_str(rest);
    !["{{", "{%", "{#"]
        .iter()
        .any(|begin| outside.contains(begin))
}

#[test]
fn foreign_expressions_are_noticed() {
    let variables = BTreeSet::from(["A"]);
    for (text, is_allowed) in [
        ("{{ env_var('A') }}", true),
        ("x{ {{ env_var('A', '}\\u007b') | as_number }}", true),
        ("{{ env_var('B') }}", false),
        ("{{ env_var('A') }}{{ x }}", false),
        ("{{env_var('A')}}", false),
        ("{{{ env_var('A') }}", false),
        ("{% x %}", false),
        ("{# x #}", false),
    ] {
        assert_eq!(has_only_variables(text, &variables), is_allowed, "{text}");
    }
}

const CASES: u32 = 1_000;

/// Plans that have to be among the cases. Most have a value that is refused.
const MIN_PLANS: u32 = CASES / 10;

#[test]
fn plan_is_refused_or_keeps_the_guarantee() {
    let plans = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    });
    let result = runner.run(&case(), |(manifest, options)| {
        let first = plan(&manifest, &options);
        prop_assert_eq!(&first, &plan(&manifest, &options));
        match first {
            Err(PlanFailure::Bug(bug)) => prop_assert!(false, "{}", bug),
            Err(PlanFailure::Refused(findings)) => prop_assert!(!findings.is_empty()),
            Ok(compiled) => {
                plans.set(plans.get() + 1);
                prop_assert!(
                    has_only_allowed_expressions(&compiled),
                    "{}",
                    compiled.profile
                );
                prop_assert!(
                    compiled
                        .annotations
                        .keys()
                        .all(|key| key.len() <= "secrets.floe.dev/".len() + 63)
                );
                for demand in &compiled.demands {
                    let is_hidden = demand.variable.as_str().starts_with("DBT_ENV_SECRET_");
                    prop_assert!(options.mask || !is_hidden);
                    prop_assert!(options.env_from || demand.delivery != Delivery::EnvFrom);
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    assert!(plans.get() >= MIN_PLANS, "{} plans", plans.get());
}
