//! Types of settings: how a value stands in the file, and its JSON schema.
//!
//! Only the form is checked here. The parser of the argument checks the value, as for a flag.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::yaml::{Node, NodeValue};

/// Limit of a text in bytes: a selector may be that long.
pub(super) const MAX_TEXT_BYTES: usize = 4096;

/// Limit of the items of a list.
pub(super) const MAX_LIST_ITEMS: usize = 1000;

/// Type of a setting's value.
pub(super) trait SettingType: JsonSchema {
    /// Converts a value to texts for the argument's parser.
    ///
    /// # Errors
    /// A sentence without the value: another type is expected.
    fn texts(node: &Node) -> Result<Vec<String>, String>;
}

/// Declares a type: its schema, and how its value is read.
macro_rules! types {
    ($($(#[$doc:meta])* $name:ident, $schema:tt, $read:expr;)*) => {$(
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
            fn texts(node: &Node) -> Result<Vec<String>, String> {
                let read: fn(&Node) -> Result<Vec<String>, String> = $read;
                read(node)
            }
        }
    )*};
}

types! {
    /// Name, filter, selector or URL.
    Text, {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_BYTES}, |node| text(node, "text");
    /// Path of a file, from the working directory of the program.
    FilePath, {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_BYTES}, |node| text(node, "the path of a file");
    /// Address and port.
    Address, {"type": "string", "pattern": r"^\S+:[0-9]{1,5}$"},
        |node| text(node, "an address and a port, as in \"0.0.0.0:8443\"");
    /// Duration in the format of Go and Kubernetes.
    Duration, {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"},
        |node| text(node, "a duration, as in 10s or 1m30s");
    Boolean, {"type": "boolean"}, boolean;
    /// Number of worker threads.
    WorkerThreads, {"type": "integer", "minimum": 1, "maximum": 64}, number;
    /// Ratio of all traces.
    Ratio, {"type": "number", "minimum": 0, "maximum": 1}, number;
    LogFormatName, {"type": "string", "enum": ["json", "pretty"]}, |node| text(node, "json or pretty");
    UnavailablePolicy, {"type": "string", "enum": ["deny", "admit"]}, |node| text(node, "deny or admit");
    NamePolicy, {"type": "string", "enum": ["warn", "deny"]}, |node| text(node, "warn or deny");
    /// List of names or patterns.
    TextList, {
        "type": "array",
        "maxItems": MAX_LIST_ITEMS,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_BYTES, "pattern": "^[^,]*$"}
    }, list;
}

fn text(node: &Node, expected: &str) -> Result<Vec<String>, String> {
    match &node.value {
        NodeValue::Text(text) if text.is_empty() => Err(format!(
            "the value is empty: write {expected}, or remove the line"
        )),
        NodeValue::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("the value is longer than {MAX_TEXT_BYTES} bytes"))
        }
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

fn boolean(node: &Node) -> Result<Vec<String>, String> {
    match node.value {
        NodeValue::Bool(value) => Ok(vec![value.to_string()]),
        _ => Err(wrong_type(node, "true or false")),
    }
}

fn number(node: &Node) -> Result<Vec<String>, String> {
    match node.value {
        NodeValue::Integer(value) => Ok(vec![value.to_string()]),
        NodeValue::Float(value) => Ok(vec![value.to_string()]),
        _ => Err(wrong_type(node, "a number")),
    }
}

fn list(node: &Node) -> Result<Vec<String>, String> {
    let items = node
        .items()
        .ok_or_else(|| wrong_type(node, "a list, as in [one, two]"))?;
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
