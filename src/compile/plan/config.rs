//! Reads the fields of a `config` by the names of the adapter's table.

use crate::compile::adapter::{Adapter, Condition, Method};
use crate::compile::model::{ConfigField, ConfigValue};

/// A field of a config by its path in the table.
pub(super) enum Found<'a> {
    Absent,
    Null,
    /// The field, or a value that is not a map and stands in its place.
    Value(&'a ConfigValue),
}

/// Looks a field up by its path, under any of its names.
pub(super) fn lookup<'a>(adapter: &Adapter, config: &'a [ConfigField], path: &str) -> Found<'a> {
    let mut names = path.split('.');
    let Some(first) = names.next() else {
        return Found::Absent;
    };
    let by_name = |field: &&ConfigField| adapter.canonical(&field.name) == adapter.canonical(first);
    let Some(mut value) = config.iter().find(by_name).map(|field| &field.value) else {
        return Found::Absent;
    };
    for name in names {
        let ConfigValue::Map(fields) = value else {
            break;
        };
        match fields.iter().find(|field| field.name == name) {
            Some(field) => value = &field.value,
            None => return Found::Absent,
        }
    }
    match value {
        ConfigValue::Null => Found::Null,
        value => Found::Value(value),
    }
}

/// The first method whose conditions hold.
pub(super) fn method<'t>(adapter: &'t Adapter, config: &[ConfigField]) -> Option<&'t Method> {
    adapter.methods.iter().find(|method| {
        method
            .conditions
            .iter()
            .all(|condition| holds(adapter, config, condition))
    })
}

fn holds(adapter: &Adapter, config: &[ConfigField], condition: &Condition) -> bool {
    let text = |field: &str| match lookup(adapter, config, field) {
        Found::Value(ConfigValue::Text(text)) => Some(text.to_ascii_lowercase()),
        Found::Value(ConfigValue::Bool(value)) => Some(value.to_string()),
        _ => None,
    };
    match condition {
        Condition::Is(field, texts) => {
            text(field).is_some_and(|text| texts.contains(&text.as_str()))
        }
        Condition::Begins(field, starts) => {
            text(field).is_some_and(|text| starts.iter().any(|start| text.starts_with(start)))
        }
        Condition::Has(field) => matches!(lookup(adapter, config, field), Found::Value(_)),
        Condition::Lacks(field) => !matches!(lookup(adapter, config, field), Found::Value(_)),
    }
}

/// Fields that select a method, in the order of the table.
pub(super) fn selecting_fields(adapter: &Adapter) -> Vec<&'static str> {
    let mut fields = Vec::new();
    for condition in adapter.methods.iter().flat_map(|method| method.conditions) {
        if let Condition::Is(field, _) | Condition::Begins(field, _) = condition
            && !fields.contains(field)
        {
            fields.push(*field);
        }
    }
    fields
}
