//! Manifests from JSON, for tests: `{"secretRef": "name/key"}` is a reference, `template(…)` a text with variables.

use std::collections::BTreeMap;

use injection::SecretSource;
use serde_json::{Value, json};

use crate::compile::model::{
    ConfigField, ConfigItem, ConfigValue, ConnectionSecret, Manifest, Plugin, TemplatePart,
};
use crate::compile::plan::{Compiled, ConnectionKeys, PlanFailure, PlanOptions, plan};
use crate::finding::{FileFinding, Place};

pub(super) fn options() -> PlanOptions {
    PlanOptions {
        profile_name: "customer_360".to_owned(),
        targets: vec!["dev".to_owned()],
        default_target: "dev".to_owned(),
        connection_keys: ConnectionKeys::Variable,
        env_from: false,
        mask: false,
    }
}

pub(super) fn manifest(kind: &str, config: Value, connection: Option<&str>) -> Manifest {
    let plugin = plugin("compute", kind, config, connection);
    Manifest {
        product: "customer-360".to_owned(),
        plugins: BTreeMap::from([("compute".to_owned(), plugin)]),
        default_source: SecretSource::Kubernetes,
        infisical: None,
    }
}

pub(super) fn plugin(
    category: &str,
    kind: &str,
    config: Value,
    connection: Option<&str>,
) -> Plugin {
    let field = format!("plugins.{category}");
    let Value::Object(config) = config else {
        panic!("not a map")
    };
    Plugin {
        kind: kind.to_owned(),
        place: place(&field),
        config: fields(&config, &format!("{field}.config")),
        connection: connection.map(|name| ConnectionSecret {
            secret: name.parse().unwrap(),
            place: place(&format!("{field}.connection_secret_ref")),
        }),
    }
}

fn place(field: &str) -> Place {
    Place {
        file: "manifest.yaml".into(),
        position: None,
        field: field.to_owned(),
    }
}

fn fields(map: &serde_json::Map<String, Value>, above: &str) -> Vec<ConfigField> {
    let field = |(name, json): (&String, &Value)| {
        let path = format!("{above}.{name}");
        ConfigField {
            name: name.clone(),
            value: value(json, &path),
            place: place(&path),
        }
    };
    map.iter().map(field).collect()
}

pub(super) fn value(json: &Value, path: &str) -> ConfigValue {
    match json {
        Value::Null => ConfigValue::Null,
        Value::Bool(value) => ConfigValue::Bool(*value),
        Value::Number(number) => number.as_i64().map_or_else(
            || {
                number.as_u64().map_or(
                    ConfigValue::Float(number.as_f64().unwrap()),
                    ConfigValue::Unsigned,
                )
            },
            ConfigValue::Integer,
        ),
        Value::String(text) => ConfigValue::Text(text.clone()),
        Value::Array(items) => {
            let item = |(index, json): (usize, &Value)| {
                let path = format!("{path}[{index}]");
                ConfigItem {
                    value: value(json, &path),
                    place: place(&path),
                }
            };
            ConfigValue::List(items.iter().enumerate().map(item).collect())
        }
        Value::Object(map) => match (map.get("secretRef"), map.get("template")) {
            (Some(Value::String(reference)), _) => {
                ConfigValue::Reference(reference.parse().unwrap())
            }
            (_, Some(Value::String(text))) => ConfigValue::Template(parts(text)),
            _ => ConfigValue::Map(fields(map, path)),
        },
    }
}

/// A text with variables as `{{NAME}}` and `{{NAME=default}}`.
pub(super) fn template(text: &str) -> Value {
    json!({"template": text})
}

fn parts(text: &str) -> Vec<TemplatePart> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.is_empty() {
            parts.push(TemplatePart::Text(before.to_owned()));
        }
        let (name, after) = after.split_once("}}").unwrap();
        let (name, default) = name
            .split_once('=')
            .map_or((name, None), |(n, d)| (n, Some(d.to_owned())));
        parts.push(TemplatePart::EnvVar {
            name: name.parse().unwrap(),
            default,
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(TemplatePart::Text(rest.to_owned()));
    }
    parts
}

pub(super) fn compiled(manifest: &Manifest, options: &PlanOptions) -> Compiled {
    plan(manifest, options).unwrap_or_else(|failure| panic!("{failure:#?}"))
}

pub(super) fn refused(manifest: &Manifest, options: &PlanOptions) -> Vec<FileFinding> {
    match plan(manifest, options) {
        Err(PlanFailure::Refused(findings)) => findings,
        other => panic!("{other:#?}"),
    }
}
