//! Stakater Reloader beside the control plane: the real one when `RELOADER_BIN` names its program, and otherwise a
//! model of it. What it does for whom is described in `tests/reloader.rs`, for both.

use std::io::Write as _;
use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::namespace::Identity;
use super::objects::path;
use super::process::{Folder, Process};
use super::reloader_model::Model;
use super::reloader_rules::LIST;
use super::{unique, wait_for};

/// The namespace of its `ServiceAccount`.
const NAMESPACE: &str = "reloader";

/// A running Reloader for all namespaces, with its default flags. It ends on drop.
pub struct Reloader {
    runs: Runs,
}

enum Runs {
    // The process before the folder that it writes its log into.
    Real(Process, #[expect(dead_code, reason = "kept while the process runs")] Folder),
    Model(#[expect(dead_code, reason = "ends on drop")] Model),
}

impl Reloader {
    /// The one of this test binary, beside the shared control plane. It ends with the test process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Reloader> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::start(ControlPlane::shared().await).await }).await
    }

    /// Starts one and waits until it reloads. Two real ones at a time cannot be: each wants port 9090.
    pub async fn start(cp: &ControlPlane) -> Self {
        let identity = identity(cp).await;
        let started = if let Some(program) = program() {
            say(&format!("Reloader: the real one, {}", program.display()));
            let folder = Folder::new();
            let env = [("KUBECONFIG", identity.kubeconfig.display().to_string())];
            let env = env.map(|(name, value)| (name.to_owned(), value));
            let args = ["--log-level=debug".to_owned()];
            let process = Process::start("reloader", folder.path(), &program, &args, &env);
            Self { runs: Runs::Real(process, folder) }
        } else {
            say("Reloader: the model of it (RELOADER_BIN names no program)");
            Self { runs: Runs::Model(Model::start(&identity)) }
        };
        started.await_first_reload(cp).await;
        started
    }

    /// Whether it is the real one.
    pub fn is_real(&self) -> bool {
        matches!(self.runs, Runs::Real(..))
    }

    /// What the real one logged last, for a failing test's message.
    pub fn tail(&self) -> String {
        match &self.runs {
            Runs::Real(process, _) => process.tail(),
            Runs::Model(_) => "the model of Reloader logs nothing".to_owned(),
        }
    }

    /// It does not say when it watches, so a Secret is changed until that shows.
    async fn await_first_reload(&self, cp: &ControlPlane) {
        let ns = cp.namespace("reloader-starts").await;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named("first")});
        let secret_path = path(&cp.create(&secret).await.object());
        let metadata = json!({"name": "first", "namespace": ns.name, "annotations": {LIST: "first"}});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "first"}},
                "template": {
                    "metadata": {"labels": {"app": "first"}},
                    "spec": {"containers": [{"name": "main", "image": "none"}]},
                },
            },
        });
        cp.create(&deployment).await.object();
        let deployment_path = path(&deployment);
        wait_for("Reloader reloads", || async {
            if let Runs::Real(process, _) = &self.runs {
                let ended = process.exited();
                assert!(ended.is_none(), "Reloader ended: {ended:?}\n{}", process.tail());
            }
            let data = json!({"stringData": {"value": unique("first")}});
            cp.request(Method::PATCH, &secret_path, Some(&data)).await.object();
            let deployment = cp.request(Method::GET, &deployment_path, None).await.object();
            deployment.pointer("/spec/template/spec/containers/0/env").map(drop)
        })
        .await;
    }
}

/// The real one's program, when somebody has it.
fn program() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a program of the tester's own")]
    let program = std::env::var_os("RELOADER_BIN").filter(|path| !path.is_empty());
    program.map(PathBuf::from)
}

/// Said even when all tests pass: print macros are held back then.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// A `ServiceAccount` with the rights that its manual asks for.
async fn identity(cp: &ControlPlane) -> Identity {
    let metadata = json!({"name": "reloader", "namespace": NAMESPACE});
    let reads = json!(["get", "list", "watch"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": reads},
        {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets", "statefulsets"],
         "verbs": ["get", "list", "update", "patch"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "delete"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ]);
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reloader"});
    let subject = json!({"kind": "ServiceAccount", "name": "reloader", "namespace": NAMESPACE});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "reloader"}, "rules": rules}),
        json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "reloader"},
               "roleRef": role, "subjects": [subject]}),
    ];
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    cp.apply(&text.join("\n---\n")).await;
    cp.identity(NAMESPACE, "reloader").await
}
