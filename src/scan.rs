//! `scan`: what runs without the secrets that it asks for, because the webhook was away when it was created or another
//! webhook changed it later; and what lost references to Secrets together with an annotation.
//!
//! [`Scanner`] reads, [`judge`] decides, `output` shows. The controller runs the same scanner from time to time.

pub mod evaluate;
mod finding;
mod history;
mod ineffective;
mod lost;
mod objects;
pub(crate) mod output;
mod progress;
mod revision;
mod scanner;

use std::collections::BTreeSet;

pub use finding::{Finding, Found, Owner, Progress, ScanStats, Warned};
pub(crate) use progress::run_with_progress;
pub use scanner::{Rules, ScanError, Scanner, Scope, Task};

use crate::admission::policy::CLUSTER_NAMESPACES;

/// The namespaces that no webhook's configuration may name, and those that the operator left out.
pub(crate) fn exempt(more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    CLUSTER_NAMESPACES
        .into_iter()
        .map(str::to_owned)
        .chain(more)
        .collect()
}
