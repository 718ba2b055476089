//! The limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::telemetry::error_chain::ErrorChain;

/// Raises the limit to the most that this process may have, as Go's runtime does: container runtimes start programs
/// with the 1,024 that programs with `select` need, which is less than the listeners' connections alone.
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
