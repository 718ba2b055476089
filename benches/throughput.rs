//! Admission port compared with a server on the same TLS stack that parses nothing and returns a constant: requests per
//! second, the server's CPU time for each, and the latency of the slowest; with the audit trail and without it. Rounds
//! are interleaved, because a shared machine drifts over minutes; medians and the spread are printed.
//!
//! usage: cargo bench --bench throughput [-- ROUNDS [LOG-FILTER]]

mod review;
mod trail;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use floe_secrets_webhook::admission::policy::OnAuditFailure;
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::commands::routes;
use floe_secrets_webhook::server::cert_store::{CertStore, ClientAuth, TlsFiles};
use floe_secrets_webhook::server::limits::{BodyLimits, BodySettings};
use floe_secrets_webhook::server::listener::{Listener, ListenerSettings};
use floe_secrets_webhook::server::metrics::{Port, ServerMetrics};
use floe_secrets_webhook::server::shutdown::Shutdown;
use floe_secrets_webhook::telemetry::logs::{self, LogFormat};
use floe_secrets_webhook::telemetry::traces::Traces;
use http::{Request, header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Duration of each measurement.
const LENGTH: Duration = Duration::from_millis(1500);

/// Kind of request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Constant,
    Injected,
    /// Injected, with the audit trail on standard output.
    Recorded,
    NothingToDo,
}

const CASES: [(Case, &str, &str); 4] = [
    (Case::Constant, "constant", "/constant"),
    (Case::Injected, "injected", "/admit/pods"),
    (Case::Recorded, "recorded", "/recorded/admit/pods"),
    (Case::NothingToDo, "nothing to do", "/admit/pods"),
];

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["serve", folder, filter] => serve(Path::new(folder), filter),
        [] => compare(7, "info"),
        [rounds, filter @ ..] if filter.len() < 2 => match rounds.parse() {
            Ok(rounds) => compare(rounds, filter.first().unwrap_or(&"info")),
            Err(_) => return ExitCode::from(2),
        },
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

// === server, in a process of its own, so that its CPU time can be separated from the client's ===

fn serve(folder: &Path, filter: &str) {
    logs::init(LogFormat::Json, filter, std::io::stdout).expect("a valid filter");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let metrics = ServerMetrics::default();
        let store = CertStore::new(ClientAuth::None, Clock::system(), metrics.clone());
        let files = TlsFiles {
            pair: Some((folder.join("tls.crt"), folder.join("tls.key"))),
            client_ca: None,
        };
        files.load(&store).await.expect("a certificate");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(
            address,
            Port::Admission,
            ListenerSettings::default(),
            metrics.clone(),
        )
        .await;
        let listener = listener.expect("a free port").with_tls(store);
        writeln!(
            std::io::stderr(),
            "{}",
            listener.local_addr().expect("a bound address")
        )
        .expect("a listener");
        listener.serve(router(metrics).await, Shutdown::new()).await;
    });
}

async fn router(metrics: ServerMetrics) -> Router {
    let limits = BodyLimits::new(BodySettings::default(), metrics);
    let constant = Router::new()
        .route("/constant", post(constant))
        .with_state(limits.clone());
    let admission = |handler| routes::admission(handler, limits.clone(), Traces::off(), true);
    let handler = review::handler().await;
    let recorded = handler
        .clone()
        .recorded_by(trail::recorder(), OnAuditFailure::Ignore);
    admission(handler)
        .nest("/recorded", admission(recorded))
        .merge(constant)
}

/// Reads the body within the same limits, and ignores it.
async fn constant(State(limits): State<BodyLimits>, request: Request<Body>) -> Response {
    const ANSWER: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"0f6f5c1e-6f1c-4ad2-b1d9-3c7ec6c0ef7a","allowed":true}}"#;
    match limits.read(request).await {
        Ok(_) => ([(header::CONTENT_TYPE, "application/json")], ANSWER).into_response(),
        Err(shed) => shed.into_response(),
    }
}

/// Running server. Killed on drop.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path, filter: &str) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .args(["serve".as_ref(), folder.as_os_str(), filter.as_ref()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the webhook starts");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("stdin is piped"))
            .read_line(&mut line)
            .expect("it says where it is");
        Self {
            child,
            address: line.trim().parse().expect("an address"),
        }
    }

    /// CPU time used so far, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("a running process");
        let fields = stat
            .rsplit(')')
            .next()
            .expect("fields after the name")
            .split_whitespace();
        // utime and stime, in hundredths of a second on every Linux.
        fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().expect("a number"))
            .sum::<f64>()
            / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

