//! Fields of a stored record, which may be of another version.

use serde_json::Value;

pub(super) fn text(record: &Value, path: &[&str]) -> String {
    let value = field(record, path).as_str();
    value.unwrap_or_default().to_owned()
}

/// Field at a path; null if there is none.
pub(super) fn field<'r>(record: &'r Value, path: &[&str]) -> &'r Value {
    let get = |value: &'r Value, name: &&str| value.get(*name).unwrap_or(&Value::Null);
    path.iter().fold(record, get)
}

/// Requester by name, or else by an id.
pub(super) fn actor(record: &Value) -> String {
    let names = ["username", "subject", "uid"].map(|name| text(record, &["actor", name]));
    let found = names.into_iter().find(|name| !name.is_empty());
    found.unwrap_or_default()
}
