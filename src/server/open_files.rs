//! Limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::telemetry::error_chain::ErrorChain;

/// Raises the limit to the maximum of this process, as Go's runtime does. Container runtimes start programs with a
/// limit of 1,024, for those that use `select`; the listeners' connections alone are more.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        warn!(error = %ErrorChain(&error), "cannot raise the limit of open files");
    }
}
