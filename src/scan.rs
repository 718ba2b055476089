//! Scan for pods and workloads that run without the secrets that they refer to, because the webhook was unavailable
//! when they were created or another webhook changed them later; and for workloads that lost references to Secrets
//! together with an annotation.
//!
//! [`Scanner`] reads, [`evaluate`] decides, `output` prints. The controller runs the same scanner at an interval.

mod error;
pub mod evaluate;
mod finding;
mod history;
mod ineffective;
mod lost;
mod namespaces;
mod objects;
pub(crate) mod output;
mod progress;
mod resource;
mod revision;
mod revision_store;
mod scanner;
mod task;

use std::collections::BTreeSet;

pub use error::ScanError;
pub use finding::{Finding, FindingOwner, Progress, ScanFinding, ScanStats, Warned};
pub(crate) use progress::run_with_progress;
pub use scanner::Scanner;
pub use task::{Rules, Scope, Task};

use crate::admission::policy::CLUSTER_NAMESPACES;

/// Namespaces whose objects are never mutated: those that a cluster needs, and those that the operator exempted.
pub(crate) fn exempt(more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    CLUSTER_NAMESPACES
        .into_iter()
        .map(str::to_owned)
        .chain(more)
        .collect()
}
