//! Metadata of an object: names, annotations, labels, owners.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::keys::{ENABLED_LABEL, INJECTED};
use crate::limits::{MAX_LABEL_KEY, MAX_LABELS};
use crate::view::annotations::Annotations;
use crate::view::cow_str::CowStr;

/// Fields of `metadata` that the core reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataView<'a> {
    /// Absent on pods that a controller creates with `generateName`.
    #[serde(borrow, default)]
    pub name: Option<CowStr<'a>>,
    /// Prefix that the API server completes after admission.
    #[serde(borrow, default)]
    pub generate_name: Option<CowStr<'a>>,
    /// `None` if there is no map to add to.
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    /// `None` if there is no map to add to.
    #[serde(borrow, default)]
    pub labels: Option<Labels<'a>>,
    /// Owners, for logs, audit and the choice of reload annotations: authors can write them too.
    #[serde(borrow, default)]
    pub owner_references: Option<Vec<OwnerView<'a>>>,
    /// Set while the object is being deleted.
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<CowStr<'a>>,
}

/// An owner reference: information, never proof.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct OwnerView<'a> {
    /// Kind of the owner.
    #[serde(borrow, default)]
    pub kind: CowStr<'a>,
    /// Name of the owner, in the namespace of the object.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// Uid of the owner.
    #[serde(borrow, default)]
    pub uid: CowStr<'a>,
    /// Whether the owner is the controller of the object.
    #[serde(default)]
    pub controller: Option<bool>,
}

/// Values of the webhook's own labels, and the names of all labels: these identify the tool that created a pod.
#[derive(Clone, Debug, Default)]
pub struct Labels<'a> {
    /// Label [`INJECTED`].
    pub injected: Option<CowStr<'a>>,
    /// Label [`ENABLED_LABEL`], of a Namespace.
    pub inject: Option<CowStr<'a>>,
    names: Vec<CowStr<'a>>,
}

impl Labels<'_> {
    /// Names of all labels, at most [`MAX_LABELS`] of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(CowStr::as_str)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Labels<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Labels::default();
                while let Some(key) = map.next_key::<CowStr<'de>>()? {
                    match key.as_str() {
                        INJECTED => labels.injected = map.next_value()?,
                        name if name == ENABLED_LABEL.0 => labels.inject = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                    if labels.names.len() < MAX_LABELS && key.as_str().len() <= MAX_LABEL_KEY {
                        labels.names.push(key);
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(LabelsVisitor)
    }
}
