//! Listeners: sockets with their settings, served until the drain is complete.

mod backoff;
mod connections;
mod handshake;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::activity::ConnectionSettings;
use super::connection::{ConnectionServer, Phase};
use super::shutdown::Shutdown;
use super::table::ConnectionTable;
use crate::server::cert_store::CertStore;
use crate::server::metrics::{Port, ServerMetrics};
use connections::{Connections, Shared};
use handshake::Handshaker;

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Limit of connections. If it is reached, each new connection evicts one without a request in flight; if there is
    /// none, the new connection is closed at once.
    pub max_connections: usize,
    /// Limit of connections from one address (IPv6: one /64 network) without a client certificate.
    pub per_peer: usize,
    /// Time limit of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Limits of each connection.
    pub connection: ConnectionSettings,
    /// Time for which it still accepts after the drain began, until the cluster has removed the address everywhere.
    pub shutdown_delay: Duration,
    /// Time limit of requests in flight after that.
    pub drain_timeout: Duration,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            // All API servers may come from one address, so this is more than the 600 requests that one of them handles
            // at once by default (400, and 200 more that are mutating), and less than all places.
            per_peer: 640,
            handshake_timeout: Duration::from_secs(10),
            connection: ConnectionSettings::default(),
            // Together within a pod's default grace period of 30 s.
            shutdown_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl ListenerSettings {
    /// Limits of an ops port: the kubelet, Prometheus and a few people need no more, and each may request all metrics.
    #[must_use]
    pub fn ops() -> Self {
        Self {
            max_connections: 128,
            per_peer: 96,
            ..Self::default()
        }
    }

    /// Limits of a collector: each replica has one connection, and during a restart of it two.
    #[must_use]
    pub fn collector() -> Self {
        Self {
            max_connections: 512,
            per_peer: 32,
            ..Self::default()
        }
    }
}

/// Result of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Number of connections that were still open at the end of the drain, and were closed.
    pub aborted: usize,
}

/// Bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    port: Port,
    tls: Option<Arc<CertStore>>,
    settings: ListenerSettings,
    metrics: ServerMetrics,
}

impl Listener {
    /// Binds a listener for plain HTTP; [`Listener::with_tls`] adds TLS.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(
        addr: SocketAddr,
        port: Port,
        settings: ListenerSettings,
        metrics: ServerMetrics,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        Ok(Self {
            tcp,
            port,
            tls: None,
            settings,
            metrics,
        })
    }

    /// Serves TLS with the certificate that the store has at each handshake.
    #[must_use]
    pub fn with_tls(mut self, store: Arc<CertStore>) -> Self {
        self.tls = Some(store);
        self
    }

    /// Address that the listener is bound to.
    ///
    /// # Errors
    /// Error of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts and serves until the shutdown is complete. After the drain began, it still accepts for `shutdown_delay`,
    /// then waits for requests in flight for `drain_timeout`, then closes the remaining connections. An abort closes
    /// them at once.
    ///
    /// Each request has a [`super::connection::Peer`] in its extensions. A panic in a request responds with 500.
    pub async fn serve(self, router: Router, shutdown: Shutdown) -> Drained {
        let Self {
            tcp,
            port,
            tls,
            settings,
            metrics,
        } = self;
        let (phase, phases) = watch::channel(Phase::Open);
        let handshaker = tls.map(|store| Handshaker {
            store,
            timeout: settings.handshake_timeout,
            port,
            metrics: metrics.clone(),
        });
        let shared = Shared {
            server: ConnectionServer::new(router, settings.connection.clone(), metrics),
            port,
            tls: handshaker,
        };
        let table = ConnectionTable::new(settings.max_connections, settings.per_peer);
        let mut connections = Connections::new(table, phases, shared);

        let stop_accepting = async {
            shutdown.draining().await;
            phase.send_replace(Phase::Closing);
            sleep(settings.shutdown_delay).await;
        };
        tokio::select! {
            biased;
            () = shutdown.aborted() => {}
            () = stop_accepting => {}
            () = connections.accept(&tcp) => {}
        }
        connections.accept_backlog(tcp);
        phase.send_replace(Phase::Stopping);
        let finished = tokio::select! {
            biased;
            () = shutdown.aborted() => false,
            ended = timeout(settings.drain_timeout, connections.finish()) => ended.is_ok(),
        };
        let aborted = connections.len();
        if !finished && aborted > 0 {
            warn!(
                port = port.as_str(),
                aborted, "connections closed at the end of the drain"
            );
        }
        connections.abort().await;
        info!(port = port.as_str(), "listener closed");
        Drained { aborted }
    }
}
