//! Types of settings: how a value stands in the file, and its JSON schema.
//!
//! Only the form is checked here. The parser of the argument checks the value, as for a flag.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::yaml::{Node, NodeValue};

/// Limit of a text in characters: a selector may be that long.
pub(super) const MAX_TEXT_LENGTH: usize = 4096;

/// Limit of the items of a list.
pub(super) const MAX_LIST_ITEMS: usize = 1000;

/// IP address and port, as in `0.0.0.0:8443` and `[::]:8443`.
const ADDRESS: &str = concat!(
    r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}",
    r"|\[[0-9A-Fa-f:.]{2,45}\])",
    r":([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
);

/// Type of a setting's value.
pub(super) trait SettingType: JsonSchema {
    /// Form of a valid value, as the object of "expected".
    const FORM: &'static str;

    /// Converts a value to texts for the argument's parser.
    ///
    /// # Errors
    /// A sentence without the value: another type is expected.
    fn texts(node: &Node) -> Result<Vec<String>, String>;
}

/// Declares a type: the form of its values, its schema, and how a value is read.
macro_rules! types {
    ($($(#[$doc:meta])* $name:ident, $form:literal, $schema:tt, $read:expr;)*) => {$(
        $(#[$doc])*
        pub(super) enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }

            fn inline_schema() -> bool {
                true
            }
        }

        impl SettingType for $name {
            const FORM: &'static str = $form;

            fn texts(node: &Node) -> Result<Vec<String>, String> {
                let read: fn(&Node, &str) -> Result<Vec<String>, String> = $read;
                read(node, $form)
            }
        }
    )*};
}

types! {
    /// Name, filter, selector or URL.
    Text, "text", {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}, text;
    /// Path of a file, from the working directory of the program.
    FilePath, "the path of a file",
        {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}, text;
    /// IP address and port.
    Address, "an IP address and a port, as in \"0.0.0.0:8443\"",
        {"type": "string", "pattern": ADDRESS}, text;
    /// Duration in the format of Go and Kubernetes.
    Duration, "a duration, as in 10s or 1m30s",
        {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|μs|ms|s|m|h))+$"}, text;
    /// Size in the format of Kubernetes.
    Size, "a size, as in 512Mi or 4Gi",
        {"type": "string", "pattern": r"^[0-9]+([KMGT]i|[kMGT])?$"}, text;
    Boolean, "true or false", {"type": "boolean"}, boolean;
    /// Number of worker threads.
    WorkerThreads, "a number from 1 to 64", {"type": "integer", "minimum": 1, "maximum": 64}, number;
    /// Ratio of all traces.
    Ratio, "a number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1}, number;
    LogFormatName, "json or pretty", {"type": "string", "enum": ["json", "pretty"]}, text;
    UnavailablePolicy, "deny or admit", {"type": "string", "enum": ["deny", "admit"]}, text;
    NamePolicy, "warn or deny", {"type": "string", "enum": ["warn", "deny"]}, text;
    AuditOutputName, "off or stdout", {"type": "string", "enum": ["off", "stdout"]}, text;
    AuditFailurePolicy, "ignore or refuse", {"type": "string", "enum": ["ignore", "refuse"]}, text;
    /// List of names or patterns.
    TextList, "a list, as in [one, two]", {
        "type": "array",
        "maxItems": MAX_LIST_ITEMS,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH, "pattern": "^[^,]*$"}
    }, list;
}

fn text(node: &Node, expected: &str) -> Result<Vec<String>, String> {
    match &node.value {
        NodeValue::Text(text) if text.is_empty() => Err(format!(
            "the value is empty: write {expected}, or remove the line"
        )),
        NodeValue::Text(text) if text.chars().nth(MAX_TEXT_LENGTH).is_some() => Err(format!(
            "the value is longer than {MAX_TEXT_LENGTH} characters"
        )),
        NodeValue::Text(text) => Ok(vec![text.clone()]),
        NodeValue::Null => Err(format!(
            "the value is missing: write {expected}, or remove the line"
        )),
        NodeValue::Map(_) | NodeValue::List(_) => Err(wrong_type(node, expected)),
        _ => Err(format!(
            "{}; put it in quotes if it is meant",
            wrong_type(node, expected)
        )),
    }
}

fn boolean(node: &Node, expected: &str) -> Result<Vec<String>, String> {
    match node.value {
        NodeValue::Bool(value) => Ok(vec![value.to_string()]),
        _ => Err(wrong_type(node, expected)),
    }
}

fn number(node: &Node, expected: &str) -> Result<Vec<String>, String> {
    match node.value {
        NodeValue::Integer(value) => Ok(vec![value.to_string()]),
        NodeValue::Float(value) => Ok(vec![value.to_string()]),
        _ => Err(wrong_type(node, expected)),
    }
}

fn list(node: &Node, expected: &str) -> Result<Vec<String>, String> {
    let items = node.items().ok_or_else(|| wrong_type(node, expected))?;
    if items.len() > MAX_LIST_ITEMS {
        return Err(format!("more than {MAX_LIST_ITEMS} items"));
    }
    let mut texts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let number = index + 1;
        let item = text(item, "text").map_err(|problem| format!("item {number}: {problem}"))?;
        if item.iter().any(|text| text.contains(',')) {
            return Err(format!(
                "item {number} has a comma: write one item for each name"
            ));
        }
        texts.extend(item);
    }
    Ok(texts)
}

fn wrong_type(node: &Node, expected: &str) -> String {
    format!("expected {expected}, found {}", node.value.type_name())
}
