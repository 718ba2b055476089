//! Connections of a listener: accepted, served each in a task of its own, and awaited.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{Instrument, debug, debug_span, error, warn};

use super::backoff::AcceptBackoff;
use super::handshake::Handshaker;
use crate::server::activity::ConnectionActivity;
use crate::server::connection::{ConnectionServer, ConnectionState, Peer, Phase};
use crate::server::metrics::{Port, PortLabels, ShedLabels, ShedReason};
use crate::server::table::{Claimed, ConnectionPlace, ConnectionTable};
use crate::telemetry::error_chain::ErrorChain;
use crate::tls::common_name;

/// State that all connections of a listener share.
pub(super) struct Shared {
    pub(super) server: ConnectionServer,
    pub(super) port: Port,
    /// `None` for plain HTTP.
    pub(super) tls: Option<Handshaker>,
}

/// Connections of a listener.
pub(super) struct Connections {
    tasks: JoinSet<()>,
    table: Arc<ConnectionTable>,
    serial: u32,
    phases: watch::Receiver<Phase>,
    shared: Arc<Shared>,
}

impl Connections {
    pub(super) fn new(
        table: Arc<ConnectionTable>,
        phases: watch::Receiver<Phase>,
        shared: Shared,
    ) -> Self {
        Self {
            tasks: JoinSet::new(),
            table,
            serial: 0,
            phases,
            shared: Arc::new(shared),
        }
    }

    /// Accepts forever. No error ends it: the table of open files may have room again in a moment.
    pub(super) async fn accept(&mut self, tcp: &TcpListener) {
        let mut backoff = AcceptBackoff::default();
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => log_panic(ended),
                accepted = backoff.accept(tcp) => match accepted {
                    Ok((stream, addr)) => {
                        backoff = AcceptBackoff::default();
                        self.spawn(stream, addr);
                    }
                    // The peer closed the connection while it waited: not an error of the system, so there is no pause.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if backoff.extend() {
                            warn!(port = self.shared.port.as_str(), error = %ErrorChain(&error), "cannot accept a connection");
                        }
                    }
                },
            }
        }
    }

    /// Serves the connections that the system has accepted already; closing the socket would reset them.
    pub(super) fn accept_backlog(&mut self, tcp: TcpListener) {
        let Ok(tcp) = tcp.into_std() else { return };
        while let Ok((stream, addr)) = tcp.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.spawn(stream, addr);
            }
        }
    }

    /// Completes when all connections have ended.
    pub(super) async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            log_panic(ended);
        }
    }

    /// Number of open connections.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Closes all connections.
    pub(super) async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }

    fn spawn(&mut self, stream: TcpStream, addr: SocketAddr) {
        self.serial = self.serial.wrapping_add(1);
        let activity = self.shared.server.activity(self.serial);
        let place = match self.table.claim(addr.ip(), &activity) {
            Claimed::Place(place, evicted) => {
                if evicted {
                    self.count_shed(ShedReason::Evicted);
                }
                place
            }
            Claimed::Full => {
                self.count_shed(ShedReason::Connections);
                debug!(peer = %addr, "connection closed: too many");
                return;
            }
        };
        let open = OpenConnection::new(&self.shared, place);
        let connection = serve_connection(
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

    fn count_shed(&self, reason: ShedReason) {
        let metrics = &self.shared.server.metrics;
        metrics.shed.get_or_create(&ShedLabels { reason }).inc();
    }
}

/// Logs that the task of a connection panicked, which is a bug of this program. The panic hook has logged the location.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!("a connection's task panicked");
    }
}

async fn serve_connection(
    shared: Arc<Shared>,
    tcp: TcpStream,
    addr: SocketAddr,
    activity: Arc<ConnectionActivity>,
    phases: watch::Receiver<Phase>,
    open: OpenConnection,
) {
    // Responses are single small writes; waiting to fill a packet would only add the peer's delayed acknowledgement.
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(error = %ErrorChain(&error), "cannot set TCP_NODELAY");
    }
    let mut peer = Peer {
        addr,
        verified: false,
        name: None,
        state: ConnectionState::default(),
    };
    let Some(handshaker) = &shared.tls else {
        return shared.server.serve(tcp, peer, activity, phases).await;
    };
    let tls = tokio::select! {
        biased;
        () = activity.evicted() => {
            debug!(peer = %addr, "connection evicted");
            return;
        }
        tls = handshaker.accept(tcp) => tls,
    };
    let Some(tls) = tls else { return };
    if let Some(leaf) = tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        peer.verified = true;
        peer.name = common_name(leaf).map(Arc::from);
        open.place.exempt();
    }
    shared.server.serve(tls, peer, activity, phases).await;
}

/// Place of an open connection, counted by the gauge.
struct OpenConnection {
    shared: Arc<Shared>,
    place: ConnectionPlace,
}

impl OpenConnection {
    fn new(shared: &Arc<Shared>, place: ConnectionPlace) -> Self {
        let open = Self {
            shared: Arc::clone(shared),
            place,
        };
        open.gauge(Gauge::inc);
        open
    }

    fn gauge(&self, change: fn(&Gauge) -> i64) {
        let port = self.shared.port;
        let connections = &self.shared.server.metrics.connections;
        change(&connections.get_or_create(&PortLabels { port }));
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge(Gauge::dec);
    }
}
