//! Telemetry of the program: logs, metrics and traces.

pub mod characters;
pub mod console;
pub mod error_chain;
#[cfg(feature = "cluster")]
pub mod line_writer;
#[cfg(feature = "cluster")]
pub mod logs;
#[cfg(feature = "cluster")]
pub(crate) mod mailbox;
pub mod metrics;
pub mod span;
#[cfg(feature = "cluster")]
pub mod traces;