// === client ===

/// Results of one measurement.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    cpu_micros: f64,
    p50_micros: f64,
    p99_micros: f64,
}

fn compare(rounds: usize, filter: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.path().join("tls.crt"), certificate.cert.pem())
        .expect("the folder can be written");
    std::fs::write(
        folder.path().join("tls.key"),
        certificate.signing_key.serialize_pem(),
    )
    .expect("as before");
    let server = Server::start(folder.path(), filter);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (asking, indifferent) = (review::asking(), review::indifferent());
    print_line(&format!(
        "review of {} bytes; {rounds} rounds of {LENGTH:?}; log filter {filter}",
        asking.len()
    ));
    for connections in [1, 16, 64] {
        let mut results: BTreeMap<Case, Vec<Round>> = BTreeMap::new();
        for _ in 0..rounds {
            for (case, _, path) in CASES {
                let body = if case == Case::NothingToDo {
                    &indifferent
                } else {
                    &asking
                };
                let request = request(path, body);
                let round = runtime.block_on(measure(
                    &server,
                    &certificate.cert.pem(),
                    &request,
                    connections,
                ));
                results.entry(case).or_default().push(round);
            }
        }
        report(connections, &results);
    }
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path}?timeout=5s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn measure(server: &Server, ca: &str, request: &[u8], connections: usize) -> Round {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(server.address, ca).await);
    }
    for connection in &mut open {
        ask(connection, request).await;
    }
    let (cpu, began) = (server.cpu(), Instant::now());
    let asking = open.into_iter().map(async |mut connection| {
        let mut took = Vec::new();
        while began.elapsed() < LENGTH {
            let asked = Instant::now();
            ask(&mut connection, request).await;
            took.push(asked.elapsed());
        }
        took
    });
    let mut took: Vec<Duration> = futures::future::join_all(asking).await.concat();
    let (elapsed, cpu) = (began.elapsed(), server.cpu() - cpu);
    took.sort_unstable();
    let count = u32::try_from(took.len()).expect("not that many");
    let at = |hundredths: usize| {
        took.get(took.len() * hundredths / 100)
            .map_or(0.0, Duration::as_secs_f64)
            * 1e6
    };
    Round {
        per_second: f64::from(count) / elapsed.as_secs_f64(),
        cpu_micros: cpu * 1e6 / f64::from(count),
        p50_micros: at(50),
        p99_micros: at(99),
    }
}

async fn connect(address: SocketAddr, ca: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate"))
        .expect("an authority");
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address)
        .await
        .expect("the server listens");
    tcp.set_nodelay(true).expect("it is TCP");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .expect("a trusted certificate")
}

/// Sends one request and reads its complete response.
async fn ask(connection: &mut TlsStream<TcpStream>, request: &[u8]) {
    connection
        .write_all(request)
        .await
        .expect("the server reads");
    connection.flush().await.expect("the server reads");
    let mut answer = Vec::with_capacity(16 << 10);
    loop {
        assert!(
            connection
                .read_buf(&mut answer)
                .await
                .expect("the server responds")
                > 0,
            "the connection ended"
        );
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head =
                String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            let length: usize = length
                .and_then(|length| length.parse().ok())
                .expect("a length");
            if answer.len() >= end + 4 + length {
                return;
            }
        }
    }
}

fn report(connections: usize, results: &BTreeMap<Case, Vec<Round>>) {
    print_line(&format!(
        "\n{connections} connection(s)           per second    CPU µs    p50 µs    p99 µs   of the constant's throughput"
    ));
    for (case, name, _) in CASES {
        let (Some(rounds), Some(constant)) = (results.get(&case), results.get(&Case::Constant))
        else {
            continue;
        };
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        let ratios: Vec<f64> = rounds
            .iter()
            .zip(constant)
            .map(|(round, constant)| round.per_second / constant.per_second)
            .collect();
        let spread = format!(
            "{:.2} ({:.2} to {:.2})",
            median(ratios.clone()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        );
        print_line(&format!(
            "{name:<24} {:>12.0} {:>9.1} {:>9.0} {:>9.0}   {spread}",
            of(|round| round.per_second),
            of(|round| round.cpu_micros),
            of(|round| round.p50_micros),
            of(|round| round.p99_micros),
        ));
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_line(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("stdout is open");
}
