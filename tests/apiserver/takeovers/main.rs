//! Later changes by users to a workload with annotations: undo, move, adopt, copy. With real kubectl and both Helms, on
//! a real API server. After each step a new pod gets what the nearest annotation in the stored object requests, and
//! every statement of its author is still there.
//!
//! Each test prints its part of a table: case, tool, the template's annotations, a new pod's references, the list for
//! Reloader, and the warnings about removed entries.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

mod cases;
mod exported;
mod fixture;
mod run;
mod state;
mod tool;
mod upgrade;
