//! What the program reports about itself: logs, metrics and traces.

pub mod console;
pub mod error_chain;
pub mod logs;
pub mod metrics;
pub mod traces;
