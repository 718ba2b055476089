//! Rendering: from an outcome to the bytes of its JSON patch.

use std::io::{self, Write};

use super::outcome::{Outcome, PodMutation, WorkloadMutation};
use injection;

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
