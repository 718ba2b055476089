//! Certificates and clients of the tests on real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use floe_secrets_webhook::server::cert_store::CertStore;
use floe_secrets_webhook::server::listener::{Drained, Listener, ListenerSettings};
use floe_secrets_webhook::server::metrics::{Port, ServerMetrics};
use floe_secrets_webhook::server::shutdown::Shutdown;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time limit of every wait on a socket.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + WAIT_TIMEOUT;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Certificate and its key in PEM.
#[derive(Clone)]
pub struct Pem {
    pub cert: String,
    pub key: String,
}

/// Certificate authority of a test.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a leaf for `webhook.test`, identified by its common name.
    pub fn leaf(&self, name: &str) -> Pem {
        self.leaf_with(name, |_| {})
    }

    pub fn leaf_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pem {
        let mut params = CertificateParams::new(vec!["webhook.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pem {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Opens a TLS connection to a server whose certificate is issued by `ca`.
pub async fn connect(
    addr: SocketAddr,
    ca: &Ca,
    client: Option<&Pem>,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = match client {
        None => config.with_no_client_auth(),
        Some(pem) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pem.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let tcp = TcpStream::connect(addr).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("webhook.test").unwrap(), tcp)
        .await
}

/// Common name of the certificate that a new handshake is served.
pub async fn served_common_name(addr: SocketAddr, ca: &Ca) -> String {
    let stream = connect(addr, ca, None, "http/1.1").await.unwrap();
    common_name(&stream)
}

pub fn common_name(stream: &TlsStream<TcpStream>) -> String {
    let leaf = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).unwrap();
    parsed
        .subject()
        .iter_common_name()
        .next()
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

/// HTTP response, as text.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    pub fn closes_connection(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

/// Reads one response that has a content length.
pub async fn read_response<S: AsyncReadExt + Unpin>(
    stream: &mut S,
) -> std::io::Result<HttpResponse> {
    let mut text = Vec::new();
    loop {
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(text[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                })
                .map_or(0, |length| length.parse().unwrap());
            if text.len() >= end + 4 + length {
                let body = String::from_utf8(text[end + 4..end + 4 + length].to_vec()).unwrap();
                return Ok(HttpResponse {
                    status: head[9..12].parse().unwrap(),
                    head,
                    body,
                });
            }
        }
        if stream.read_buf(&mut text).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Sends a GET and reads the response.
pub async fn get<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    stream: &mut S,
    path: &str,
) -> std::io::Result<HttpResponse> {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: webhook.test\r\n\r\n").as_bytes())
        .await?;
    stream.flush().await?;
    read_response(stream).await
}

/// Listener that serves in the background.
pub struct Server {
    pub addr: SocketAddr,
    pub shutdown: Shutdown,
    pub ended: JoinHandle<Drained>,
}

pub async fn serve(
    router: Router,
    settings: ListenerSettings,
    metrics: &ServerMetrics,
    tls: Option<Arc<CertStore>>,
) -> Server {
    let addr = ([127, 0, 0, 1], 0).into();
    let mut listener = Listener::bind(addr, Port::Admission, settings, metrics.clone())
        .await
        .unwrap();
    if let Some(store) = tls {
        listener = listener.with_tls(store);
    }
    let (addr, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let ended = tokio::spawn(listener.serve(router, shutdown.clone()));
    Server {
        addr,
        shutdown,
        ended,
    }
}
