//! Rotation of a Secret: its consumers, printed, and a wait until none of them runs with an older value.

mod output;
mod wait;

pub(crate) use output::{document, table};
pub use wait::{RotationOutcome, wait_until_current};
