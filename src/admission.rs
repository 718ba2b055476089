//! The admission path: a review's bytes in, its answer out.
//!
//! In order: [`review`] decodes, [`mutator`] (for workloads [`workload`]) parses, binds and plans, [`response`]
//! renders and answers by one table of errors, [`handler`] ties them to a route, a deadline, a log line and the metrics.

pub mod caller;
pub mod deadline;
pub mod error;
pub mod handler;
pub mod mutator;
mod near;
pub mod observe;
pub mod response;
pub mod review;
mod source;
pub mod workload;
