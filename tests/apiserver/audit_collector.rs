//! `admin` as a process on a real API server: tokens of pods, a crash, and files that it must not touch.

#![cfg(feature = "test-util")]
#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use floe_secrets_webhook::audit::delivery::{AUDIENCE, BatchHead, PATH, ReplicaState};
use floe_secrets_webhook::audit::link::ChainId;
use floe_secrets_webhook::store::conformance::Trail;
use floe_secrets_webhook::store::sqlite::{SqliteSettings, SqliteStore};
use http::Method;
use serde_json::{Value, json};
use testbed::admission_client::{connect_tls, send_request};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, pod, prefixed};
use testbed::namespace::TestNamespace;
use testbed::process::{Folder, Process};
use testbed::webhook::{Registration, SERVICE_HOST, limited_to_namespaces, webhook_identity};
use testbed::webhook_process::{Launch, program};
use testbed::{free_ports, unique, wait_for};

/// ServiceAccount that may send lines.
const SENDER: &str = "webhook";

/// Namespace with a sender, and the pod that has its token.
struct Fixture {
    cp: &'static ControlPlane,
    namespace: TestNamespace,
    pod: Value,
    kubeconfig: PathBuf,
    folder: Folder,
}

/// Running `admin`. Killed on drop.
struct Admin {
    process: Process,
    port: u16,
    ops_port: u16,
    ca: String,
}

impl Fixture {
    async fn new() -> Self {
        let cp = ControlPlane::shared().await;
        let namespace = cp.namespace("collector").await;
        let admin = cp
            .service_account(&namespace.name, "admin", &json!([]))
            .await;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": unique("collector")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "admin", "namespace": namespace.name}],
        });
        cp.create(&binding).await.object();
        for name in [SENDER, "other"] {
            cp.service_account(&namespace.name, name, &json!([])).await;
        }
        let pod = create_pod(cp, &namespace, "webhook-1", SENDER).await;
        Self {
            cp,
            namespace,
            pod,
            kubeconfig: admin.kubeconfig,
            folder: Folder::new(),
        }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("audit.db")
    }

    /// Token as a projected volume has it.
    async fn token(&self, account: &str, audience: &str, pod: Option<&Value>) -> String {
        let audience = format!("--audience={audience}");
        let mut args = vec![
            "-n",
            &self.namespace.name,
            "create",
            "token",
            account,
            &audience,
        ];
        if let Some(pod) = pod {
            let text = |field: &str| pod["metadata"][field].as_str().expect("a text");
            args.extend(["--bound-object-kind", "Pod"]);
            args.extend(["--bound-object-name", text("name")]);
            args.extend(["--bound-object-uid", text("uid")]);
        }
        let output = self.cp.kubectl(&args, "").await.expect_success();
        output.stdout.trim().to_owned()
    }

    fn start(&self, name: &str) -> Admin {
        let [port, ops_port] = free_ports();
        let pair = self.cp.authority.server(&["localhost", SERVICE_HOST]);
        let (cert, key) = pair.write(&self.folder, name);
        let senders = format!("{}/{SENDER}", self.namespace.name);
        let mut args = vec!["admin".to_owned()];
        for (flag, value) in [
            ("--store", self.store().display().to_string()),
            ("--senders", senders),
            ("--tls-cert", cert.display().to_string()),
            ("--tls-key", key.display().to_string()),
            ("--collector-listen", format!("127.0.0.1:{port}")),
            ("--ops-listen", format!("127.0.0.1:{ops_port}")),
            ("--kubeconfig", self.kubeconfig.display().to_string()),
            ("--own-namespace", self.namespace.name.clone()),
            ("--shutdown-delay", "0s".to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        Admin {
            process: Process::start(name, self.folder.path(), &program(), &args, &[]),
            port,
            ops_port,
            ca: self.cp.authority.pem(),
        }
    }
}

impl Admin {
    /// Status and body of a GET on the ops port; `None` if nothing responds.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ops_port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    async fn ready(self) -> Self {
        wait_for("admin is ready", || async {
            let ended = self.process.exit_status();
            assert!(ended.is_none(), "{}", self.process.tail());
            self.get("/readyz").filter(|(status, _)| *status == 200)
        })
        .await;
        self
    }

    /// Waits until admin reports that it is not ready, with this text.
    async fn not_ready(&self, reason: &str) {
        wait_for(reason, || async {
            let ended = self.process.exit_status();
            assert!(ended.is_none(), "{}", self.process.tail());
            let (status, body) = self.get("/readyz")?;
            (status == 503 && body.contains(reason)).then_some(())
        })
        .await;
        assert_eq!(self.get("/livez").map(|(status, _)| status), Some(200));
    }

    async fn send(&self, token: &str, body: Vec<u8>) -> (u16, Value) {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        let stream = connect_tls(address, &self.ca).await.expect("a connection");
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str())];
        let response = send_request(stream, Method::POST, PATH, &headers, body).await;
        let response = response.expect("a response");
        let body = serde_json::from_str(&response.text).expect("JSON");
        (response.status, body)
    }
}

