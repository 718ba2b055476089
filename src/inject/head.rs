//! Objects read without their values: names, key names, and what matters of labels and annotations.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::defaults::ENABLED_LABEL;
use injection::PREFIX;

/// On a ServiceAccount: its pods may use the secrets that it lists, and no others.
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// An object without what it holds. Whatever is not what Kubernetes has there is nothing: whether a manifest is
/// well formed is said elsewhere.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub api_version: Token,
    pub kind: Token,
    pub metadata: HeadMetadata,
    pub data: Keys,
    pub string_data: Keys,
    pub items: Items,
}

#[derive(Debug, Default)]
pub(super) struct HeadMetadata {
    pub name: Token,
    pub namespace: Token,
    pub annotations: HeadAnnotations,
    pub labels: HeadLabels,
}

/// Ours, and the one of Kubernetes that matters. `kubectl apply` leaves a Secret's values in another.
#[derive(Debug, Default)]
pub(super) struct HeadAnnotations {
    pub ours: Vec<(String, String)>,
    pub enforces_mountable_secrets: bool,
}

#[derive(Debug, Default)]
pub(super) struct HeadLabels {
    pub inject: Token,
}

/// The keys of a map whose values are not looked at.
#[derive(Debug, Default)]
pub(super) struct Keys(pub Vec<String>);

/// The items of a list.
#[derive(Debug, Default)]
pub(super) struct Items(pub Vec<Head>);

/// A text that is not empty.
#[derive(Debug, Default)]
pub(super) struct Token(pub Option<String>);

/// Gathers what matters from a node of any type.
trait Gather: Default {
    fn entry<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(drop)
    }

    /// The next item of a list; false after the last.
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        Ok(list.next_element::<IgnoredAny>()?.is_some())
    }

    fn text(&mut self, _: &str) {}
}

impl Gather for Head {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "apiVersion" => self.api_version = map.next_value()?,
            "kind" => self.kind = map.next_value()?,
            "metadata" => self.metadata = map.next_value()?,
            "data" => self.data = map.next_value()?,
            "stringData" => self.string_data = map.next_value()?,
            "items" => self.items = map.next_value()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Gather for HeadMetadata {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = map.next_value()?,
            "namespace" => self.namespace = map.next_value()?,
            "annotations" => self.annotations = map.next_value()?,
            "labels" => self.labels = map.next_value()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Gather for HeadAnnotations {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key.starts_with(PREFIX) {
            let Token(value) = map.next_value()?;
            self.ours.push((key.to_owned(), value.unwrap_or_default()));
        } else if key == ENFORCE_MOUNTABLE {
            let Token(value) = map.next_value()?;
            self.enforces_mountable_secrets = value.as_deref() == Some("true");
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl Gather for HeadLabels {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == ENABLED_LABEL.0 {
            self.inject = map.next_value()?;
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl Gather for Keys {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        self.0.push(key.to_owned());
        map.next_value::<IgnoredAny>().map(drop)
    }
}

impl Gather for Items {
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let item = list.next_element()?;
        let more = item.is_some();
        self.0.extend(item);
        Ok(more)
    }
}

impl Gather for Token {
    fn text(&mut self, text: &str) {
        self.0 = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
}

struct Gatherer<T>(T);

impl<'de, T: Gather> Visitor<'de> for Gatherer<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.0.entry(&key, &mut map)?;
        }
        Ok(self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<T, A::Error> {
        while self.0.item(&mut list)? {}
        Ok(self.0)
    }

    fn visit_str<E>(mut self, text: &str) -> Result<T, E> {
        self.0.text(text);
        Ok(self.0)
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_i128<E>(self, _: i128) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_u128<E>(self, _: u128) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_none<E>(self) -> Result<T, E> {
        Ok(self.0)
    }
}

macro_rules! gathered {
    ($($type:ty),*) => { $(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Gatherer(Self::default()))
            }
        }
    )* };
}

gathered!(
    Head,
    HeadMetadata,
    HeadAnnotations,
    HeadLabels,
    Keys,
    Items,
    Token
);
