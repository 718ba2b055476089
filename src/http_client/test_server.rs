//! Servers on loopback for the tests of the client: a TLS server with scripted bytes, and a forward proxy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Bytes that a server sends.
#[derive(Clone)]
pub(crate) enum Reply {
    /// A complete response.
    Bytes(Vec<u8>),
    /// The bytes, one after the other with this pause.
    Drip(Vec<u8>, Duration),
    /// The bytes, and the last KiB of them again and again.
    Endless(Vec<u8>),
    /// The bytes, and then the end of the connection.
    Cut(Vec<u8>),
    /// None.
    Hang,
}

/// Response with a status, headers and a body.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
            .into_bytes(),
    )
}

/// Certificate authority, and the certificates that it issues.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

impl TestCa {
    pub(crate) fn new() -> Self {
        Self::named("test CA")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Acceptor with a certificate for these hosts.
    pub(crate) fn acceptor(
        &self,
        hosts: &[&str],
        change: fn(&mut CertificateParams),
    ) -> TlsAcceptor {
        let hosts: Vec<String> = hosts.iter().copied().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(cert)], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Running server. Stopped on drop.
pub(crate) struct TestServer {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    /// Starts a server that sends `reply` after each head of a request; without an acceptor, it uses no TLS.
    pub(crate) async fn start(acceptor: Option<TlsAcceptor>, reply: Reply) -> Self {
        Self::start_with(acceptor, move |_| reply.clone()).await
    }

    /// Starts a server that sends what `script` returns for the head of a request.
    pub(crate) async fn start_with(
        acceptor: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, script) = (Arc::clone(&heads), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &*script, &seen).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &*script, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, heads, task }
    }

    /// Stops listening.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        (&mut self.task).await.ok();
    }

    /// Heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads the head of each request, and its body if it has a length.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &(impl Fn(&str) -> Reply + Sync),
    seen: &Mutex<Vec<String>>,
) {
    while let Some(head) = read_head(&mut stream).await {
        let reply = script(&head);
        seen.lock().unwrap().push(head);
        let sent = match &reply {
            Reply::Bytes(bytes) => stream.write_all(bytes).await,
            Reply::Drip(bytes, pause) => {
                for byte in bytes {
                    if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(*pause).await;
                }
                Ok(())
            }
            Reply::Endless(bytes) => {
                stream.write_all(bytes).await.ok();
                while stream.write_all(&[b' '; 1024]).await.is_ok() {}
                return;
            }
            Reply::Cut(bytes) => {
                stream.write_all(bytes).await.ok();
                stream.flush().await.ok();
                return;
            }
            Reply::Hang => std::future::pending().await,
        };
        if sent.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let read = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = read.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(read);
            }
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
}

/// Forward proxy for CONNECT, which leads every request to one server.
pub(crate) async fn start_proxy(server: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let head = read_head(&mut client).await.unwrap();
                seen.lock().unwrap().push(head);
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    (port, heads)
}
