//! Admission: from the bytes of a review to its response.
//!
//! Steps, in order: [`review`] decodes; [`gate`], [`pipeline`] and, by kind of object, [`pod`], [`workload`] and
//! [`defaults_object`] decide; [`render`] writes the patch; [`event`] records; [`response`] responds, with the table of
//! errors in [`status`]. [`handler`] calls them.

pub mod authorize;
pub mod caller;
pub mod deadline;
mod defaults_object;
pub mod error;
pub mod event;
pub mod gate;
#[cfg(feature = "cluster")]
pub mod handler;
mod near;
pub mod outcome;
pub mod pipeline;
mod pod;
pub mod policy;
pub mod render;
pub mod requested;
pub mod response;
pub mod review;
mod secret_names;
pub mod sources;
pub mod status;
pub mod surface;
mod workload;
