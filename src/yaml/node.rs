//! Nodes of a document, each with its position.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// Line and column of a node, both from 1. A node behind an alias has the position of the alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            line: number(location.line()),
            column: number(location.column()),
        }
    }
}

/// A value and its position. `Debug` has no scalar, so that no log and no failed test quotes one.
#[derive(Clone, PartialEq)]
pub(crate) struct Node {
    pub position: Position,
    pub value: NodeValue,
}

#[derive(Clone, PartialEq)]
pub(crate) enum NodeValue {
    Null,
    Bool(bool),
    Integer(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    /// Finite.
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no key occurs twice.
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_position: Position,
    pub node: Node,
}

impl Node {
    /// Value of a key, if the node is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// Puts the entries of every map into the order of their keys, for searches.
    pub(crate) fn sort_keys(&mut self) {
        match &mut self.value {
            NodeValue::Map(entries) => {
                entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
                for entry in entries {
                    entry.node.sort_keys();
                }
            }
            NodeValue::List(items) => {
                for item in items {
                    item.sort_keys();
                }
            }
            _ => {}
        }
    }

    /// Position of the first key that is longer than `bytes`.
    pub(super) fn long_key(&self, bytes: usize) -> Option<Position> {
        match &self.value {
            NodeValue::Map(entries) => entries.iter().find_map(|entry| {
                let is_long = entry.key.len() > bytes;
                let position = is_long.then_some(entry.key_position);
                position.or_else(|| entry.node.long_key(bytes))
            }),
            NodeValue::List(items) => items.iter().find_map(|item| item.long_key(bytes)),
            _ => None,
        }
    }

    /// Entries of a map.
    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            NodeValue::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Items of a list.
    pub(crate) fn items(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::List(items) => Some(items),
            _ => None,
        }
    }

    /// Text of a scalar that is text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl NodeValue {
    /// Type of the value, for messages: `a map`, `text`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Unsigned(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl fmt::Debug for NodeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{} at {line}:{column}", self.value.type_name())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<NodeValue>::deserialize(deserializer)?;
        let value = match spanned.value {
            // The parser reads `y` and `n` as booleans, as YAML 1.1 does in its text; Python reads letters.
            NodeValue::Bool(value) if spanned.defined.span().len() == 1 => {
                NodeValue::Text(if value { "y" } else { "n" }.to_owned())
            }
            value => value,
        };
        Ok(Self {
            position: spanned.referenced.into(),
            value,
        })
    }
}

impl<'de> Deserialize<'de> for NodeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_none<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<NodeValue, D::Error> {
        NodeValue::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<NodeValue, E> {
        Ok(i64::try_from(value).map_or(NodeValue::Unsigned(value), NodeValue::Integer))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<NodeValue, E> {
        if value.is_finite() {
            Ok(NodeValue::Float(value))
        } else {
            Err(E::custom(NOT_FINITE))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<NodeValue, E> {
        Ok(NodeValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NodeValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(NodeValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry {
                key_position: key.referenced.into(),
                key: key.value,
                node: map.next_value()?,
            });
        }
        Ok(NodeValue::Map(entries))
    }
}

/// Message about a number that is not finite.
pub(super) const NOT_FINITE: &str = "an infinite number or NaN";
