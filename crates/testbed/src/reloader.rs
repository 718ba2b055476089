//! Stakater Reloader next to the control plane: the real one if `RELOADER_BIN` names its program, and otherwise a model
//! of it. `tests/apiserver/reloader.rs` describes what both do.

use std::path::PathBuf;

use http::Method;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::namespace::Identity;
use super::objects::{apply, path, send};
use super::process::{Folder, Process};
use super::reloader_model::Model;
use super::reloader_rules::LIST;
use super::{print_line, unique, wait_for};

/// Namespace of the `ServiceAccount`.
const NAMESPACE: &str = "reloader";
/// Name of the `ServiceAccount`.
pub const NAME: &str = "reloader";

/// Running Reloader for all namespaces, with its default flags. Stopped on drop.
pub struct Reloader {
    implementation: Implementation,
}

enum Implementation {
    // Process before the folder that it writes its log into.
    Real(
        Process,
        #[expect(dead_code, reason = "kept while the process runs")] Folder,
    ),
    Model(#[expect(dead_code, reason = "stopped on drop")] Model),
}

impl Reloader {
    /// Reloader of this test binary, next to the shared control plane. It ends with the test process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Reloader> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async { Self::start(ControlPlane::shared().await).await })
            .await
    }

    /// Starts a Reloader next to a control plane.
    pub async fn start(cp: &ControlPlane) -> Self {
        let client = cp.client();
        for object in rbac_manifests(NAMESPACE) {
            apply(&client, &object).await.object();
        }
        Self::start_as(&client, &cp.identity(NAMESPACE, NAME).await).await
    }

    /// Starts a Reloader as `identity`, and waits until it reloads an object that `admin` creates for that. Two real
    /// ones cannot run at the same time: each needs port 9090.
    pub async fn start_as(admin: &Client, identity: &Identity) -> Self {
        let started = if let Some(program) = program() {
            print_line(&format!("Reloader: the real one, {}", program.display()));
            let folder = Folder::new();
            let env = [("KUBECONFIG", identity.kubeconfig.display().to_string())];
            let env = env.map(|(name, value)| (name.to_owned(), value));
            let args = ["--log-level=debug".to_owned()];
            let process = Process::start("reloader", folder.path(), &program, &args, &env);
            Self {
                implementation: Implementation::Real(process, folder),
            }
        } else {
            print_line("Reloader: the model of it (RELOADER_BIN names no program)");
            Self {
                implementation: Implementation::Model(Model::start(identity)),
            }
        };
        started.await_first_reload(admin).await;
        started
    }

    /// Whether this is the real Reloader.
    pub fn is_real(&self) -> bool {
        matches!(self.implementation, Implementation::Real(..))
    }

    /// Last lines of the real one's log, for the message of a failing test.
    pub fn tail(&self) -> String {
        match &self.implementation {
            Implementation::Real(process, _) => process.tail(),
            Implementation::Model(_) => "the model of Reloader logs nothing".to_owned(),
        }
    }

    /// Waits for the first reload. Reloader does not report when it watches, so a Secret is changed until a reload
    /// follows.
    async fn await_first_reload(&self, admin: &Client) {
        let namespace = unique("reloader-starts");
        let metadata =
            json!({"name": "first", "namespace": namespace, "annotations": {LIST: "first"}});
        let labels = json!({"app": "first"});
        let pods = json!({"containers": [{"name": "main", "image": "none"}]});
        let spec = json!({
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pods},
        });
        let namespace_object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
        for object in [&namespace_object, &secret, &deployment] {
            apply(admin, object).await.object();
        }
        let (secret, deployment) = (path(&secret), path(&deployment));
        wait_for("Reloader reloads", || async {
            if let Implementation::Real(process, _) = &self.implementation {
                let ended = process.exit_status();
                assert!(
                    ended.is_none(),
                    "Reloader ended: {ended:?}\n{}",
                    process.tail()
                );
            }
            let data = json!({"stringData": {"value": unique("first")}});
            send(admin, Method::PATCH, &secret, Some(&data))
                .await
                .object();
            let deployment = send(admin, Method::GET, &deployment, None).await.object();
            deployment
                .pointer("/spec/template/spec/containers/0/env")
                .map(drop)
        })
        .await;
        send(admin, Method::DELETE, &path(&namespace_object), None)
            .await
            .object();
    }
}

/// Program of the real one, if there is one.
fn program() -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment sets the path of the real Reloader"
    )]
    let program = std::env::var_os("RELOADER_BIN").filter(|path| !path.is_empty());
    program.map(PathBuf::from)
}

/// Namespace, `ServiceAccount` and permissions from Reloader's manual, to be applied in this order.
pub fn rbac_manifests(namespace: &str) -> [Value; 4] {
    let metadata = json!({"name": NAME, "namespace": namespace});
    let read_verbs = json!(["get", "list", "watch"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": read_verbs},
        {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets", "statefulsets"],
         "verbs": ["get", "list", "update", "patch"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "delete"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ]);
    let rbac = "rbac.authorization.k8s.io/v1";
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace});
    let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": namespace});
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": namespace}, "rules": rules}),
        json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": namespace},
               "roleRef": role, "subjects": [subject]}),
    ]
}
