//! `{secretRef: {source, name, key}}` in place of a value.

use std::str::FromStr;

use injection::{KeyChoice, SecretId, SecretKey, SecretName, SecretReference, SecretSource};

use super::diagnostics::{FieldReader, shown_key};
use super::shape::{NOT_A_SECRET_NAME, expected, is_null};
use crate::finding::Rule;
use crate::yaml::{Entry, Node};

/// Fields of a reference.
const FIELDS: [&str; 3] = ["source", "name", "key"];

/// Reads a reference. Every problem of it is reported.
pub(super) fn read(
    node: &Node,
    default_source: SecretSource,
    reader: &mut FieldReader<'_>,
) -> Option<SecretReference> {
    let Some(entries) = node.entries() else {
        expected(node, "a map of source, name and key", reader);
        return None;
    };
    let is_known = check_fields(entries, reader);
    let source = match node.get("source").filter(|node| !is_null(node)) {
        None => Some(default_source),
        Some(source) => reader.within("source", |reader| read_source(source, reader)),
    };
    let name = match node.get("name") {
        None => {
            let message = "the required field name is missing";
            reader.error(Rule::Reference, node.position, message);
            None
        }
        Some(name) => reader.within("name", |reader| {
            let read = name.text().and_then(|text| SecretName::from_str(text).ok());
            if read.is_none() {
                reader.error(Rule::Reference, name.position, NOT_A_SECRET_NAME);
            }
            read
        }),
    };
    let key = match node.get("key").filter(|node| !is_null(node)) {
        None => Some(KeyChoice::Default),
        Some(key) => reader.within("key", |reader| {
            let read = key.text().and_then(|text| SecretKey::from_str(text).ok());
            if read.is_none() {
                reader.error(
                    Rule::Reference,
                    key.position,
                    "is not a key of a Secret: text of letters, digits, '-', '_' and '.', at most 253 characters",
                );
            }
            read.map(KeyChoice::Key)
        }),
    };
    let secret = SecretId {
        source: source?,
        name: name?,
    };
    is_known.then_some(SecretReference { secret, key: key? })
}

/// Reports unknown fields; whether there are none.
fn check_fields(entries: &[Entry], reader: &mut FieldReader<'_>) -> bool {
    let unknown = entries
        .iter()
        .filter(|entry| !FIELDS.contains(&entry.key.as_str()));
    let mut is_known = true;
    for entry in unknown {
        is_known = false;
        reader.error(
            Rule::Reference,
            entry.key_position,
            format!(
                "the field {} is not known; the fields of a reference are source, name and key",
                shown_key(&entry.key)
            ),
        );
    }
    is_known
}

fn read_source(node: &Node, reader: &mut FieldReader<'_>) -> Option<SecretSource> {
    let source = node
        .text()
        .and_then(|text| SecretSource::from_str(text).ok());
    let message = match source {
        Some(SecretSource::Vault) => {
            "is vault, which is not supported; use kubernetes, infisical or external-secrets"
        }
        Some(source) => return Some(source),
        None => {
            "is not a source; the sources are kubernetes, infisical, external-secrets and env, in lower case"
        }
    };
    reader.error(Rule::Reference, node.position, message);
    None
}
