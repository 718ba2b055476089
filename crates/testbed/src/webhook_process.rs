//! Our own program as a child process: `floe-secrets-webhook serve` with the shipped rights.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::control_plane::ControlPlane;
use super::namespace::Identity;
use super::pki::Authority;
use super::process::{Folder, Process};
use super::webhook::{NAMESPACE, SERVICE_HOST, Target, shipped_configuration};
use super::{free_ports, wait_for};

/// How a server is started. Tests add or replace arguments before [`Launch::start`].
pub struct Launch {
    /// The arguments.
    pub args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, String)>,
    /// The admission listener's port.
    pub port: u16,
    /// The port of `/livez`, `/readyz` and `/metrics`.
    pub ops_port: u16,
    /// The certificate, the key and the log.
    pub folder: Folder,
    pub(super) ca: String,
    program: PathBuf,
}

impl Launch {
    /// `serve` as `identity` (see [`super::webhook::webhook_identity`]), with a certificate of the control plane's CA.
    pub fn serve(cp: &ControlPlane, identity: &Identity) -> Self {
        Self::alone(&cp.authority, &identity.kubeconfig)
    }

    /// `serve` without a control plane, or with another backend than its own.
    pub fn alone(authority: &Authority, kubeconfig: &Path) -> Self {
        let folder = Folder::new();
        let [port, ops_port] = free_ports();
        let pair = authority.server(&["127.0.0.1", "localhost", SERVICE_HOST]);
        let (cert, key) = pair.write(&folder, "tls");
        let mut args = vec!["serve".to_owned()];
        for (flag, value) in [
            ("--tls-cert", cert.display().to_string()),
            ("--tls-key", key.display().to_string()),
            ("--listen", format!("127.0.0.1:{port}")),
            ("--ops-listen", format!("127.0.0.1:{ops_port}")),
            ("--kubeconfig", kubeconfig.display().to_string()),
            ("--own-namespace", NAMESPACE.to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        // Nobody but the tests reaches the port.
        args.push("--trusted-callers=true".to_owned());
        Self {
            args,
            env: Vec::new(),
            port,
            ops_port,
            folder,
            ca: authority.pem(),
            program: program(),
        }
    }

    /// As where the operator does not say who reaches the port: callers may be anybody.
    pub fn with_open_port(mut self) -> Self {
        self.args.retain(|arg| arg != "--trusted-callers=true");
        self
    }

    /// `controller` as `identity` (see [`super::webhook::controller_identity`]).
    pub fn controller(cp: &ControlPlane, identity: &Identity) -> Self {
        let [ops_port] = free_ports();
        let mut args = vec!["controller".to_owned()];
        for (flag, value) in [
            ("--ops-listen", format!("127.0.0.1:{ops_port}")),
            ("--kubeconfig", identity.kubeconfig.display().to_string()),
            ("--own-namespace", NAMESPACE.to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        Self {
            args,
            env: Vec::new(),
            port: 0,
            ops_port,
            folder: Folder::new(),
            ca: cp.authority.pem(),
            program: program(),
        }
    }

    /// Reads the certificate from this Secret instead of files, as in self-managed mode.
    pub fn with_tls_secret(mut self, name: &str) -> Self {
        for flag in ["--tls-cert", "--tls-key"] {
            let place = self
                .args
                .iter()
                .position(|arg| arg == flag)
                .expect("the argument is there");
            self.args.drain(place..place + 2);
        }
        self.with(&["--tls-secret", name, "--tls-poll", "1s"])
    }

    /// Another program than ours of this build: of another version.
    pub fn running(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Adds arguments.
    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().copied().map(str::to_owned));
        self
    }

    /// Gives another value to an argument that is there.
    pub fn set(mut self, flag: &str, value: &str) -> Self {
        let place = self
            .args
            .iter()
            .position(|arg| arg == flag)
            .expect("the argument is there");
        value.clone_into(&mut self.args[place + 1]);
        self
    }

    /// Starts the program and waits until it is ready; panics with its log when it ends instead.
    pub async fn start(self) -> WebhookProcess {
        let started = self.spawn();
        wait_for("the webhook is ready", || async {
            let ended = started.process.exited();
            assert!(
                ended.is_none(),
                "the webhook ended: {ended:?}\n{}",
                started.process.tail()
            );
            started
                .get("/readyz")
                .filter(|(status, _)| *status == 200)
                .map(drop)
        })
        .await;
        started
    }

    /// Starts the program without waiting.
    pub fn spawn(self) -> WebhookProcess {
        let process = Process::start(
            "floe-secrets-webhook",
            self.folder.path(),
            &self.program,
            &self.args,
            &self.env,
        );
        WebhookProcess {
            process,
            launch: self,
        }
    }
}

/// Cargo's build of this profile, or another one by `WEBHOOK_BIN`.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever measures says which binary"
)]
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("WEBHOOK_BIN") {
        return program.into();
    }
    // Tests are in `deps`, examples in `examples`, the program is beside both.
    let test = std::env::current_exe().expect("the path of this program");
    let folder = test.parent().and_then(std::path::Path::parent);
    let built = folder
        .expect("a target folder")
        .join("floe-secrets-webhook");
    assert!(
        built.is_file(),
        "{} is missing: cargo build",
        built.display()
    );
    built
}

