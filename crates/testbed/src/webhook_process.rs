//! Webhook as a child process: `floe-secrets-webhook serve` with the shipped permissions.

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

/// Arguments and environment of a process. Tests add or replace arguments before [`Launch::start`].
pub struct Launch {
    pub args: Vec<String>,
    /// Additional environment variables.
    pub env: Vec<(String, String)>,
    /// Port of the admission listener.
    pub port: u16,
    /// Port of `/livez`, `/readyz` and `/metrics`.
    pub ops_port: u16,
    /// Certificate, key and log.
    pub folder: Folder,
    pub(super) ca: String,
    program: PathBuf,
}

impl Launch {
    /// `serve` as `identity` (see [`super::webhook::webhook_identity`]), with a certificate of the control plane's CA.
    pub fn serve(cp: &ControlPlane, identity: &Identity) -> Self {
        Self::without_control_plane(&cp.authority, &identity.kubeconfig)
    }

    /// `serve` without a control plane, or with another backend.
    pub fn without_control_plane(authority: &Authority, kubeconfig: &Path) -> Self {
        let mut launch = Self::with_ports("serve", authority, kubeconfig);
        // Only the tests reach the port.
        launch.args.push("--trusted-callers=true".to_owned());
        launch
    }

    /// Command with a port over TLS and the ops port.
    pub(super) fn with_ports(command: &str, authority: &Authority, kubeconfig: &Path) -> Self {
        let folder = Folder::new();
        let [port, ops_port] = free_ports();
        let pair = authority.server(&["127.0.0.1", "localhost", SERVICE_HOST]);
        let (cert, key) = pair.write(&folder, "tls");
        let listen = match command {
            "serve" => "--listen",
            _ => "--collector-listen",
        };
        let mut args = vec![command.to_owned()];
        for (flag, value) in [
            ("--tls-cert", cert.display().to_string()),
            ("--tls-key", key.display().to_string()),
            (listen, format!("127.0.0.1:{port}")),
            ("--ops-listen", format!("127.0.0.1:{ops_port}")),
            ("--kubeconfig", kubeconfig.display().to_string()),
            ("--own-namespace", NAMESPACE.to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
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

    /// Runs the program by another command, such as one that enters a namespace.
    pub(super) fn behind(mut self, command: &[String]) -> Self {
        let (first, rest) = command.split_first().expect("a command");
        let program = std::mem::replace(&mut self.program, first.into());
        let program = program.display().to_string();
        let before = rest.iter().cloned().chain([program]);
        self.args.splice(0..0, before);
        self
    }

    /// Removes `--trusted-callers`: callers may be anybody.
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
            let index = self
                .args
                .iter()
                .position(|arg| arg == flag)
                .expect("the argument is there");
            self.args.drain(index..index + 2);
        }
        self.with(&["--tls-secret", name, "--tls-poll", "1s"])
    }

    /// Runs another program than that of this build, such as another version.
    pub fn running(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().copied().map(str::to_owned));
        self
    }

    /// Replaces the value of an argument.
    pub fn set(mut self, flag: &str, value: &str) -> Self {
        let index = self
            .args
            .iter()
            .position(|arg| arg == flag)
            .expect("the argument is there");
        value.clone_into(&mut self.args[index + 1]);
        self
    }

    /// Starts the program and waits until it is ready; panics with its log if it exits.
    pub async fn start(self) -> WebhookProcess {
        let started = self.spawn();
        wait_for("the webhook is ready", || async {
            let ended = started.process.exit_status();
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

/// Build of this profile, or the program of `WEBHOOK_BIN`.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment sets the measured binary"
)]
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("WEBHOOK_BIN") {
        return program.into();
    }
    // Tests are in `deps`, examples in `examples`; the program is in the folder above both.
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

/// Running program. Killed on drop.
pub struct WebhookProcess {
    // Dropped before the folder that it writes its log into.
    process: Process,
    pub launch: Launch,
}

impl WebhookProcess {
    /// Shipped configuration, with the URL of this process.
    pub fn url_configuration(&self) -> Value {
        Target::Url {
            port: self.launch.port,
        }
        .apply_to(shipped_configuration(), &self.launch.ca)
    }

    /// Shipped configuration, with the Service that it names.
    pub fn service_configuration(&self) -> Value {
        Target::Service {
            port: self.launch.port,
        }
        .apply_to(shipped_configuration(), &self.launch.ca)
    }

    /// Status and body of a GET on the ops port; `None` if nothing responds.
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

    /// Sends any request to the admission port, as anyone in the cluster can. Returns status and body of the response.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (u16, String) {
        let response = self.request(method, path, body).await;
        (response.status, response.text)
    }

    /// Response to a review on this path.
    pub async fn review(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.send(Method::POST, path, review.to_string()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("an AdmissionReview")
    }

    /// Log up to this call. A thread of its own writes the log, so lines may still be buffered when the response has
    /// arrived.
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

    /// Log lines of admissions whose `field` is `value`.
    pub fn admissions(&self, field: &str, value: &str) -> Vec<Value> {
        let log = self.log();
        // The last line may be incomplete.
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["message"] == "admission" && line[field] == value)
            .collect()
    }

    /// Process id, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal by its name without SIG, as in `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends SIGTERM without waiting.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Exit status once the program has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Sends SIGTERM and waits; panics with the log if the program does not exit.
    pub async fn stop(self) -> ExitStatus {
        let status = self.process.stop(Duration::from_secs(45)).await;
        status.unwrap_or_else(|| panic!("the webhook ignores SIGTERM\n{}", self.process.tail()))
    }

    /// Sends SIGKILL, as a crash.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts the program again on the same ports, after it has ended or by a crash; the log is continued.
    pub async fn restart(self) -> Self {
        let Self { process, launch } = self;
        drop(process);
        launch.start().await
    }

    /// [`Self::restart`] without waiting until the program is ready.
    pub fn respawn(self) -> Self {
        let Self { process, launch } = self;
        drop(process);
        launch.spawn()
    }
}
