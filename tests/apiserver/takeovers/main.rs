//! What users do next to a workload that has our annotations: undo, move, take over, copy. By real kubectl and both
//! Helms, on a real API server. After each step a new pod gets what the nearest annotation that stands in the stored
//! object asks for, and everything that its author states is still there.
//!
//! Each test prints its part of a table: case, tool, the template's annotations, a new pod's references, the list for
//! Reloader, and the warnings about entries that were removed.

#![expect(
    clippy::indexing_slicing,
    reason = "a helper of a test fails as the test does"
)]

mod cases;
mod exported;
mod run;
mod scene;
mod state;
mod tool;
mod upgrade;