async fn create_pod(
    cp: &ControlPlane,
    namespace: &TestNamespace,
    name: &str,
    account: &str,
) -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": namespace.named(name),
        "spec": {"serviceAccountName": account, "containers": [container()]},
    });
    cp.create(&pod).await.object()
}

fn text<'p>(pod: &'p Value, field: &str) -> &'p str {
    pod["metadata"][field].as_str().expect("a text")
}

fn batch(pod: &Value, lines: &[String]) -> Vec<u8> {
    let head = BatchHead {
        chain: ChainId::parse(&format!("{}/1", text(pod, "uid"))).expect("a chain"),
        lost_before: false,
        replica: ReplicaState {
            pod: text(pod, "name").to_owned(),
            ..ReplicaState::default()
        },
    };
    let mut body = head.to_line();
    body.extend(
        lines
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\n"])
            .flatten(),
    );
    body
}

/// Runs the program about the store, while `admin` writes it.
fn audit(args: &[&str], store: &Path) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.args(args).arg("--store").arg(store);
    CommandOutput::run(command, "").expect_success()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_pod_are_in_the_store_after_a_kill() {
    let fixture = Fixture::new().await;
    let pod = &fixture.pod;
    let token = fixture.token(SENDER, AUDIENCE, Some(pod)).await;
    let lines = Trail::new(text(pod, "uid")).lines(30);
    let admin = fixture.start("admin").ready().await;
    for durable in [10, 20] {
        let part = batch(pod, &lines[durable - 10..durable]);
        let stored = admin.send(&token, part).await;
        assert_eq!(
            stored,
            (200, json!({"durable": durable})),
            "{}",
            admin.process.tail()
        );
    }
    admin.process.kill();
    drop(admin);
    let admin = fixture.start("admin-again").ready().await;
    let (status, gap) = admin.send(&token, batch(pod, &lines[25..])).await;
    assert_eq!((status, &gap["wanted"]), (409, &json!(21)));
    let stored = admin.send(&token, batch(pod, &lines[15..])).await;
    assert_eq!(stored, (200, json!({"durable": 30})));
    let exported = audit(
        &["audit", "export", "--from", "2000-01-01T00:00:00Z"],
        &fixture.store(),
    );
    // Beside them, the store has the own chain of admin.
    let of_pod = |line: &&str| line.contains(text(pod, "uid"));
    let stored: Vec<&str> = exported.stdout.lines().filter(of_pod).collect();
    assert_eq!(stored, lines);
    let metrics = admin.get("/metrics").expect("metrics").1;
    for row in [
        "floe_secrets_webhook_audit_collected_lines_total 10\n",
        "floe_secrets_webhook_audit_store_ready 1\n",
        "audit_rejected_batches_total{reason=\"out_of_order\"} 1\n",
        "audit_replica_unshipped_lines{pod=\"webhook-1\"} 0\n",
    ] {
        assert!(metrics.contains(row), "{row}: {metrics}");
    }
    let log = admin.process.log();
    assert!(!log.contains(&token), "a token in the log");
    assert!(
        admin
            .process
            .stop(Duration::from_secs(30))
            .await
            .expect("an end")
            .success()
    );
    SqliteStore::open(&SqliteSettings::new(fixture.store())).expect("the lock is given up");
    assert!(
        !fixture.folder.path().join("audit.db-wal").exists(),
        "the WAL is in the file"
    );
}

