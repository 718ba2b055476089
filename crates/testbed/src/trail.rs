//! Audit trail on a real API server: `admin` with its store, and the pods of the `serve` processes that send it lines.
//!
//! ```ignore
//! let admin = Trail::start(cp).await;                                  // `admin`, with an empty store
//! let pod = ReplicaPod::create(cp).await;                              // stands for the kubelet: name, uid and token
//! let launch = Launch::serve(cp, &webhook_identity(cp).await);
//! let webhook = admin.sent_by(launch, &pod).await.start().await;
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use floe_secrets_webhook::audit::delivery::AUDIENCE;
use floe_secrets_webhook::store::{AuditStore, StoreLocation, StoreSettings};
use http::Method;
use serde_json::{Value, json};

use super::command_output::CommandOutput;
use super::control_plane::ControlPlane;
use super::namespace::Identity;
use super::postgres::Postgres;
use super::process::Folder;
use super::unique;
use super::volume::Volume;
use super::webhook::{NAMESPACE, manifest, webhook_identity};
use super::webhook_process::{Launch, WebhookProcess, program};

/// Annotation of an admitted pod: the uid of the request, which its record has too.
pub const EVENT: &str = "audit.floe.dev/event";

/// ServiceAccount of `serve`.
const SENDER: &str = "floe-secrets-webhook";

/// ServiceAccount of `admin`.
const ADMIN: &str = "floe-secrets-webhook-admin";

/// Secret of the key that signs checkpoints.
const KEY_SECRET: &str = "floe-secrets-webhook-audit-key";

/// Arguments of `admin` and `serve` that tests share.
const CLUSTER: &[&str] = &["--audit-cluster-name", "test"];

/// Pod object of a replica. No kubelet runs it: the test starts its process, with its token.
#[derive(Debug, Clone)]
pub struct ReplicaPod {
    pub name: String,
    pub uid: String,
}

impl ReplicaPod {
    /// Creates the pod object in the namespace of the manifests.
    pub async fn create(cp: &ControlPlane) -> Self {
        webhook_identity(cp).await;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": unique(SENDER), "namespace": NAMESPACE},
            "spec": {
                "serviceAccountName": SENDER,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "webhook", "image": "none",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        let created = cp.create(&pod).await.object();
        let text = |field: &str| {
            let value = created["metadata"][field].as_str();
            value.expect("a created object has it").to_owned()
        };
        Self {
            name: text("name"),
            uid: text("uid"),
        }
    }

    /// Token as the kubelet projects it: of the pod, with the audience of the collector.
    pub async fn token(&self, cp: &ControlPlane) -> String {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SENDER}/token");
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid});
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [AUDIENCE], "expirationSeconds": 3600, "boundObjectRef": bound},
        });
        let response = cp.request(Method::POST, &path, Some(&request)).await;
        let response = response.object();
        let token = response["status"]["token"].as_str();
        token.expect("a token").to_owned()
    }
}

/// Access with exactly the permissions that `manifests/webhook/` grants to `admin`.
pub async fn admin_identity(cp: &ControlPlane) -> Identity {
    cp.apply(&manifest("namespace.yaml")).await;
    cp.apply(&manifest("admin-rbac.yaml")).await;
    cp.apply(&manifest("admin-storage.yaml")).await;
    cp.identity(NAMESPACE, ADMIN).await
}

/// Access with the same permissions, of an account that only this test has, and the binding that lets it review tokens.
pub async fn own_admin_identity(cp: &ControlPlane) -> (Identity, Value) {
    admin_identity(cp).await;
    let name = unique("admin");
    let key = json!([{
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": [KEY_SECRET], "verbs": ["get", "patch"],
    }]);
    let identity = cp.service_account(NAMESPACE, &name, &key).await;
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ADMIN});
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name}, "roleRef": role, "subjects": [subject],
    });
    cp.create(&binding).await.object();
    (identity, binding)
}

