//! The accept loop and the drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, debug_span, error, info, warn};

use super::activity::ConnectionSettings;
use super::connection::{Peer, Phase, Serve};
use super::shutdown::Shutdown;
use super::tls::CertStore;
use crate::certificates::common_name;
use crate::metrics::{Metrics, OnPort, Port, Shed, ShedReason};
use crate::redact::ErrorChain;

/// The first pause after an accept error, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How long and for how many bytes a peer whose handshake failed is listened to.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 << 10;

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// More connections than this are closed at once.
    pub max_connections: usize,
    /// A TLS handshake must be complete after this.
    pub handshake_timeout: Duration,
    /// Each connection's bounds.
    pub connection: ConnectionSettings,
    /// How long it still accepts once the drain began: until the cluster has taken the address out everywhere.
    pub shutdown_delay: Duration,
    /// How long requests under way may take after that.
    pub drain_timeout: Duration,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            handshake_timeout: Duration::from_secs(10),
            connection: ConnectionSettings::default(),
            // Together within a pod's default grace period of 30 s.
            shutdown_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be cut.
    pub aborted: usize,
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    port: Port,
    tls: Option<Arc<CertStore>>,
    settings: ListenerSettings,
    metrics: Metrics,
}

impl Listener {
    /// Binds. Plain HTTP until [`Listener::with_tls`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(addr: SocketAddr, port: Port, settings: ListenerSettings, metrics: Metrics) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        Ok(Self { tcp, port, tls: None, settings, metrics })
    }

    /// Speaks TLS with what the store holds at each handshake.
    #[must_use]
    pub fn with_tls(mut self, store: Arc<CertStore>) -> Self {
        self.tls = Some(store);
        self
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts and serves until the shutdown is through: after the drain began it accepts for `shutdown_delay` more,
    /// then lets requests finish for `drain_timeout`, then cuts. An abort cuts at once.
    ///
    /// Each request carries a [`Peer`]; a panic in one is answered with 500.
    pub async fn serve(self, router: Router, shutdown: Shutdown) -> Drained {
        let Self { tcp, port, tls, settings, metrics } = self;
        let (phase, phases) = watch::channel(Phase::Open);
        let mut connections = Connections {
            tasks: JoinSet::new(),
            slots: Arc::new(Semaphore::new(settings.max_connections)),
            serial: 0,
            phases,
            shared: Arc::new(Shared {
                serve: Serve::new(router, settings.connection.clone(), metrics),
                port,
                tls,
                handshake_timeout: settings.handshake_timeout,
            }),
        };

        let leave = async {
            shutdown.draining().await;
            phase.send_replace(Phase::Closing);
            sleep(settings.shutdown_delay).await;
        };
        tokio::select! {
            biased;
            () = shutdown.aborted() => {}
            () = leave => {}
            () = connections.accept(&tcp) => {}
        }
        connections.accept_backlog(tcp);
        phase.send_replace(Phase::Stopping);
        let finished = tokio::select! {
            biased;
            () = shutdown.aborted() => false,
            ended = timeout(settings.drain_timeout, connections.finish()) => ended.is_ok(),
        };
        let aborted = connections.tasks.len();
        if !finished && aborted > 0 {
            warn!(port = port.as_str(), aborted, "connections cut at the end of the drain");
        }
        connections.tasks.shutdown().await;
        info!(port = port.as_str(), "listener closed");
        Drained { aborted }
    }
}

/// What all connections of a listener share.
struct Shared {
    serve: Serve,
    port: Port,
    tls: Option<Arc<CertStore>>,
    handshake_timeout: Duration,
}

/// The connections of a listener.
struct Connections {
    tasks: JoinSet<()>,
    slots: Arc<Semaphore>,
    serial: u32,
    phases: watch::Receiver<Phase>,
    shared: Arc<Shared>,
}