/// Token with another signature. Its last character has bits that no byte has, so that a change of it may be none.
fn with_other_signature(token: &str) -> String {
    let (rest, last) = token.split_at(token.len() - 20);
    let other = if last.starts_with('A') { 'B' } else { 'A' };
    format!("{rest}{other}{}", &last[1..])
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_others_write_nothing() {
    let fixture = Fixture::new().await;
    let (cp, pod) = (fixture.cp, &fixture.pod);
    let admin = fixture.start("admin").ready().await;
    let other = create_pod(cp, &fixture.namespace, "other-1", "other").await;
    let second = create_pod(cp, &fixture.namespace, "webhook-2", SENDER).await;
    let good = fixture.token(SENDER, AUDIENCE, Some(pod)).await;
    let gone = fixture.token(SENDER, AUDIENCE, Some(&second)).await;
    for (name, token, status) in [
        (
            "another audience",
            fixture.token(SENDER, "vault", Some(pod)).await,
            401,
        ),
        ("changed", with_other_signature(&good), 401),
        (
            "another ServiceAccount",
            fixture.token("other", AUDIENCE, Some(&other)).await,
            403,
        ),
        ("no pod", fixture.token(SENDER, AUDIENCE, None).await, 403),
        ("another pod", gone.clone(), 403),
        ("the pod's", good, 200),
    ] {
        let response = admin.send(&token, batch(pod, &[])).await;
        assert_eq!(response.0, status, "{name}: {response:?}");
        assert!(!response.1.to_string().contains(&token), "{name}");
    }
    let namespace = &fixture.namespace.name;
    let delete = [
        "-n",
        namespace,
        "delete",
        "pod",
        "webhook-2",
        "--force",
        "--grace-period=0",
    ];
    cp.kubectl(&delete, "").await.expect_success();
    // The API server remembers its own response for 10 seconds.
    wait_for("the token of a deleted pod is refused", || async {
        let (status, _) = admin.send(&gone, batch(&second, &[])).await;
        (status == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_is_not_its_store_is_left_as_it_is() {
    let fixture = Fixture::new().await;
    let token = fixture.token(SENDER, AUDIENCE, Some(&fixture.pod)).await;
    let store = fixture.store();
    let foreign = |change: &str| {
        let connection = rusqlite::Connection::open(&store).expect("a file");
        connection.execute_batch(change).expect("SQL");
    };
    for (name, expected) in [
        ("damaged", "is damaged"),
        ("foreign", "is not a store of the audit trail"),
        ("newer", "use the newer program"),
    ] {
        drop(std::fs::remove_file(&store));
        match name {
            "damaged" => {
                drop(SqliteStore::open(&SqliteSettings {
                    create: true,
                    ..SqliteSettings::new(&store)
                }));
                let mut bytes = std::fs::read(&store).expect("a store");
                bytes[100..4_000].fill(7);
                std::fs::write(&store, bytes).expect("a damaged store");
            }
            "foreign" => foreign("CREATE TABLE cat (name TEXT); INSERT INTO cat VALUES ('a')"),
            _ => {
                drop(SqliteStore::open(&SqliteSettings {
                    create: true,
                    ..SqliteSettings::new(&store)
                }));
                foreign("PRAGMA user_version = 99");
            }
        }
        let before = std::fs::read(&store).expect("the file");
        let admin = fixture.start(name);
        admin.not_ready(expected).await;
        let (status, rejected) = admin.send(&token, batch(&fixture.pod, &[])).await;
        assert_eq!((status, &rejected["reason"]), (503, &json!("unavailable")));
        let logged = admin
            .process
            .log()
            .matches("cannot open the audit store")
            .count();
        assert_eq!(logged, 1, "{}", admin.process.tail());
        assert!(
            admin
                .process
                .stop(Duration::from_secs(30))
                .await
                .expect("an end")
                .success()
        );
        assert_eq!(std::fs::read(&store).expect("the file"), before, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn store_of_another_process_is_opened_when_that_ends() {
    let fixture = Fixture::new().await;
    let token = fixture.token(SENDER, AUDIENCE, Some(&fixture.pod)).await;
    let lines = Trail::new(text(&fixture.pod, "uid")).lines(2);
    let first = fixture.start("first").ready().await;
    assert_eq!(
        first.send(&token, batch(&fixture.pod, &lines[..1])).await.0,
        200
    );
    let second = fixture.start("second");
    second.not_ready("is in use by admin").await;
    let (status, _) = second.send(&token, batch(&fixture.pod, &lines)).await;
    assert_eq!(status, 503);
    first.process.kill();
    let second = second.ready().await;
    let stored = second.send(&token, batch(&fixture.pod, &lines)).await;
    assert_eq!(stored, (200, json!({"durable": 2})));
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_by_the_webhook_is_stored_with_its_farewell() {
    let fixture = Fixture::new().await;
    let (cp, namespace) = (fixture.cp, &fixture.namespace.name);
    cp.secret(namespace, "db", &["user"], "canary-value").await;
    let admin = fixture.start("admin").ready().await;
    let token = fixture.token(SENDER, AUDIENCE, Some(&fixture.pod)).await;
    let launch = Launch::serve(cp, &webhook_identity(cp).await);
    let path = |name: &str, content: &str| {
        let file = launch.folder.write(name, content);
        file.display().to_string()
    };
    let (token_file, ca) = (path("token", &token), path("ca.crt", &admin.ca));
    let spool = launch.folder.path().join("spool").display().to_string();
    let collector = format!("https://localhost:{}", admin.port);
    let (pod_name, pod_uid) = (text(&fixture.pod, "name"), text(&fixture.pod, "uid"));
    let webhook = launch
        .with(&["--audit", "stdout", "--audit-spool", &spool])
        .with(&["--audit-collector", &collector, "--audit-collector-ca", &ca])
        .with(&["--audit-token", &token_file, "--shutdown-delay", "0s"])
        .with(&["--pod-name", pod_name, "--pod-uid", pod_uid])
        .start()
        .await;
    let configuration = limited_to_namespaces(webhook.service_configuration(), &[namespace]);
    let registration = Registration::shared(cp, &configuration).await;
    let asking = prefixed(&json!({"env-from": "db"}));
    let created = cp.create(&pod(namespace, "bare", &asking)).await.object();
    let event = created["metadata"]["annotations"]["audit.floe.dev/event"].clone();
    let event = event.as_str().expect("a use");
    let export = || {
        let args = ["audit", "export", "--from", "2000-01-01T00:00:00Z"];
        audit(&args, &fixture.store()).stdout
    };
    wait_for("the record is stored", || async {
        export().contains(event).then_some(())
    })
    .await;
    drop(registration);
    assert!(webhook.stop().await.success());
    assert!(
        admin
            .process
            .stop(Duration::from_secs(30))
            .await
            .expect("an end")
            .success()
    );
    let exported = export();
    let stops = |uid: &str| {
        let is_stop = |line: &&str| line.contains("\"system.stop\"") && line.contains(uid);
        exported.lines().filter(is_stop).count()
    };
    assert_eq!((stops(pod_uid), stops("unknown")), (1, 1), "{exported}");
    assert!(!exported.contains("canary-value") && !exported.contains(&token));
    let mut verify = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    verify.args(["audit", "verify"]);
    CommandOutput::run(verify, &exported).expect_success();
}
