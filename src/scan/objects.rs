//! What a scan reads of objects: partial views, as admission has them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::finding::Owner;
use injection::{Annotations, CowStr};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta<'a> {
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub uid: String,
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<CowStr<'a>>,
    #[serde(borrow, default)]
    pub creation_timestamp: Option<CowStr<'a>>,
    #[serde(default)]
    owner_references: Option<Vec<Reference>>,
}

impl Meta<'_> {
    /// What made it and keeps it.
    pub(super) fn controller(&mut self) -> Option<Owner> {
        let references = self.owner_references.take().unwrap_or_default();
        references
            .into_iter()
            .find(|reference| reference.controller == Some(true))
            .map(|reference| reference.owner)
    }

    /// Whether it was created at that time or later.
    pub(super) fn is_since(&self, time: jiff::Timestamp) -> bool {
        let created = self
            .creation_timestamp
            .as_ref()
            .and_then(|created| created.as_str().parse().ok());
        created.is_some_and(|created: jiff::Timestamp| created >= time)
    }
}

#[derive(Deserialize)]
struct Reference {
    #[serde(flatten)]
    owner: Owner,
    #[serde(default)]
    controller: Option<bool>,
}

pub(super) fn meta(item: &[u8]) -> Option<Meta<'_>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: Meta<'a>,
    }
    serde_json::from_slice::<Object<'_>>(item)
        .ok()
        .map(|object| object.metadata)
}

/// Whether a text can be the name of an object. Others must not get into a path: nobody checks the name in an owner
/// reference, nor fields of custom resources.
pub(super) fn is_object_name(text: &str) -> bool {
    const LONGEST: usize = 253;
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= LONGEST
        && text.bytes().all(allowed)
        && ends
            .into_iter()
            .all(|end| end.is_some_and(|end| end != b'.'))
}

/// An object's labels.
pub(super) fn labels(body: &[u8]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Labelled,
    }
    #[derive(Deserialize)]
    struct Labelled {
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    serde_json::from_slice::<Object>(body)
        .map(|object| object.metadata.labels)
        .unwrap_or_default()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ended<'a> {
    #[serde(borrow)]
    status: Option<Status<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status<'a> {
    #[serde(borrow)]
    phase: CowStr<'a>,
    #[serde(borrow)]
    conditions: Option<Vec<Condition<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    of: CowStr<'a>,
    #[serde(borrow)]
    status: CowStr<'a>,
}

/// Whether a pod has ended.
pub(super) fn pod_has_ended(body: &[u8]) -> bool {
    status(body).is_some_and(|status| matches!(status.phase.as_str(), "Succeeded" | "Failed"))
}

/// Whether a Job has ended: it makes no more pods.
pub(super) fn job_has_ended(body: &[u8]) -> bool {
    let ended = |condition: &Condition<'_>| {
        matches!(condition.of.as_str(), "Complete" | "Failed")
            && condition.status.as_str() == "True"
    };
    status(body).is_some_and(|status| status.conditions.iter().flatten().any(ended))
}

fn status(body: &[u8]) -> Option<Status<'_>> {
    serde_json::from_slice::<Ended<'_>>(body).ok()?.status
}
