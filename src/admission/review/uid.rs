//! Uid of a review that cannot be decoded.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::request::MAX_UID;
use injection::CowStr;

/// Uid in the bytes before the first error.
pub(super) fn recover_uid(bytes: &[u8]) -> Option<String> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // The error is known already; `found` is set even if this fails later.
    drop(
        KeyPath {
            keys: &["request", "uid"],
            found: &mut found,
        }
        .deserialize(&mut deserializer),
    );
    found.filter(|uid| !uid.is_empty() && uid.len() <= MAX_UID)
}

/// Finds the string at a path of keys, and keeps it even if the document is malformed after it.
struct KeyPath<'p> {
    keys: &'p [&'p str],
    found: &'p mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for KeyPath<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.keys.is_empty() {
            *self.found = Some(String::deserialize(deserializer)?);
            Ok(())
        } else {
            deserializer.deserialize_map(self)
        }
    }
}

impl<'de> Visitor<'de> for KeyPath<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<CowStr<'de>>()? {
            match self.keys.split_first() {
                Some((first, rest)) if *first == key.as_str() => {
                    map.next_value_seed(KeyPath {
                        keys: rest,
                        found: &mut *self.found,
                    })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}
