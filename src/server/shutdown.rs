//! From signals to the two steps of ending: drain, then abort.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The state of ending, shared by everything that has to know. Clones are the same state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// A program that is not ending.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the drain: not ready any more, finish what is under way.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Gives up what is still under way.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Has the drain begun? This is what readiness asks.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Completes when the drain begins.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Completes when nothing is waited for any more.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }
}

/// SIGTERM and SIGINT, caught from the moment that this exists.
///
/// The kernel does not apply default actions to process 1: an uncaught SIGTERM would be lost and the pod would be
/// killed after its grace period. Install it before anything slow happens.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both signals. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Turns the first signal into a drain and the second into an abort; returns after the second.
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
