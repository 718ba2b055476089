//! Rotation of a Secret: its consumers, printed, and a wait until none of them runs with an older value.

mod output;
mod wait;

pub(crate) use output::{table, to_json};
pub use wait::{RotationOutcome, wait_until_current};
