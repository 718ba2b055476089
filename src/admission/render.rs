//! Rendering: from an outcome to the bytes of its JSON patch.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::error::AdmissionError;
use super::outcome::{Outcome, PodMutation, WorkloadMutation};
use injection::{self, EVENT_ANNOTATION, MetadataView};
use serde::Serialize;

/// JSON pointer of [`EVENT_ANNOTATION`].
const EVENT_POINTER: &str = "/metadata/annotations/audit.floe.dev~1event";

/// Bytes that this annotation adds to most patches at most.
const EVENT_CAPACITY: usize = 256;

/// The patch would be longer than [`injection::MAX_PATCH_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchTooLong;

/// Renders the JSON patch of an outcome, as bytes; empty if nothing changes.
///
/// # Errors
/// [`PatchTooLong`]; writing stops at the limit.
pub fn render(outcome: &Outcome) -> Result<Vec<u8>, PatchTooLong> {
    let patch = match outcome {
        Outcome::Injected(PodMutation { plan, .. }) => injection::render(plan, &[]),
        Outcome::Mutated(WorkloadMutation { plan, .. }) => injection::render_workload(plan),
        Outcome::Skipped(_) | Outcome::Validated { .. } | Outcome::Degraded(_) => {
            return Ok(Vec::new());
        }
    };
    if patch.0.is_empty() {
        return Ok(Vec::new());
    }
    let mut writer = Bounded {
        bytes: Vec::new(),
        limit: injection::MAX_PATCH_BYTES,
    };
    // Maps of strings always serialise: only the limit can be an error.
    match serde_json::to_writer(&mut writer, &patch) {
        Ok(()) => Ok(writer.bytes),
        Err(_) => Err(PatchTooLong),
    }
}

/// Patch of a pod with the annotation [`EVENT_ANNOTATION`], by which the pod is found in the audit trail.
#[must_use]
pub fn with_event(
    patch: &[u8],
    outcome: &Result<Outcome, AdmissionError>,
    metadata: Option<&MetadataView<'_>>,
    uid: &str,
) -> Vec<u8> {
    let mut marked = Vec::with_capacity(patch.len() + EVENT_CAPACITY);
    marked.extend_from_slice(patch);
    // The plan creates the parents of its own record.
    let has_record = matches!(
        outcome,
        Ok(Outcome::Injected(PodMutation { plan, .. })) if plan.record.is_some()
    );
    if has_record || metadata.is_some_and(|metadata| metadata.annotations.is_some()) {
        add(&mut marked, EVENT_POINTER, uid);
    } else {
        if metadata.is_none() {
            add(&mut marked, "/metadata", BTreeMap::<&str, &str>::new());
        }
        let annotations = BTreeMap::from([(EVENT_ANNOTATION, uid)]);
        add(&mut marked, "/metadata/annotations", annotations);
    }
    marked
}

/// Adds an operation to a patch, which is empty or has others.
fn add(patch: &mut Vec<u8>, pointer: &str, value: impl Serialize) {
    let has_others = patch.pop().is_some();
    patch.push(if has_others { b',' } else { b'[' });
    let operation = AddOperation {
        op: "add",
        path: pointer,
        value,
    };
    // Texts and maps of texts always serialise.
    let _ = serde_json::to_writer(&mut *patch, &operation);
    patch.push(b']');
}

#[derive(Serialize)]
struct AddOperation<'p, V> {
    op: &'static str,
    path: &'p str,
    value: V,
}

/// Writer with a limit of bytes.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injection::SkipReason;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn pointer_is_that_of_the_annotation() {
        let escaped = EVENT_ANNOTATION.replace('/', "~1");
        assert_eq!(EVENT_POINTER, format!("/metadata/annotations/{escaped}"));
    }

    /// Patch of a pod that has its entries already.
    fn patch_of(metadata: Option<&str>) -> serde_json::Value {
        let metadata: Option<MetadataView<'_>> =
            metadata.map(|json| serde_json::from_str(json).unwrap());
        let outcome = Ok(Outcome::Skipped(SkipReason::AlreadyInjected));
        let patch = with_event(&[], &outcome, metadata.as_ref(), "u-\"1");
        serde_json::from_slice(&patch).unwrap()
    }

    #[rstest]
    #[case::annotations(Some(r#"{"annotations":{"a":"b"}}"#), json!([
        {"op": "add", "path": "/metadata/annotations/audit.floe.dev~1event", "value": "u-\"1"}
    ]))]
    #[case::no_annotations(Some("{}"), json!([
        {"op": "add", "path": "/metadata/annotations", "value": {"audit.floe.dev/event": "u-\"1"}}
    ]))]
    #[case::no_metadata(None, json!([
        {"op": "add", "path": "/metadata", "value": {}},
        {"op": "add", "path": "/metadata/annotations", "value": {"audit.floe.dev/event": "u-\"1"}}
    ]))]
    fn event_is_added_with_its_parents(
        #[case] metadata: Option<&str>,
        #[case] expected: serde_json::Value,
    ) {
        assert_eq!(patch_of(metadata), expected);
    }

    #[test]
    fn event_is_added_behind_other_operations() {
        let metadata: MetadataView<'_> = serde_json::from_str(r#"{"annotations":{}}"#).unwrap();
        let outcome = Ok(Outcome::Skipped(SkipReason::AlreadyInjected));
        let patch = br#"[{"op":"add","path":"/a","value":1}]"#.to_vec();
        let patch = with_event(&patch, &outcome, Some(&metadata), "u-1");
        let patch: serde_json::Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(patch[0]["path"], "/a");
        assert_eq!(patch[1]["value"], "u-1");
    }
}
