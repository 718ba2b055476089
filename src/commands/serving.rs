//! Parts that `serve` and `admin` share: programs that serve over TLS until a signal.

mod args;
mod certificate_monitor;
mod certificate_sources;
mod listeners;
mod tls_secret;

use anyhow::Context as _;
use tokio::runtime::Runtime;

pub use self::args::ServingArgs;
pub(super) use self::certificate_sources::{CertificateSources, load, watch};
pub(super) use self::listeners::{bind, bind_ops, readiness};

/// Limit of worker threads by default. On a node of 64 CPUs, the program gets a small part of each, and every thread
/// uses memory. A few threads respond to thousands of requests per second.
const MAX_DEFAULT_WORKERS: usize = 4;

/// Starts the runtime of a program.
pub(super) fn runtime(args: &ServingArgs) -> anyhow::Result<Runtime> {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads(args.worker_threads, available))
        .enable_all()
        .build()
        .context("the runtime could not be started")
}

/// Number of worker threads: as configured, or as many as there are CPUs, up to [`MAX_DEFAULT_WORKERS`].
fn worker_threads(configured: Option<u16>, available: usize) -> usize {
    configured.map_or_else(|| available.min(MAX_DEFAULT_WORKERS), usize::from)
}

#[cfg(test)]
mod tests {
    use super::worker_threads;
    use rstest::rstest;

    #[rstest]
    #[case(None, 1, 1)]
    #[case(None, 4, 4)]
    #[case(None, 64, 4)]
    #[case(Some(64), 2, 64)]
    #[case(Some(1), 64, 1)]
    fn worker_threads_are_few_unless_configured(
        #[case] configured: Option<u16>,
        #[case] available: usize,
        #[case] workers: usize,
    ) {
        assert_eq!(worker_threads(configured, available), workers);
    }
}
