//! Shutdown by signals, in two steps: drain, then abort.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// State of the shutdown. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// State in which no shutdown has begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the drain: the program is not ready any more, and completes the requests in flight.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Aborts the requests in flight.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether the drain has begun. The readiness check depends on it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Completes when the drain begins.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Completes when requests in flight are aborted.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }
}

/// Handlers of SIGTERM and SIGINT.
///
/// The kernel does not apply default actions to process 1: an uncaught SIGTERM would be lost, and the pod would be
/// killed after its grace period. So the handlers have to be installed first at startup.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs both handlers. Must be called inside the runtime.
    ///
    /// # Errors
    /// The system rejected a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Starts the drain at the first signal and the abort at the second; returns after the second.
    pub async fn run(mut self, shutdown: Shutdown) {
        let name = self.next().await;
        info!(signal = name, "draining; a second signal aborts");
        shutdown.drain();
        let name = self.next().await;
        warn!(signal = name, "second signal: aborting requests in flight");
        shutdown.abort();
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
