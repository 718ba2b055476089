//! Explanation of a live pod or workload: the annotations that decided, what each container got or why it got nothing,
//! the secrets and keys that exist now, and what restarts it.
//!
//! Missing entries of a pod are evaluated by [`crate::scan::evaluate`], and pods that a workload would get are planned by
//! [`injection::plan`]; nothing is judged a second time here. Of Secrets, only metadata are read.

mod containers;
mod error;
mod head;
mod layers;
mod limits;
mod output;
mod owned_pods;
mod pod;
mod reader;
mod reasons;
mod restarts;
mod secrets;
mod target;
mod webhook_entry;
mod workload;

pub use error::ExplainError;
pub use output::{ContainerExplanation, Explanation};
pub(crate) use output::{text, to_json};
pub use reader::Explainer;
pub use target::{ExplainTarget, InvalidTarget};