/// The running program. Killed on drop.
pub struct WebhookProcess {
    // Before the folder that it writes its log into.
    process: Process,
    /// What it was started with.
    pub launch: Launch,
}

impl WebhookProcess {
    /// The shipped configuration, pointed here by URL.
    pub fn by_url(&self) -> Value {
        Target::Url {
            port: self.launch.port,
        }
        .aim(shipped_configuration(), &self.launch.ca)
    }

    /// The shipped configuration, pointed here by the Service that it names.
    pub fn by_service(&self) -> Value {
        Target::Service {
            port: self.launch.port,
        }
        .aim(shipped_configuration(), &self.launch.ca)
    }

    /// Status and body of a GET on the ops port; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.launch.ops_port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Any request to the admission port, as anyone in the cluster can send it: status and body of the answer.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (u16, String) {
        let reply = self.exchange(method, path, body).await;
        (reply.status, reply.text)
    }

    /// The answer to a review on this path.
    pub async fn review(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.send(Method::POST, path, review.to_string()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("an AdmissionReview")
    }

    /// Everything that it logged before this call. A thread of its own writes the log, so what was logged may still
    /// be waiting when the answer is here.
    pub fn log(&self) -> String {
        for _ in 0..100 {
            let waits = |(_, metrics): (u16, String)| {
                !metrics.contains("\nfloe_secrets_webhook_log_waiting_bytes 0\n")
            };
            if !self.get("/metrics").is_some_and(waits) {
                break;
            }
        }
        self.process.log()
    }

    /// Its log lines about admissions of which `field` is `value`.
    pub fn admissions(&self, field: &str, value: &str) -> Vec<Value> {
        let log = self.log();
        // The last line may still be being written.
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["message"] == "admission" && line[field] == value)
            .collect()
    }

    /// Its process id, for figures from `/proc`.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGTERM without waiting, so that a test can watch it end.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// How it ended, once it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// SIGTERM, and waits for the end; panics with the log when it does not end.
    pub async fn stop(self) -> ExitStatus {
        let status = self.process.stop(Duration::from_secs(45)).await;
        status.unwrap_or_else(|| panic!("the webhook ignores SIGTERM\n{}", self.process.tail()))
    }

    /// SIGKILL: a crash.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again as it was, on the same ports, after it has ended or by a crash; the log goes on.
    pub async fn restart(self) -> Self {
        let Self { process, launch } = self;
        drop(process);
        launch.start().await
    }
}
