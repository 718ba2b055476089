//! Listeners of a program, and the readiness checks that programs with a certificate share.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;

use super::args::ServingArgs;
use super::certificate_monitor::CertificateMonitor;
use crate::server::cert_store::CertStore;
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::metrics::{Port, ServerMetrics};
use crate::server::ops::Checks;
use crate::server::shutdown::Shutdown;

/// Binds a port of a program, with these limits.
pub(crate) async fn bind(
    args: &ServingArgs,
    (address, port): (SocketAddr, Port),
    limits: ListenerSettings,
    metrics: &ServerMetrics,
) -> anyhow::Result<Listener> {
    let settings = ListenerSettings {
        shutdown_delay: args.shutdown_delay,
        drain_timeout: args.drain_timeout,
        ..limits
    };
    Listener::bind(address, port, settings, metrics.clone())
        .await
        .with_context(|| format!("{address} could not be bound"))
}

/// Binds the ops port.
pub(crate) async fn bind_ops(
    args: &ServingArgs,
    metrics: &ServerMetrics,
) -> anyhow::Result<Listener> {
    let port = (args.ops_listen, Port::Ops);
    bind(args, port, ListenerSettings::ops(), metrics).await
}

/// Readiness: a certificate that is valid now, and no shutdown in progress. The health of a backend is not part of it:
/// if a backend is down, the endpoints still have to report that.
pub(crate) fn readiness(
    store: &Arc<CertStore>,
    shutdown: &Shutdown,
    monitor: Option<CertificateMonitor>,
) -> Checks {
    let (store, shutdown) = (Arc::clone(store), shutdown.clone());
    let certificate = move || {
        store.check().map_err(|error| match &monitor {
            Some(monitor) => monitor.explain(error),
            None => error,
        })
    };
    Checks::new()
        .with("certificate", certificate)
        .with("shutdown", move || {
            if shutdown.is_draining() {
                Err("the program is stopping".to_owned())
            } else {
                Ok(())
            }
        })
}
