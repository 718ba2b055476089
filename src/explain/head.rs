//! Metadata of objects, as far as an explanation needs them.

use std::collections::BTreeMap;

use injection::Annotations;
use jiff::Timestamp;
use serde::Deserialize;

use crate::consumers::ManagedFields;

/// An object with metadata alone.
#[derive(Debug, Default, Deserialize)]
struct HeadOnly<'a> {
    #[serde(borrow, default)]
    metadata: ObjectHead<'a>,
}

/// Metadata of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectHead<'a> {
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    #[serde(borrow)]
    pub annotations: Option<Annotations<'a>>,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    owner_references: Vec<UidReference>,
    pub managed_fields: ManagedFields,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UidReference {
    uid: String,
    controller: bool,
}

impl<'a> ObjectHead<'a> {
    /// Metadata of an object; empty if they cannot be parsed.
    pub fn parse(body: &'a [u8]) -> Self {
        serde_json::from_slice::<HeadOnly<'a>>(body)
            .map(|object| object.metadata)
            .unwrap_or_default()
    }

    /// Uid of the object's controller.
    pub fn controller_uid(&self) -> Option<&str> {
        let mut references = self.owner_references.iter();
        references
            .find(|reference| reference.controller)
            .map(|reference| reference.uid.as_str())
    }
}
