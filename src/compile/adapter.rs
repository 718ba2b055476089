//! Adapters of dbt: which fields a connection needs, which of them are secrets, and how dbt treats them.
//!
//! [`table`] has the data. Paths are those of fields in the plugin's `config`, as in `keyfile_json.private_key` and
//! `secrets[0].secret`; in the table, `[]` stands for any index.

mod names;
mod row;
mod table;

use self::names::{is_known_secret_name, last_name};
pub(crate) use self::row::{Adapter, Condition, Method};
pub(crate) use self::table::ADAPTERS;

/// Type as which dbt reads a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FieldType {
    Text,
    Number,
    Boolean,
    /// A map, written as text by whoever made the secret.
    Native,
}

/// The table's row of a `type`; `None` for an adapter that is not in it.
pub(crate) fn adapter(kind: &str) -> Option<&'static Adapter> {
    ADAPTERS.iter().find(|adapter| adapter.kind == kind)
}

/// Whether a field of `config` holds a secret. In adapters that are not in the table, names decide.
pub(crate) fn is_secret_field(kind: &str, path: &str) -> bool {
    let path = pattern_of(path);
    match adapter(kind) {
        Some(adapter) => adapter.is_secret(&path),
        None => is_known_secret_name(last_name(&path)),
    }
}

/// Whether a name is that of a field in the table; excerpts show only known names.
pub(crate) fn is_field_name(name: &str) -> bool {
    ADAPTERS.iter().any(|adapter| {
        adapter.fields().any(|path| {
            path.split('.')
                .any(|part| part.trim_end_matches("[]") == name)
        })
    })
}

/// Type of a field in `config`.
pub(crate) fn field_type(kind: &str, path: &str) -> FieldType {
    let path = pattern_of(path);
    let adapter = adapter(kind);
    let is_in = |list: fn(&Adapter) -> &'static [&'static str]| {
        adapter.is_some_and(|adapter| list(adapter).contains(&adapter.canonical(&path)))
    };
    if path == "threads" || is_in(|adapter| adapter.numbers) {
        FieldType::Number
    } else if is_in(|adapter| adapter.booleans) {
        FieldType::Boolean
    } else if kind == "bigquery" && path == "keyfile_json" {
        FieldType::Native
    } else {
        FieldType::Text
    }
}

/// Whether a field is text and nothing else, so that dbt refuses a number in it.
pub(crate) fn is_text_field(kind: &str, path: &str) -> bool {
    adapter(kind).is_some_and(|adapter| adapter.is_text(path))
}

/// Whether `dbt debug` prints a field.
pub(crate) fn is_printed(kind: &str, path: &str) -> bool {
    let path = pattern_of(path);
    adapter(kind).is_some_and(|adapter| {
        let is_below = |printed: &&str| {
            path.strip_prefix(*printed)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        adapter.printed.iter().any(is_below)
    })
}

/// Whether `--mask` hides a secret in this field: a field of the secret column, or DuckDB's path of another database,
/// which is a URL with a password if it comes from a secret.
pub(crate) fn is_masked(kind: &str, path: &str) -> bool {
    field_type(kind, path) == FieldType::Text
        && (is_secret_field(kind, path)
            || (kind == "duckdb" && pattern_of(path) == "attach[].path"))
}

/// Path with `[]` in place of every index.
fn pattern_of(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        pattern.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        pattern.push('[');
        rest = match after.get(digits..) {
            Some(tail) if tail.starts_with(']') => tail,
            _ => after,
        };
    }
    pattern.push_str(rest);
    pattern
}

/// Part of a variable's name for a field: `KEYFILE_JSON_PRIVATE_KEY`.
pub(crate) fn variable_part(path: &str) -> String {
    path.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
