//! Objects read without values of Secrets: names, key names, and the labels and annotations that matter.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::defaults::ENABLED_LABEL;
use injection::PREFIX;

/// On a ServiceAccount: its pods may only use the secrets that it lists.
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// An object without its contents. Fields of other types than Kubernetes has there are read as absent: malformed
/// manifests are reported when the full object is read.
#[derive(Debug, Default)]
pub(super) struct PartialObject {
    pub api_version: OptionalText,
    pub kind: OptionalText,
    pub metadata: PartialMetadata,
    pub data: DataKeys,
    pub string_data: DataKeys,
    pub items: ListItems,
}

#[derive(Debug, Default)]
pub(super) struct PartialMetadata {
    pub name: OptionalText,
    pub namespace: OptionalText,
    pub annotations: PartialAnnotations,
    pub labels: PartialLabels,
}

/// The annotations that matter. Others are skipped: `kubectl apply` leaves a Secret's values in one.
#[derive(Debug, Default)]
pub(super) struct PartialAnnotations {
    /// Those under [`PREFIX`].
    pub prefixed: Vec<(String, String)>,
    pub enforces_mountable_secrets: bool,
}

#[derive(Debug, Default)]
pub(super) struct PartialLabels {
    pub inject: OptionalText,
}

/// Keys of a map whose values are skipped.
#[derive(Debug, Default)]
pub(super) struct DataKeys(pub Vec<String>);

#[derive(Debug, Default)]
pub(super) struct ListItems(pub Vec<PartialObject>);

/// A string; `None` if it is empty.
#[derive(Debug, Default)]
pub(super) struct OptionalText(pub Option<String>);

/// A value that is built from parts of a node. The node may have any type.
trait PartialValue: Default {
    fn entry<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(drop)
    }

    /// Reads the next item of a list; `false` after the last.
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        Ok(list.next_element::<IgnoredAny>()?.is_some())
    }

    fn text(&mut self, _: &str) {}
}

impl PartialValue for PartialObject {
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

impl PartialValue for PartialMetadata {
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

impl PartialValue for PartialAnnotations {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key.starts_with(PREFIX) {
            let OptionalText(value) = map.next_value()?;
            self.prefixed
                .push((key.to_owned(), value.unwrap_or_default()));
        } else if key == ENFORCE_MOUNTABLE {
            let OptionalText(value) = map.next_value()?;
            self.enforces_mountable_secrets = value.as_deref() == Some("true");
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl PartialValue for PartialLabels {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == ENABLED_LABEL.0 {
            self.inject = map.next_value()?;
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl PartialValue for DataKeys {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        self.0.push(key.to_owned());
        map.next_value::<IgnoredAny>().map(drop)
    }
}

impl PartialValue for ListItems {
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let item = list.next_element()?;
        let more = item.is_some();
        self.0.extend(item);
        Ok(more)
    }
}

impl PartialValue for OptionalText {
    fn text(&mut self, text: &str) {
        self.0 = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
}

struct PartialValueVisitor<T>(T);

impl<'de, T: PartialValue> Visitor<'de> for PartialValueVisitor<T> {
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

macro_rules! deserialize_partially {
    ($($type:ty),*) => { $(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(PartialValueVisitor(Self::default()))
            }
        }
    )* };
}

deserialize_partially!(
    PartialObject,
    PartialMetadata,
    PartialAnnotations,
    PartialLabels,
    DataKeys,
    ListItems,
    OptionalText
);
