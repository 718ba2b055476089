//! Partial views of objects: metadata, labels, and whether a pod or Job has ended.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::finding::FindingOwner;
use injection::{Annotations, CowStr};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectMeta<'a> {
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
    owner_references: Option<Vec<ControllerReference>>,
}

impl ObjectMeta<'_> {
    /// Owner reference of the object's controller. Takes the references.
    pub(super) fn controller(&mut self) -> Option<FindingOwner> {
        let references = self.owner_references.take().unwrap_or_default();
        references
            .into_iter()
            .find(|reference| reference.controller == Some(true))
            .map(|reference| reference.owner)
    }

    /// Whether the object was created at `time` or later.
    pub(super) fn is_since(&self, time: jiff::Timestamp) -> bool {
        let created = self
            .creation_timestamp
            .as_ref()
            .and_then(|created| created.as_str().parse().ok());
        created.is_some_and(|created: jiff::Timestamp| created >= time)
    }
}

#[derive(Deserialize)]
struct ControllerReference {
    #[serde(flatten)]
    owner: FindingOwner,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Deserialize)]
struct ObjectWithMeta<'a> {
    #[serde(borrow)]
    metadata: ObjectMeta<'a>,
}

pub(super) fn object_meta(item: &[u8]) -> Option<ObjectMeta<'_>> {
    serde_json::from_slice::<ObjectWithMeta<'_>>(item)
        .ok()
        .map(|object| object.metadata)
}

/// Whether a text is a valid object name. Others must not get into a path: the API server validates neither the name in
/// an owner reference nor fields of custom resources.
pub(super) fn is_object_name(text: &str) -> bool {
    const MAX_LENGTH: usize = 253;
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= MAX_LENGTH
        && text.bytes().all(allowed)
        && ends
            .into_iter()
            .all(|end| end.is_some_and(|end| end != b'.'))
}

#[derive(Deserialize)]
struct LabelledObject {
    metadata: ObjectLabels,
}

#[derive(Deserialize)]
struct ObjectLabels {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Labels of an object; none if they cannot be parsed.
pub(super) fn labels(body: &[u8]) -> BTreeMap<String, String> {
    serde_json::from_slice::<LabelledObject>(body)
        .map(|object| object.metadata.labels)
        .unwrap_or_default()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectWithStatus<'a> {
    #[serde(borrow)]
    status: Option<EndStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EndStatus<'a> {
    #[serde(borrow)]
    phase: CowStr<'a>,
    #[serde(borrow)]
    conditions: Option<Vec<EndCondition<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EndCondition<'a> {
    #[serde(borrow, rename = "type")]
    condition_type: CowStr<'a>,
    #[serde(borrow)]
    status: CowStr<'a>,
}

pub(super) fn pod_has_ended(body: &[u8]) -> bool {
    status(body).is_some_and(|status| matches!(status.phase.as_str(), "Succeeded" | "Failed"))
}

/// Whether a Job has ended and creates no more pods.
pub(super) fn job_has_ended(body: &[u8]) -> bool {
    let ended = |condition: &EndCondition<'_>| {
        matches!(condition.condition_type.as_str(), "Complete" | "Failed")
            && condition.status.as_str() == "True"
    };
    status(body).is_some_and(|status| status.conditions.iter().flatten().any(ended))
}

fn status(body: &[u8]) -> Option<EndStatus<'_>> {
    serde_json::from_slice::<ObjectWithStatus<'_>>(body)
        .ok()?
        .status
}