impl Launch {
    /// `admin` as `identity`, with a store that it creates in its folder.
    pub fn admin(cp: &ControlPlane, identity: &Identity) -> Self {
        let launch = Self::with_ports("admin", &cp.authority, &identity.kubeconfig);
        let store = launch.folder.path().join("audit.db");
        launch
            .with(&["--store", &store.display().to_string()])
            .with(&["--senders", &format!("{NAMESPACE}/{SENDER}")])
            .with(&["--checkpoint-key", KEY_SECRET, "--shutdown-delay", "0s"])
            .with(CLUSTER)
    }

    /// Value of an argument.
    pub fn value(&self, flag: &str) -> &str {
        let at = self.args.iter().position(|arg| arg == flag);
        &self.args[at.expect("the argument is there") + 1]
    }
}

/// `admin` and its store.
pub struct Trail {
    pub cp: &'static ControlPlane,
    pub admin: WebhookProcess,
    pub store: TrailStore,
}

impl Trail {
    /// Starts `admin` with an empty store.
    pub async fn start(cp: &'static ControlPlane) -> Self {
        Self::start_with(cp, Launch::admin(cp, &admin_identity(cp).await)).await
    }

    /// Starts an `admin` with other arguments.
    pub async fn start_with(cp: &'static ControlPlane, launch: Launch) -> Self {
        let store = TrailStore {
            path: launch.value("--store").into(),
            enter: Vec::new(),
            args: Vec::new(),
        };
        let admin = launch.start().await;
        Self { cp, admin, store }
    }

    /// Starts `admin` with an empty store on a volume.
    pub async fn start_on(cp: &'static ControlPlane, volume: &Volume) -> Self {
        let path = volume.path().join("audit.db");
        let launch = Launch::admin(cp, &admin_identity(cp).await)
            .set("--store", &path.display().to_string())
            .inside(volume);
        let admin = launch.start().await;
        let enter = volume.enter();
        let store = TrailStore {
            path,
            enter,
            args: Vec::new(),
        };
        Self { cp, admin, store }
    }

    /// Starts `admin` with an empty store in the database `postgres` of a server, whose administrator it is.
    pub async fn start_in(cp: &'static ControlPlane, server: &Postgres) -> Self {
        let files = [server.password_file(), server.ca_file()];
        let [password, ca] = files.map(|file| file.display().to_string());
        let args = ["--store-password-file", &password, "--store-ca-file", &ca];
        let url = server.url("postgres");
        let launch = Launch::admin(cp, &admin_identity(cp).await)
            .set("--store", &url)
            .with(&args);
        let admin = launch.start().await;
        let store = TrailStore {
            path: url.into(),
            enter: Vec::new(),
            args: args.map(str::to_owned).into(),
        };
        Self { cp, admin, store }
    }

    /// Starts another `admin` with the same database.
    pub async fn another_admin(&self) -> WebhookProcess {
        let launch = Launch::admin(self.cp, &admin_identity(self.cp).await)
            .set("--store", &self.store.path.display().to_string());
        let args: Vec<&str> = self.store.args.iter().map(String::as_str).collect();
        launch.with(&args).start().await
    }

    /// Arguments of a `serve` that runs in `pod` and sends its lines to `admin`. Its folder has the spool.
    pub async fn sent_by(&self, launch: Launch, pod: &ReplicaPod) -> Launch {
        let token = pod.token(self.cp).await;
        sends_to(&self.admin.launch, launch, pod, &token)
    }

    /// Starts `admin` again, by a crash if it runs, without waiting until it is ready.
    pub fn respawn_admin(self) -> Self {
        let admin = self.admin.respawn();
        Self { admin, ..self }
    }

    /// Runs `admin` again, by a crash if it runs.
    pub async fn restart_admin(self) -> Self {
        let admin = self.admin.restart().await;
        Self { admin, ..self }
    }
}

