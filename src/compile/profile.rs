//! Writes `profiles.yml`: double-quoted YAML, the same bytes for the same input, and no secret but by `env_var`.

use std::fmt::Write as _;

use injection::EnvVarName;

use super::adapter::FieldType;
use super::demand::Demand;
use super::model::TemplatePart;

/// A value in the profile.
#[derive(Clone, PartialEq)]
pub(crate) enum ProfileValue {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    /// Text without Jinja.
    Text(String),
    /// Text with expressions by the manifest's author.
    Template(Vec<TemplatePart>, FieldType),
    /// Index of a demand.
    Demand(usize),
    List(Vec<ProfileValue>),
    Map(Vec<(String, ProfileValue)>),
}

/// Limit of the file in bytes. It has the output once for each target.
pub(crate) const MAX_PROFILE_BYTES: usize = 1024 * 1024;

/// First lines of the file.
const HEADER: &str = "\
# Written by floe-secrets-webhook compile from a floe manifest. Change the manifest, and compile it again.
# No secret is in this file: the pod's annotations make the variables exist.
";

/// Names of the profile and its outputs.
pub(crate) struct ProfileNames<'a> {
    pub profile: &'a str,
    pub targets: &'a [String],
    pub default_target: &'a str,
}

/// Renders the profile, with the same output for every target; `None` beyond the limit.
pub(crate) fn profile(
    names: &ProfileNames<'_>,
    output: &[(String, ProfileValue)],
    demands: &[Demand],
) -> Option<String> {
    let mut writer = Writer {
        yaml: HEADER.to_owned(),
        demands,
    };
    writer.key(0, names.profile);
    writer.yaml.push('\n');
    writer.key(1, "target");
    writer.scalar(&quoted(names.default_target));
    writer.key(1, "outputs");
    writer.yaml.push('\n');
    for target in names.targets {
        writer.key(2, target);
        writer.yaml.push('\n');
        writer.map(3, output);
    }
    (!writer.is_full()).then_some(writer.yaml)
}

struct Writer<'a> {
    yaml: String,
    demands: &'a [Demand],
}

impl Writer<'_> {
    /// Whether the limit is exceeded. Nothing that is written then is used.
    fn is_full(&self) -> bool {
        self.yaml.len() > MAX_PROFILE_BYTES
    }

    fn indent(&mut self, level: usize) {
        self.yaml.extend(std::iter::repeat_n("  ", level));
    }

    fn key(&mut self, level: usize, name: &str) {
        self.indent(level);
        self.yaml.push_str(&key(name));
        self.yaml.push(':');
    }

    fn scalar(&mut self, text: &str) {
        self.yaml.push(' ');
        self.yaml.push_str(text);
        self.yaml.push('\n');
    }

    fn map(&mut self, level: usize, entries: &[(String, ProfileValue)]) {
        for (name, value) in entries {
            if self.is_full() {
                return;
            }
            self.key(level, name);
            self.value(level, value);
        }
    }

    /// Value after a key or a dash at this level.
    fn value(&mut self, level: usize, value: &ProfileValue) {
        match value {
            ProfileValue::Map(entries) if !entries.is_empty() => {
                self.yaml.push('\n');
                self.map(level + 1, entries);
            }
            ProfileValue::List(items) if !items.is_empty() => {
                self.yaml.push('\n');
                for item in items {
                    if self.is_full() {
                        return;
                    }
                    self.indent(level + 1);
                    self.yaml.push('-');
                    self.value(level + 1, item);
                }
            }
            ProfileValue::Map(_) => self.scalar("{}"),
            ProfileValue::List(_) => self.scalar("[]"),
            ProfileValue::Null => self.scalar("null"),
            ProfileValue::Bool(value) => self.scalar(if *value { "true" } else { "false" }),
            ProfileValue::Integer(value) => self.scalar(&value.to_string()),
            ProfileValue::Unsigned(value) => self.scalar(&value.to_string()),
            ProfileValue::Float(value) => self.scalar(&float(*value)),
            ProfileValue::Text(text) => self.scalar(&quoted(text)),
            ProfileValue::Template(parts, field_type) => {
                self.scalar(&quoted(&template(parts, *field_type)));
            }
            ProfileValue::Demand(index) => {
                if let Some(demand) = self.demands.get(*index) {
                    let syntax = demand.variable.to_env_var_syntax();
                    self.scalar(&quoted(&converted(&syntax, demand.field_type)));
                }
            }
        }
    }
}

/// An expression of a text with the conversion that a field's type needs.
fn converted(syntax: &str, field_type: FieldType) -> String {
    let conversion = match field_type {
        FieldType::Text => return syntax.to_owned(),
        FieldType::Number => "| as_number",
        FieldType::Boolean => "| lower == 'true'",
        FieldType::Native => "| as_native",
    };
    let expression = syntax.strip_suffix("}}").unwrap_or(syntax);
    format!("{expression}{conversion} }}}}")
}

/// Expressions and text by the manifest's author. A single expression is converted to the field's type.
pub(super) fn template(parts: &[TemplatePart], field_type: FieldType) -> String {
    let syntax = |name: &EnvVarName, default: Option<&String>| {
        let syntax = name.to_env_var_syntax();
        match default {
            Some(text) => {
                let call = syntax.strip_suffix(") }}").unwrap_or(&syntax);
                format!("{call}, {}) }}}}", jinja_string(text))
            }
            None => syntax,
        }
    };
    if let [TemplatePart::EnvVar { name, default }] = parts {
        return converted(&syntax(name, default.as_ref()), field_type);
    }
    let each = parts.iter().map(|part| match part {
        TemplatePart::Text(text) => text.clone(),
        TemplatePart::EnvVar { name, default } => syntax(name, default.as_ref()),
    });
    each.collect()
}

/// A string in an expression, in single quotes.
fn jinja_string(text: &str) -> String {
    let mut string = String::from("'");
    for c in text.chars() {
        match c {
            '\\' => string.push_str("\\\\"),
            '\'' => string.push_str("\\'"),
            '\n' => string.push_str("\\n"),
            '\r' => string.push_str("\\r"),
            // Braces begin and end expressions, for readers that do not know strings.
            '{' | '}' => push_escape(&mut string, c),
            c => string.push(c),
        }
    }
    string.push('\'');
    string
}

fn push_escape(text: &mut String, c: char) {
    // Writing to a String does not fail.
    let _ = write!(text, "\\u{:04x}", u32::from(c));
}

/// A key: as it is, if no YAML version reads it as anything but text.
fn key(name: &str) -> String {
    let is_word =
        |word: &str| ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&word);
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !is_word(name);
    if is_plain {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A double-quoted scalar on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c if u32::from(c) <= 0xFFFF => push_escape(&mut quoted, c),
            c => {
                // Writing to a String does not fail.
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// A number that YAML 1.1 reads as one: with a point, and with a sign in the exponent.
fn float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => text,
        Some((mantissa, exponent)) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
    }
}

#[cfg(test)]
mod tests;
