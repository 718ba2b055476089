//! Syntax of references: `[source:]name[/key]`, or the floe spec's document `{source, name, key}`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::contract::secret_ref::{KeyChoice, NameError, SecretId, SecretReference, SecretSource};
use crate::excerpt::excerpt;
use crate::limits::{MAX_ITEMS, MAX_VALUE_BYTES, check_count};

/// Splits `[source:]rest`.
pub(crate) fn split_source(item: &str) -> Result<(SecretSource, &str), NameError> {
    match item.split_once(':') {
        Some((source, rest)) => Ok((SecretSource::from_str(source)?, rest)),
        None => Ok((SecretSource::default(), item)),
    }
}

/// Parses `[source:]name[/key]`, where the key may be `*`.
pub(crate) fn parse_reference(item: &str) -> Result<SecretReference, NameError> {
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
    Ok(SecretReference {
        secret: SecretId {
            source,
            name: name.parse()?,
        },
        key,
    })
}

/// The floe spec's `SecretReference` as a document: unknown fields are rejected, and an empty key counts as none.
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
        let source = document
            .source
            .as_deref()
            .map_or(Ok(SecretSource::default()), SecretSource::from_str)?;
        let key = match document.key.as_deref() {
            None | Some("") => KeyChoice::Default,
            Some("*") => KeyChoice::All,
            Some(key) => KeyChoice::Key(key.parse()?),
        };
        Ok(Self {
            secret: SecretId {
                source,
                name: document.name.parse()?,
            },
            key,
        })
    }
}

impl FromStr for SecretReference {
    type Err = String;

    /// Parses `[source:]name[/key]`, as in annotations, or the spec's JSON document.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let document: ReferenceDocument = serde_json::from_str(text)
                .map_err(|error| format!("is no reference: {}", excerpt(&error.to_string())))?;
            return document
                .try_into()
                .map_err(|error: NameError| error.to_string());
        }
        parse_reference(text).map_err(|error| error.to_string())
    }
}

/// Limits of the YAML parser for one annotation: its default limits are meant for files. The text is at most 64 KiB
/// long, and the longest list of references has four events for each of them. Aliases are not needed.
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

/// An item of a YAML or JSON list: the short form as text, or the spec's document.
enum Item {
    Text(String),
    Document(ReferenceDocument),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;
        impl<'de> Visitor<'de> for TextOrMap {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reference such as \"db/password\", in quotes where it looks like a number, or {source, name, key}")
            }
            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                ReferenceDocument::deserialize(MapAccessDeserializer::new(map)).map(Item::Document)
            }
        }
        deserializer.deserialize_any(TextOrMap)
    }
}

impl TryFrom<Item> for SecretReference {
    type Error = NameError;

    fn try_from(item: Item) -> Result<Self, NameError> {
        match item {
            Item::Text(text) => parse_reference(text.trim()),
            Item::Document(document) => document.try_into(),
        }
    }
}

/// Format of a value of `refs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReferenceFormat {
    /// Items `[source:]name[/key]`, separated by commas, spaces or newlines.
    Short,
    /// A YAML or JSON list.
    List,
    /// One YAML or JSON map.
    Single,
}

impl ReferenceFormat {
    /// Detects the format by the first line that is neither empty, nor a comment, nor YAML's `---`.
    pub(crate) fn of(text: &str) -> Self {
        let skipped = |line: &&str| line.is_empty() || line.starts_with('#') || *line == "---";
        let first = text
            .lines()
            .map(|line| line.trim().trim_start_matches('\u{feff}'))
            .find(|line| !skipped(line));
        let first = first.unwrap_or_default();
        let first = first.strip_prefix("---").map_or(first, str::trim_start);
        let word = first.split(char::is_whitespace).next().unwrap_or_default();
        match word {
            "-" => Self::List,
            "name:" | "source:" | "key:" => Self::Single,
            word if word.starts_with('[') => Self::List,
            word if word.starts_with('{') => Self::Single,
            _ => Self::Short,
        }
    }
}

/// Parses a YAML or JSON list whose items are the short form or `{source, name, key}`, or a single
/// `{source, name, key}`.
pub(crate) fn reference_documents(
    format: ReferenceFormat,
    text: &str,
) -> Result<Vec<Result<SecretReference, String>>, String> {
    let unreadable = |error: serde_saphyr::Error| {
        // The first line is the message; a rendering of the source code follows it.
        let message = error.to_string();
        let line = message.lines().next().unwrap_or_default();
        let line = excerpt(line.strip_prefix("error: ").unwrap_or(line));
        format!("is not a list of {{source, name, key}}: {line}")
    };
    let text = text.trim_start_matches('\u{feff}');
    let items: Vec<Item> = if format == ReferenceFormat::Single {
        vec![Item::Document(
            serde_saphyr::from_str_with_options(text, yaml_options()).map_err(unreadable)?,
        )]
    } else {
        serde_saphyr::from_str_with_options(text, yaml_options()).map_err(unreadable)?
    };
    check_count(items.len(), MAX_ITEMS)?;
    let each = |item: Item| {
        item.try_into()
            .map_err(|error: NameError| error.to_string())
    };
    Ok(items.into_iter().map(each).collect())
}
