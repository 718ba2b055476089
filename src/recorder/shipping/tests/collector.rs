//! Collector over TLS on loopback that keeps lines as a store does, unless a test scripts its next responses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use testbed::pki::CertificatePair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::audit::delivery::{BatchHead, Rejection};
use crate::audit::stored::StoredLine;

/// Response of the collector to one request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Status and body.
    Http(u16, String),
    Redirect(String),
    Bytes(Vec<u8>),
    /// Half of a response, then the end of the connection.
    Torn,
    Close,
    Never,
}

pub(super) fn rejection(reason: Rejection, wanted: Option<u64>) -> Reply {
    let body = json!({"reason": reason, "message": "a sentence", "wanted": wanted});
    Reply::Http(reason.status(), body.to_string())
}

/// Content of the collector.
#[derive(Default)]
pub(super) struct CollectorState {
    pub script: VecDeque<Reply>,
    /// Response to all requests, once the script is at its end.
    pub always: Option<Reply>,
    /// Stored lines by chain and number.
    pub chains: BTreeMap<String, BTreeMap<u64, StoredLine>>,
    /// Chains in the order of their first lines.
    pub order: Vec<String>,
    pub heads: Vec<BatchHead>,
    pub authorizations: Vec<String>,
    /// Token that is accepted; any if empty.
    pub token: String,
    pub largest: usize,
}

impl CollectorState {
    pub fn lines(&self) -> impl Iterator<Item = &StoredLine> {
        let chains = self.order.iter().filter_map(|id| self.chains.get(id));
        chains.flat_map(BTreeMap::values)
    }

    fn reply(&mut self, head: &str, body: &[u8]) -> Reply {
        let authorization = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: "))
            .unwrap_or_default();
        self.authorizations.push(authorization.to_owned());
        assert!(head.starts_with("POST /v1/lines HTTP/1.1\r\n"), "{head}");
        let (batch, lines) = BatchHead::split(body).unwrap();
        self.heads.push(batch.clone());
        if let Some(reply) = self.script.pop_front().or_else(|| self.always.clone()) {
            return reply;
        }
        if !self.token.is_empty() && authorization != format!("Bearer {}", self.token) {
            return rejection(Rejection::Unauthenticated, None);
        }
        self.store(&batch, lines)
    }

    fn store(&mut self, batch: &BatchHead, lines: &[u8]) -> Reply {
        self.largest = self.largest.max(lines.len());
        let id = batch.chain.as_str().to_owned();
        if !self.order.contains(&id) && !lines.is_empty() {
            self.order.push(id.clone());
        }
        let chain = self.chains.entry(id).or_default();
        let mut lost_before = batch.lost_before;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = StoredLine::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!(line.chain, batch.chain);
            let durable = chain.last_key_value().map_or(0, |(seq, _)| *seq);
            if let Some(known) = chain.get(&line.seq) {
                assert_eq!(known.hash, line.hash, "two histories");
                continue;
            }
            if line.seq != durable + 1 && !std::mem::take(&mut lost_before) {
                return rejection(Rejection::OutOfOrder, Some(durable + 1));
            }
            if line.seq == durable + 1 {
                let before = chain.get(&durable).map(|before| before.hash);
                assert_eq!(line.prev, before.unwrap_or(line.chain.root()));
            }
            chain.insert(line.seq, line);
        }
        let durable = chain.last_key_value().map_or(0, |(seq, _)| *seq);
        Reply::Http(200, json!({"durable": durable}).to_string())
    }
}

/// Running collector.
pub(super) struct ScriptedCollector {
    pub port: u16,
    state: Arc<Mutex<CollectorState>>,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    _accepting: JoinSet<()>,
}

impl ScriptedCollector {
    pub(super) async fn start(pair: &CertificatePair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<CollectorState>> = Arc::default();
        let acceptor = Arc::new(Mutex::new(tls(pair)));
        let (shared, acceptors) = (Arc::clone(&state), Arc::clone(&acceptor));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptors.lock().unwrap().clone();
                connections.spawn(connection(stream, acceptor, Arc::clone(&shared)));
            }
        });
        Self {
            port,
            state,
            acceptor,
            _accepting: accepting,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, CollectorState> {
        self.state.lock().unwrap()
    }

    /// Serves another certificate to later connections.
    pub(super) fn replace_certificate(&self, pair: &CertificatePair) {
        *self.acceptor.lock().unwrap() = tls(pair);
    }
}

fn tls(pair: &CertificatePair) -> TlsAcceptor {
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, state: Arc<Mutex<CollectorState>>) {
    let Ok(mut stream) = tls.accept(stream).await else {
        return;
    };
    while let Some((head, body)) = request(&mut stream).await {
        let reply = state.lock().unwrap().reply(&head, &body);
        let response = match reply {
            Reply::Http(status, body) => http(status, "", &body),
            Reply::Redirect(to) => http(307, &format!("location: {to}\r\n"), ""),
            Reply::Bytes(bytes) => bytes,
            Reply::Torn => {
                let whole = http(200, "", "{\"durable\":1}");
                stream.write_all(&whole[..whole.len() - 5]).await.unwrap();
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Close => return,
            Reply::Never => std::future::pending().await,
        };
        // A client that has read enough of a long response has gone.
        let _ = stream.write_all(&response).await;
    }
}

fn http(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// Head and body of the next request; `None` at the end of the connection.
async fn request(stream: &mut TlsStream<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut received = Vec::new();
    loop {
        let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(received[..end].to_vec()).unwrap();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            let mut body = received.split_off(end + 4);
            while body.len() < length {
                read(stream, &mut body).await?;
            }
            return Some((head, body));
        }
        read(stream, &mut received).await?;
    }
}

async fn read(stream: &mut TlsStream<TcpStream>, into: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(into).await.ok()?;
    (read > 0).then_some(())
}
