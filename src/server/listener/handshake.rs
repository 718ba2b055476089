//! TLS handshakes of a listener.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::server::cert_store::CertStore;
use crate::server::metrics::{Port, PortLabels, ServerMetrics};
use crate::telemetry::error_chain::ErrorChain;

/// Time for which a peer whose handshake failed is still read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of bytes that are read from it.
const MAX_LINGER_BYTES: u64 = 64 << 10;

/// TLS side of a listener.
pub(super) struct Handshaker {
    pub(super) store: Arc<CertStore>,
    pub(super) timeout: Duration,
    pub(super) port: Port,
    pub(super) metrics: ServerMetrics,
}

impl Handshaker {
    /// Performs the handshake of a connection; `None` if it failed.
    pub(super) async fn accept(&self, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
        let Some(config) = self.store.server_config() else {
            debug!("connection closed: no certificate yet");
            return None;
        };
        let handshake = TlsAcceptor::from(config).accept(tcp).into_fallible();
        match timeout(self.timeout, handshake).await {
            Ok(Ok(tls)) => return Some(tls),
            Ok(Err((error, tcp))) => {
                self.record_failure(&ErrorChain(&error));
                linger(tcp).await;
            }
            Err(_) => self.record_failure(&"took too long"),
        }
        None
    }

    fn record_failure(&self, reason: &dyn std::fmt::Display) {
        self.metrics
            .tls_handshake_failures
            .get_or_create(&PortLabels { port: self.port })
            .inc();
        debug!(reason = %reason, "TLS handshake failed");
    }
}

/// Lets a peer whose handshake failed read the alert with the reason. With TLS 1.3 its request is on the way already:
/// closing the socket with unread bytes would reset the connection, and the alert would be lost.
async fn linger(mut tcp: TcpStream) {
    let drained = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(MAX_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The peer may have closed the connection already.
    timeout(LINGER_TIMEOUT, drained).await.ok();
}
