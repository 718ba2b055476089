//! Values that are written out in a manifest: those that are secrets, and those that dbt would refuse.

use crate::compile::adapter::{FieldType, is_text_field};
use crate::compile::model::{ConfigValue, TemplatePart};
use crate::finding::Rule;

/// A field of the profile.
#[derive(Clone, Copy)]
pub(super) struct ProfileField<'a> {
    /// `type` of the plugin.
    pub kind: &'a str,
    pub path: &'a str,
    pub field_type: FieldType,
    pub is_secret: bool,
}

/// The problem of a value that is written out, if it is a secret or dbt would refuse it.
pub(super) fn problem(
    field: ProfileField<'_>,
    value: &ConfigValue,
) -> Option<(Rule, &'static str)> {
    let is_text = matches!(value, ConfigValue::Text(_));
    let is_empty = matches!(value, ConfigValue::Text(text) if text.is_empty());
    let is_number = matches!(
        value,
        ConfigValue::Integer(_) | ConfigValue::Unsigned(_) | ConfigValue::Float(_)
    );
    if field.is_secret && (is_number || (is_text && !is_empty)) {
        let message = "a secret is written out in this field. Put it into a Secret, write {secretRef: {name: …, key: …}} here, and replace the secret, because it was in a file.";
        return Some((Rule::LiteralSecret, message));
    }
    let message = match field.field_type {
        FieldType::Native if !may_be_key_file(value) => {
            let message = "a key file is written out in this field. dbt takes it only as a map, and its error for text prints the whole key. Write the map, with {secretRef: {name: …, key: …}} for private_key and private_key_id, or {secretRef: {name: …, key: …}} for the whole file.";
            return Some((Rule::LiteralSecret, message));
        }
        FieldType::Number if is_text => {
            "dbt wants a number here, and gets text. Remove the quotes."
        }
        FieldType::Boolean if is_text => {
            "dbt wants true or false here, and gets text. Remove the quotes."
        }
        FieldType::Text
            if (is_number || matches!(value, ConfigValue::Bool(_)))
                && is_text_field(field.kind, field.path) =>
        {
            "dbt wants text here, and gets a number, true or false. Write it in quotes."
        }
        _ => return None,
    };
    Some((Rule::AdapterField, message))
}

/// Whether a value may stand for a key file: a map of its fields, or one variable or secret with all of it.
fn may_be_key_file(value: &ConfigValue) -> bool {
    match value {
        ConfigValue::Null | ConfigValue::Reference(_) | ConfigValue::Map(_) => true,
        ConfigValue::Template(parts) => matches!(
            parts.as_slice(),
            [TemplatePart::EnvVar { default, .. }] if default.as_ref().is_none_or(String::is_empty)
        ),
        _ => false,
    }
}
