//! How a reference is written: `[source:]name[/key]`, or the floe spec's document `{source, name, key}`.

use std::str::FromStr;

use serde::Deserialize;

use super::excerpt::excerpt;
use super::limits::{MAX_ITEMS, MAX_VALUE_BYTES, check_count};
use super::secret_ref::{KeyChoice, NameError, SecretId, SecretReference, SecretSource};

/// `[source:]rest`.
pub(super) fn split_source(item: &str) -> Result<(SecretSource, &str), NameError> {
    match item.split_once(':') {
        Some((source, rest)) => Ok((SecretSource::from_str(source)?, rest)),
        None => Ok((SecretSource::default(), item)),
    }
}

/// `[source:]name[/key]`, where the key may be `*`.
pub(super) fn parse_reference(item: &str) -> Result<SecretReference, NameError> {
    let (source, rest) = split_source(item)?;
    let (name, key) = match rest.split_once('/') {
        Some((name, key)) => (name, Some(key)),
        None => (rest, None),
    };
    let key = match key {
        None => KeyChoice::Default,
        Some("*") => KeyChoice::All,
        Some(key) => KeyChoice::Key(key.parse()?),
    };
    Ok(SecretReference { secret: SecretId { source, name: name.parse()? }, key })
}

/// The floe spec's `SecretReference` as a document: unknown fields are refused, an empty key is no key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceDocument {
    #[serde(default)]
    source: Option<String>,
    name: String,
    #[serde(default)]
    key: Option<String>,
}

impl TryFrom<ReferenceDocument> for SecretReference {
    type Error = NameError;

    fn try_from(document: ReferenceDocument) -> Result<Self, NameError> {
        let source = document.source.as_deref().map_or(Ok(SecretSource::default()), SecretSource::from_str)?;
        let key = match document.key.as_deref() {
            None | Some("") => KeyChoice::Default,
            Some("*") => KeyChoice::All,
            Some(key) => KeyChoice::Key(key.parse()?),
        };
        Ok(Self { secret: SecretId { source, name: document.name.parse()? }, key })
    }
}

impl FromStr for SecretReference {
    type Err = String;

    /// A reference as annotations write it, `[source:]name[/key]`, or as the spec's JSON document.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let document: ReferenceDocument = serde_json::from_str(text)
                .map_err(|error| format!("is no reference: {}", excerpt(&error.to_string())))?;
            return document.try_into().map_err(|error: NameError| error.to_string());
        }
        parse_reference(text).map_err(|error| error.to_string())
    }
}

/// What the YAML parser may do for one annotation: its own bounds are made for files. The text is at most 64 KiB long,
/// and a list of the most references has four events for each of them; nothing in it needs an alias.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4096,
            max_aliases: 0,
            max_anchors: 0,
            max_depth: 8,
            max_documents: 1,
            max_total_scalar_bytes: MAX_VALUE_BYTES,
        },
    }
}

/// A YAML or JSON list of `{source, name, key}`, or a single one.
pub(super) fn reference_documents(text: &str) -> Result<Vec<Result<SecretReference, String>>, String> {
    let unreadable = |error: serde_saphyr::Error| {
        // The first line is the message; a drawing of the place follows it.
        let message = error.to_string();
        let line = message.lines().next().unwrap_or_default();
        let line = excerpt(line.strip_prefix("error: ").unwrap_or(line));
        format!("is not a list of {{source, name, key}}: {line}")
    };
    let documents: Vec<ReferenceDocument> = if text.starts_with('{') {
        vec![serde_saphyr::from_str_with_options(text, yaml_options()).map_err(unreadable)?]
    } else {
        serde_saphyr::from_str_with_options(text, yaml_options()).map_err(unreadable)?
    };
    check_count(documents.len(), MAX_ITEMS)?;
    let each = |document: ReferenceDocument| document.try_into().map_err(|error: NameError| error.to_string());
    Ok(documents.into_iter().map(each).collect())
}