impl Connections {
    /// Accepts for ever. No error ends it: the table of open files may have room again in a moment.
    async fn accept(&mut self, tcp: &TcpListener) {
        let mut pause = Duration::ZERO;
        loop {
            let accepted = async {
                sleep(pause).await;
                tcp.accept().await
            };
            tokio::select! {
                Some(ended) = self.tasks.join_next() => observe(ended),
                accepted = accepted => match accepted {
                    Ok((stream, addr)) => {
                        pause = Duration::ZERO;
                        self.spawn(stream, addr);
                    }
                    // The peer gave up while it waited: its fault, and no reason to pause.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if pause.is_zero() {
                            warn!(port = self.shared.port.as_str(), error = %ErrorChain(&error), "cannot accept");
                        }
                        pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
                    }
                },
            }
        }
    }

    /// Takes what the system accepted on our behalf; closing the socket over it would reset those callers.
    fn accept_backlog(&mut self, tcp: TcpListener) {
        let Ok(tcp) = tcp.into_std() else { return };
        while let Ok((stream, addr)) = tcp.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.spawn(stream, addr);
            }
        }
    }

    async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            observe(ended);
        }
    }

    fn spawn(&mut self, stream: TcpStream, addr: SocketAddr) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let reason = ShedReason::Connections;
            self.shared.serve.metrics.shed.get_or_create(&Shed { reason }).inc();
            debug!(peer = %addr, "connection closed: too many");
            return;
        };
        self.serial = self.serial.wrapping_add(1);
        let open = Open::new(&self.shared, slot);
        let connection = run(Arc::clone(&self.shared), stream, addr, self.serial, self.phases.clone(), open);
        self.tasks.spawn(connection.instrument(debug_span!("connection", peer = %addr)));
    }
}

/// A connection ended; that its task panicked is our bug, and the hook has said where.
fn observe(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!("a connection's task panicked");
    }
}

async fn run(
    shared: Arc<Shared>,
    tcp: TcpStream,
    addr: SocketAddr,
    serial: u32,
    phases: watch::Receiver<Phase>,
    _open: Open,
) {
    // Answers are single small writes; waiting to fill a packet would only add the peer's delayed acknowledgement.
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(error = %ErrorChain(&error), "cannot set TCP_NODELAY");
    }
    let mut peer = Peer { addr, verified: false, name: None };
    let Some(store) = &shared.tls else {
        return shared.serve.stream(tcp, peer, serial, phases).await;
    };
    let Some(config) = store.server_config() else {
        debug!("connection closed: no certificate yet");
        return;
    };
    let failed = |reason: &dyn std::fmt::Display| {
        shared.serve.metrics.tls_handshake_failures.get_or_create(&OnPort { port: shared.port }).inc();
        debug!(reason = %reason, "TLS handshake failed");
    };
    let handshake = TlsAcceptor::from(config).accept(tcp).into_fallible();
    let tls = match timeout(shared.handshake_timeout, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err((error, tcp))) => {
            failed(&ErrorChain(&error));
            return farewell(tcp).await;
        }
        Err(_) => return failed(&"took too long"),
    };
    if let Some(leaf) = tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        peer.verified = true;
        peer.name = common_name(leaf).map(Arc::from);
    }
    shared.serve.stream(tls, peer, serial, phases).await;
}

/// Lets a peer whose handshake failed read the alert that says why. With TLS 1.3 its request is on the way already:
/// closing with bytes unread would reset the connection, and the alert would be lost with it.
async fn farewell(mut tcp: TcpStream) {
    let drained = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    // Whether it stayed to listen is its own affair.
    timeout(FAREWELL, drained).await.ok();
}

/// An open connection, for the cap and the gauge.
struct Open {
    shared: Arc<Shared>,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(shared: &Arc<Shared>, slot: OwnedSemaphorePermit) -> Self {
        shared.serve.metrics.connections.get_or_create(&OnPort { port: shared.port }).inc();
        Self { shared: Arc::clone(shared), _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.serve.metrics.connections.get_or_create(&OnPort { port: self.shared.port }).dec();
    }
}