/// Arguments of a `serve` that sends its lines to an `admin`.
fn sends_to(admin: &Launch, launch: Launch, pod: &ReplicaPod, token: &str) -> Launch {
    let token = launch.folder.write("audit-token", token);
    let ca = launch.folder.write("audit-ca.crt", &admin.ca);
    let spool = launch.folder.path().join("spool");
    launch
        .with(&[
            "--audit",
            "stdout",
            "--pod-name",
            &pod.name,
            "--pod-uid",
            &pod.uid,
        ])
        .with(&[
            "--audit-collector",
            &format!("https://localhost:{}", admin.port),
        ])
        .with(&["--audit-collector-ca", &ca.display().to_string()])
        .with(&["--audit-token", &token.display().to_string()])
        .with(&["--audit-spool", &spool.display().to_string()])
        .with(CLUSTER)
}

/// File or URL of a store, which is read beside the `admin` that writes it.
#[derive(Debug, Clone)]
pub struct TrailStore {
    pub path: PathBuf,
    /// Command that enters the mount namespace of the file.
    enter: Vec<String>,
    /// Arguments besides the file or URL.
    args: Vec<String>,
}

impl TrailStore {
    /// Runs `audit COMMAND --store FILE` with these arguments.
    pub async fn run(&self, command: &str, args: &[&str]) -> CommandOutput {
        let program = program().display().to_string();
        let store = self.path.display().to_string();
        let own = [&program, "audit", command, "--store", &store].map(str::to_owned);
        let mut words = self.enter.iter().cloned().chain(own);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(&self.args).args(args);
        CommandOutput::run_async(command, "").await
    }

    /// Opens the store beside `admin`.
    pub async fn open(&self) -> Arc<dyn AuditStore> {
        let location = StoreLocation::parse(&self.path.display().to_string());
        let mut settings = StoreSettings::new(location.expect("a valid URL"));
        if let [_, password, _, ca] = &self.args[..] {
            settings.password_file = Some(password.into());
            settings.ca_file = Some(ca.into());
        }
        let opened = tokio::task::spawn_blocking(move || settings.open_read_only()).await;
        opened.expect("no panic").expect("the store of admin")
    }

    /// All lines of the store.
    pub async fn export(&self) -> ExportedTrail {
        let text = self.run("export", &[]).await.expect_success().stdout;
        ExportedTrail::of(text)
    }
}

/// Lines of a store, in the order of an export.
#[derive(Debug)]
pub struct ExportedTrail {
    text: String,
    pub records: Vec<Value>,
}

impl ExportedTrail {
    pub fn of(text: String) -> Self {
        let records = text.lines().map(serde_json::from_str);
        let records = records.collect::<Result<_, _>>();
        let records = records.expect("each exported line is JSON");
        Self { text, records }
    }

    /// Number of records of successful admissions of pods, by the uid of the request.
    pub fn uses(&self) -> BTreeMap<&str, usize> {
        let mut uses = BTreeMap::new();
        for record in &self.records {
            if record["action"] == "pod.admit" && record["outcome"] == "success" {
                let uid = record["request"]["admission_uid"].as_str();
                *uses.entry(uid.expect("a uid")).or_default() += 1;
            }
        }
        uses
    }

    /// Number of records that gap records report as not written.
    pub fn lost(&self) -> u64 {
        let gaps = self.records.iter();
        let gaps = gaps.filter_map(|record| record["gap"]["count"].as_u64());
        gaps.sum()
    }

    /// Chains that have lines.
    pub fn chains(&self) -> usize {
        let ids = self.records.iter();
        let ids = ids.filter_map(|record| record["chain"]["id"].as_str());
        ids.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Output of `audit verify`.
    pub async fn verify(&self) -> CommandOutput {
        let folder = Folder::new();
        let file = folder.write("export.jsonl", &self.text);
        let mut command = Command::new(program());
        command.args(["audit", "verify"]).arg(file);
        CommandOutput::run_async(command, "").await
    }

    /// Panics with the findings unless `audit verify` finds the trail intact.
    pub async fn is_intact(&self) {
        let verified = self.verify().await.expect_success();
        let is_intact = verified.stdout.contains("\nintact: ");
        assert!(is_intact, "{}", verified.stdout);
    }
}
