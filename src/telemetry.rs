//! Telemetry of the program: logs, metrics and traces.

pub mod console;
pub mod error_chain;
pub mod logs;
pub mod metrics;
pub mod traces;
