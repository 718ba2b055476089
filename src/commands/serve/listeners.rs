//! Listeners of the admission port and the ops port, and the readiness checks.

use std::sync::Arc;

use anyhow::Context as _;

use super::args::ListenerArgs;
use super::certificate_monitor::CertificateMonitor;
use crate::server::cert_store::CertStore;
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::metrics::{Port, ServerMetrics};
use crate::server::ops::Checks;
use crate::server::shutdown::Shutdown;

/// Binds the admission port, with TLS, and the ops port.
pub(super) async fn bind_both(
    args: &ListenerArgs,
    store: &Arc<CertStore>,
    metrics: &ServerMetrics,
) -> anyhow::Result<(Listener, Listener)> {
    let admission = bind(args, Port::Admission, metrics)
        .await?
        .with_tls(Arc::clone(store));
    let ops = bind(args, Port::Ops, metrics).await?;
    tracing::info!(
        admission = %admission.local_addr()?,
        ops = %ops.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    Ok((admission, ops))
}

async fn bind(
    args: &ListenerArgs,
    port: Port,
    metrics: &ServerMetrics,
) -> anyhow::Result<Listener> {
    let (address, bounds) = match port {
        Port::Admission => (args.listen, ListenerSettings::default()),
        Port::Ops | Port::Admin => (args.ops_listen, ListenerSettings::ops()),
    };
    let listener = Listener::bind(
        address,
        port,
        listener_settings(args, bounds),
        metrics.clone(),
    )
    .await;
    listener.with_context(|| format!("{address} could not be bound"))
}

fn listener_settings(args: &ListenerArgs, bounds: ListenerSettings) -> ListenerSettings {
    ListenerSettings {
        shutdown_delay: args.shutdown_delay,
        drain_timeout: args.drain_timeout,
        ..bounds
    }
}

/// Readiness: a certificate that is valid now, and no shutdown in progress. The health of a backend is not part of it:
/// if a backend is down, the endpoints still have to report that.
pub(super) fn readiness(
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
