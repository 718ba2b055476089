//! The API server's own creates go on while another address floods the admission port, on a real API server that calls
//! our own binary by its Service.
//!
//! The API server is 127.0.0.1 here, and the flood comes from 127.0.0.2.

#![expect(
    clippy::indexing_slicing,
    reason = "a serde_json::Value is indexed; in a test, a panic is an answer too"
)]

mod common;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::control_plane::ControlPlane;
use common::served::{pod, prefixed};
use common::stream::Stream;
use common::webhook::{Registration, SERVICE_HOST, patient, webhook_identity};
use common::webhook_process::{Launch, WebhookProcess};
use common::{objects, wait_for};
use futures::future::join_all;
use http::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Creates that must be answered under each flood.
const CREATES: usize = 200;

/// Who floods: where, and by which trust.
#[derive(Clone)]
struct Stranger {
    server: SocketAddr,
    tls: TlsConnector,
}

impl Stranger {
    fn new(webhook: &WebhookProcess) -> Self {
        let mut roots = RootCertStore::empty();
        let trusted = webhook.by_service()["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()
            .map(str::to_owned);
        let ca = STANDARD.decode(trusted.expect("a CA")).expect("base64");
        roots
            .add(CertificateDer::from_pem_slice(&ca).expect("PEM"))
            .expect("a CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = (Ipv4Addr::LOCALHOST, webhook.launch.port).into();
        Self {
            server,
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.bind((STRANGER, 0).into())?;
        socket.connect(self.server).await
    }

    /// Opens connections and says nothing; keeps more than a peer's share of them.
    async fn says_nothing(self, opened: Arc<AtomicUsize>) {
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

    /// Asks without end and reads no answer; again when it is cut off.
    async fn never_reads(self, asked: Arc<AtomicUsize>) {
        let requests = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        loop {
            self.write_for_ever(requests.as_bytes(), &asked).await.ok();
        }
    }

    /// Sends a chunked body, a byte in each second; again when it is cut off.
    async fn writes_slowly(self, written: Arc<AtomicUsize>) {
        let head = "POST /admit/pods HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        loop {
            if let Ok(mut stream) = self.shake_hands().await {
                let mut going = stream.write_all(head.as_bytes()).await;
                while going.is_ok() && stream.flush().await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                    going = stream.write_all(b"1\r\nx\r\n").await;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn shake_hands(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = self.connect().await?;
        self.tls
            .connect(ServerName::try_from(SERVICE_HOST).expect("a name"), tcp)
            .await
    }

    async fn write_for_ever(&self, bytes: &[u8], count: &AtomicUsize) -> std::io::Result<()> {
        let mut stream = self.shake_hands().await?;
        loop {
            stream.write_all(bytes).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_go_on_while_another_address_floods_the_port() {
    let cp = ControlPlane::shared().await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let _registered = Registration::exclusive(cp, &patient(webhook.by_service())).await;
    let ns = cp.namespace("flooded").await;
    cp.secret(&ns.name, "db", &["k"], "v").await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let loader = cp.service_account(&ns.name, "loader", &rules).await;
    let stranger = Stranger::new(&webhook);

    for kind in ["silent", "never reads", "writes slowly"] {
        let (mut flood, done) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        let (crowd, enough) = match kind {
            "silent" => (1, 1000),
            "never reads" => (16, 100),
            // More than one peer's share, all of them with a request under way.
            _ => (700, 700),
        };
        for _ in 0..crowd {
            let (stranger, done) = (stranger.clone(), done.clone());
            match kind {
                "silent" => flood.spawn(stranger.says_nothing(done)),
                "never reads" => flood.spawn(stranger.never_reads(done)),
                _ => flood.spawn(stranger.writes_slowly(done)),
            };
        }
        wait_for("the flood is there", || async {
            (done.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
        let stream = Stream::start(loader.client(), &ns.name, "db", 50);
        stream.answers(CREATES).await;
        let report = stream.stop().await;
        println!("{kind}: {}", report.summary());
        report.all_injected();
        assert_eq!(webhook.get("/livez"), Some((200, "ok\n".to_owned())));
        flood.shutdown().await;
    }
    let shed = |reason: &str| webhook.counted("requests_shed", &[&format!("reason=\"{reason}\"")]);
    let (evicted, closed) = (shed("evicted"), shed("connections"));
    println!(
        "evicted {evicted}, closed {closed}, memory in KiB (now, most) {:?}",
        webhook.memory()
    );
    assert!(evicted > 0, "the silent ones were above their share");
    assert!(closed > 0, "the slow writers were above their share");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_creates_at_once_from_the_api_servers_one_address_are_all_injected() {
    let cp = ControlPlane::shared().await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let _registered = Registration::exclusive(cp, &patient(webhook.by_service())).await;
    let ns = cp.namespace("at-once").await;
    cp.secret(&ns.name, "db", &["k"], "v").await;
    let client = cp.client();
    let creates = (0..400).map(|at| {
        let object = pod(
            &ns.name,
            &format!("pod-{at}"),
            &prefixed(&json!({"env-from": "db"})),
        );
        let path = format!("{}?dryRun=All", objects::collection(&object));
        let client = client.clone();
        async move { objects::send(&client, Method::POST, &path, Some(&object)).await }
    });
    let injected = join_all(creates).await;
    for answer in &injected {
        assert!(answer.accepted(), "{answer:?}");
        assert_eq!(
            answer.body["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"],
            "db"
        );
    }
    for reason in ["connections", "evicted"] {
        assert_eq!(
            webhook.counted("requests_shed", &[&format!("reason=\"{reason}\"")]),
            0,
            "{reason}"
        );
    }
}
