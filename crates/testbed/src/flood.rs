//! Floods of connections that keep a port busy.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::webhook::SERVICE_HOST;

/// Kind of traffic on the connections of a flood.
#[derive(Clone, Copy, Debug)]
pub enum FloodKind {
    Silent,
    NeverReads,
    WritesSlowly,
}

impl FloodKind {
    pub const ALL: [Self; 3] = [Self::Silent, Self::NeverReads, Self::WritesSlowly];

    fn connections(self) -> usize {
        match self {
            // One task that keeps hundreds of connections open.
            Self::Silent => 1,
            Self::NeverReads => 16,
            // More than one peer's share, each with a request in flight.
            Self::WritesSlowly => 700,
        }
    }

    /// Count of connections, writes or bytes at which a flood is in progress.
    pub fn target_count(self) -> usize {
        match self {
            Self::Silent => 1000,
            Self::NeverReads => 100,
            Self::WritesSlowly => 700,
        }
    }
}

/// Client that floods one port from one address.
#[derive(Clone)]
pub struct Flooder {
    source: Ipv4Addr,
    server: SocketAddr,
    tls: TlsConnector,
}

impl Flooder {
    /// Flooder that connects from the address `source` and trusts `ca`, in PEM.
    pub fn new(source: Ipv4Addr, server: SocketAddr, ca: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca).expect("PEM"))
            .expect("a CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            source,
            server,
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// Starts a flood. The counter counts its connections, writes or bytes.
    pub fn start(&self, kind: FloodKind) -> (JoinSet<()>, Arc<AtomicUsize>) {
        let (mut flood, done) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..kind.connections() {
            let (flooder, done) = (self.clone(), done.clone());
            match kind {
                FloodKind::Silent => flood.spawn(flooder.send_nothing(done)),
                FloodKind::NeverReads => flood.spawn(flooder.never_read(done)),
                FloodKind::WritesSlowly => flood.spawn(flooder.write_slowly(done)),
            };
        }
        (flood, done)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.bind((self.source, 0).into())?;
        socket.connect(self.server).await
    }

    /// Opens connections and sends nothing; keeps more than a peer's share of them open.
    async fn send_nothing(self, opened: Arc<AtomicUsize>) {
        let mut silent = VecDeque::new();
        loop {
            if let Ok(stream) = self.connect().await {
                silent.push_back(stream);
                opened.fetch_add(1, Ordering::Relaxed);
            }
            if silent.len() > 800 {
                silent.pop_front();
            }
        }
    }

    /// Sends requests without end and reads no response; reconnects when the connection is closed.
    async fn never_read(self, sent: Arc<AtomicUsize>) {
        let requests = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        loop {
            self.write_forever(requests.as_bytes(), &sent).await.ok();
        }
    }

    /// Sends a chunked body, one byte per second; reconnects when the connection is closed.
    async fn write_slowly(self, written: Arc<AtomicUsize>) {
        let head = "POST /admit/pods HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        loop {
            if let Ok(mut stream) = self.connect_tls().await {
                let mut result = stream.write_all(head.as_bytes()).await;
                while result.is_ok() && stream.flush().await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                    result = stream.write_all(b"1\r\nx\r\n").await;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn connect_tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = self.connect().await?;
        self.tls
            .connect(ServerName::try_from(SERVICE_HOST).expect("a name"), tcp)
            .await
    }

    async fn write_forever(&self, bytes: &[u8], count: &AtomicUsize) -> std::io::Result<()> {
        let mut stream = self.connect_tls().await?;
        loop {
            stream.write_all(bytes).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
