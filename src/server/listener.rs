//! The accept loop and the drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{Instrument, debug, debug_span, error, info, warn};

use super::activity::{ConnectionActivity, ConnectionSettings};
use super::connection::{Peer, Phase, Serve};
use super::shutdown::Shutdown;
use super::table::{Claimed, ConnectionTable, Place};
use crate::server::cert_store::CertStore;
use crate::server::metrics::{OnPort, Port, ServerMetrics, Shed, ShedReason};
use crate::telemetry::error_chain::ErrorChain;
use crate::tls::common_name;

/// The first pause after an accept error, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How long and for how many bytes a peer whose handshake failed is listened to.
const LINGER: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 << 10;

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Most connections. At this many, one without a request under way makes room for each newcomer; when there is
    /// none, the newcomer is closed at once.
    pub max_connections: usize,
    /// Most of them from one address (IPv6: one /64 network) that shows no certificate.
    pub per_peer: usize,
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
            // All API servers may come from one address, so more than the 600 requests that one of them works on at
            // once by default (400 and 200 more that change something); and no stranger gets all places.
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
    /// Those of an ops port: the kubelet, Prometheus and a few people need no more, and each may ask for all metrics.
    #[must_use]
    pub fn ops() -> Self {
        Self {
            max_connections: 128,
            per_peer: 96,
            ..Self::default()
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
    metrics: ServerMetrics,
}

impl Listener {
    /// Binds. Plain HTTP until [`Listener::with_tls`].
    ///
    /// # Errors
    /// When the address cannot be bound.
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
        let Self {
            tcp,
            port,
            tls,
            settings,
            metrics,
        } = self;
        let (phase, phases) = watch::channel(Phase::Open);
        let mut connections = Connections {
            tasks: JoinSet::new(),
            table: ConnectionTable::new(settings.max_connections, settings.per_peer),
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
            warn!(
                port = port.as_str(),
                aborted, "connections closed at the end of the drain"
            );
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
    table: Arc<ConnectionTable>,
    serial: u32,
    phases: watch::Receiver<Phase>,
    shared: Arc<Shared>,
}

impl Connections {
    /// Accepts for ever. No error ends it: the table of open files may have room again in a moment.
    async fn accept(&mut self, tcp: &TcpListener) {
        let mut pause = Pause::default();
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => observe(ended),
                accepted = pause.accept(tcp) => match accepted {
                    Ok((stream, addr)) => {
                        pause = Pause::default();
                        self.spawn(stream, addr);
                    }
                    // The peer gave up while it waited: its fault, and no reason to pause.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if pause.extend() {
                            warn!(port = self.shared.port.as_str(), error = %ErrorChain(&error), "cannot accept a connection");
                        }
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
        self.serial = self.serial.wrapping_add(1);
        let activity = self.shared.serve.activity(self.serial);
        let count = |reason| {
            self.shared
                .serve
                .metrics
                .shed
                .get_or_create(&Shed { reason })
                .inc()
        };
        let place = match self.table.claim(addr.ip(), &activity) {
            Claimed::Place(place, evicted) => {
                if evicted {
                    count(ShedReason::Evicted);
                }
                place
            }
            Claimed::Full => {
                count(ShedReason::Connections);
                debug!(peer = %addr, "connection closed: too many");
                return;
            }
        };
        let open = Open::new(&self.shared, place);
        let connection = run(
            Arc::clone(&self.shared),
            stream,
            addr,
            activity,
            self.phases.clone(),
            open,
        );
        self.tasks
            .spawn(connection.instrument(debug_span!("connection", peer = %addr)));
    }
}

/// How long nothing is accepted after errors. The end of it is fixed: it does not begin anew when a connection ends.
#[derive(Default)]
struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    async fn accept(&self, tcp: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        // Even a sleep of no length takes a millisecond, and this is done for each connection.
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
        tcp.accept().await
    }

    /// Pauses for twice as long as before; whether this is the first pause.
    fn extend(&mut self) -> bool {
        let first = self.until.is_none();
        self.length = (self.length * 2).clamp(PAUSES.0, PAUSES.1);
        self.until = Some(Instant::now() + self.length);
        first
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
    activity: Arc<ConnectionActivity>,
    phases: watch::Receiver<Phase>,
    open: Open,
) {
    // Answers are single small writes; waiting to fill a packet would only add the peer's delayed acknowledgement.
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(error = %ErrorChain(&error), "cannot set TCP_NODELAY");
    }
    let mut peer = Peer {
        addr,
        verified: false,
        name: None,
    };
    let Some(store) = &shared.tls else {
        return shared.serve.stream(tcp, peer, activity, phases).await;
    };
    let tls = tokio::select! {
        biased;
        () = activity.evicted() => {
            debug!(peer = %addr, "connection evicted");
            return;
        }
        tls = shake_hands(&shared, store, tcp) => tls,
    };
    let Some(tls) = tls else { return };
    if let Some(leaf) = tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        peer.verified = true;
        peer.name = common_name(leaf).map(Arc::from);
        open.place.exempt();
    }
    shared.serve.stream(tls, peer, activity, phases).await;
}

async fn shake_hands(
    shared: &Shared,
    store: &CertStore,
    tcp: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let Some(config) = store.server_config() else {
        debug!("connection closed: no certificate yet");
        return None;
    };
    let failed = |reason: &dyn std::fmt::Display| {
        shared
            .serve
            .metrics
            .tls_handshake_failures
            .get_or_create(&OnPort { port: shared.port })
            .inc();
        debug!(reason = %reason, "TLS handshake failed");
    };
    let handshake = TlsAcceptor::from(config).accept(tcp).into_fallible();
    match timeout(shared.handshake_timeout, handshake).await {
        Ok(Ok(tls)) => return Some(tls),
        Ok(Err((error, tcp))) => {
            failed(&ErrorChain(&error));
            linger(tcp).await;
        }
        Err(_) => failed(&"took too long"),
    }
    None
}

/// Lets a peer whose handshake failed read the alert that says why. With TLS 1.3 its request is on the way already:
/// closing with bytes unread would reset the connection, and the alert would be lost with it.
async fn linger(mut tcp: TcpStream) {
    let drained = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    // Whether it stayed to listen is its own affair.
    timeout(LINGER, drained).await.ok();
}

/// An open connection: its place, and what the gauge counts.
struct Open {
    shared: Arc<Shared>,
    place: Place,
}

impl Open {
    fn new(shared: &Arc<Shared>, place: Place) -> Self {
        shared
            .serve
            .metrics
            .connections
            .get_or_create(&OnPort { port: shared.port })
            .inc();
        Self {
            shared: Arc::clone(shared),
            place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared
            .serve
            .metrics
            .connections
            .get_or_create(&OnPort {
                port: self.shared.port,
            })
            .dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_before_an_accept_that_follows_no_error() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        let began = Instant::now();
        Pause::default().accept(&tcp).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_it_was_to_end_however_often_it_is_interrupted() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        let mut pause = Pause::default();
        assert!(pause.extend() && !pause.extend(), "only the first is told");
        let began = Instant::now();
        let mut interrupted = 0;
        loop {
            tokio::select! {
                biased;
                accepted = pause.accept(&tcp) => break drop(accepted.unwrap()),
                () = sleep(Duration::from_millis(3)) => interrupted += 1,
            }
        }
        assert_eq!((began.elapsed(), interrupted), (2 * PAUSES.0, 13));
        for _ in 0..10 {
            pause.extend();
        }
        assert_eq!(pause.length, PAUSES.1);
    }
}
