//! Webhook configuration of `manifests/webhook/`, registered for a server on this machine.
//!
//! Only `clientConfig` is replaced: rules, selectors and conditions are tested as they are shipped.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::control_plane::ControlPlane;
use super::namespace::Identity;
use super::objects::{self, send, yaml};
use super::{block_on_new_thread, poll, tools, unique, wait_for};

/// Namespace that the manifests install into.
pub const NAMESPACE: &str = "floe-secrets-webhook";
/// Name of the shipped configuration.
pub const CONFIGURATION: &str = "zz-floe-secrets-webhook";
/// Host name that the API server expects in the certificate when it calls the Service.
pub const SERVICE_HOST: &str = "floe-secrets-webhook.floe-secrets-webhook.svc";

/// Address at which the API server calls the webhook.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// `https://127.0.0.1:PORT`.
    Url { port: u16 },
    /// The Service that the configuration names, which resolves to this machine.
    Service { port: u16 },
}

impl Target {
    /// Points every entry of the configuration at the target.
    pub fn apply_to(self, mut configuration: Value, ca_bundle: &str) -> Value {
        use base64::Engine as _;
        let ca_bundle = base64::engine::general_purpose::STANDARD.encode(ca_bundle);
        for entry in configuration["webhooks"].as_array_mut().expect("entries") {
            let mut client_config = entry["clientConfig"].take();
            match self {
                Self::Url { port } => {
                    let path = client_config["service"]["path"].as_str().expect("a path");
                    client_config = json!({"url": format!("https://127.0.0.1:{port}{path}")});
                }
                Self::Service { port } => client_config["service"]["port"] = port.into(),
            }
            client_config["caBundle"] = ca_bundle.clone().into();
            entry["clientConfig"] = client_config;
        }
        configuration
    }
}

/// File of `manifests/webhook/`.
pub fn manifest(file: &str) -> String {
    let path = tools::project_root().join("manifests/webhook").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Shipped configuration, without `caBundle`.
pub fn shipped_configuration() -> Value {
    let [configuration]: [Value; 1] = yaml(&manifest("mutatingwebhookconfiguration.yaml"))
        .try_into()
        .expect("one document");
    configuration
}

/// Limits every entry to these namespaces, so that tests with servers of their own can run concurrently.
pub fn limited_to_namespaces(mut configuration: Value, namespaces: &[&str]) -> Value {
    for entry in configuration["webhooks"].as_array_mut().expect("entries") {
        let only =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces});
        entry["namespaceSelector"]["matchExpressions"]
            .as_array_mut()
            .expect("expressions")
            .push(only);
    }
    configuration["metadata"]["name"] = unique(CONFIGURATION).into();
    configuration
}

/// Raises the timeout of every entry to the API server's maximum: on a busy machine, calls of an entry that fails open
/// would sometimes be missed, which is not a fault of the program.
pub fn with_max_timeout(mut configuration: Value) -> Value {
    for entry in configuration["webhooks"].as_array_mut().expect("entries") {
        entry["timeoutSeconds"] = 30.into();
    }
    configuration
}

/// Configuration in force. Deleted, and no longer in force, on drop.
pub struct Registration {
    admin: Config,
    /// Paths to delete, in this order; the marker is the last.
    paths: Vec<String>,
    by_service: bool,
    marker: Marker,
    _exclusive: Option<MutexGuard<'static, ()>>,
}

impl Registration {
    /// Registers a configuration for every namespace. Other tests of this binary that do so wait.
    pub async fn exclusive(cp: &ControlPlane, configuration: &Value) -> Self {
        let lock_exclusive = Self::lock_exclusive().await;
        Self::register(cp, configuration, Some(lock_exclusive)).await
    }

    /// Registers a configuration that [`limited_to_namespaces`] has limited, or the only one of this binary.
    pub async fn shared(cp: &ControlPlane, configuration: &Value) -> Self {
        Self::register(cp, configuration, None).await
    }

    /// Waits until no other test has an exclusive registration.
    pub async fn lock_exclusive() -> MutexGuard<'static, ()> {
        static EXCLUSIVE: Mutex<()> = Mutex::const_new(());
        EXCLUSIVE.lock().await
    }

    async fn register(
        cp: &ControlPlane,
        configuration: &Value,
        lock_exclusive: Option<MutexGuard<'static, ()>>,
    ) -> Self {
        let by_service = configuration
            .pointer("/webhooks/0/clientConfig/service")
            .is_some();
        let (admin, marker) = (cp.admin.clone(), Marker::new());
        let mut registration = Self {
            admin,
            paths: Vec::new(),
            by_service,
            marker,
            _exclusive: lock_exclusive,
        };
        if by_service {
            acquire_service(cp).await;
        }
        registration.paths.push(objects::path(configuration));
        cp.create(configuration).await.object();
        // The API server loads configurations in order: once the marker is in force, the one before it is.
        registration.paths.push(registration.marker.path());
        cp.create(&registration.marker.configuration())
            .await
            .object();
        let (client, marker) = (cp.client(), registration.marker.clone());
        wait_for("the webhook configuration is in force", || async {
            marker.is_in_force(&client).await.then_some(())
        })
        .await;
        registration
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let (admin, paths, marker) = (
            self.admin.clone(),
            std::mem::take(&mut self.paths),
            self.marker.clone(),
        );
        let by_service = self.by_service;
        block_on_new_thread(async move {
            let client =
                Client::try_from(admin.clone()).expect("the administrator's configuration");
            for path in paths {
                send(&client, Method::DELETE, &path, None).await;
            }
            poll(Duration::from_secs(30), || async {
                (!marker.is_in_force(&client).await).then_some(())
            })
            .await;
            if by_service {
                release_service(&admin, &client).await;
            }
        });
    }
}

/// Webhook that rejects `ConfigMap`s with its own label, and nothing else.
#[derive(Debug, Clone)]
struct Marker {
    name: String,
}

impl Marker {
    fn new() -> Self {
        Self {
            name: unique("marker"),
        }
    }

    fn path(&self) -> String {
        objects::path(&self.configuration())
    }

    fn configuration(&self) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name},
            "webhooks": [{
                "name": "marker.tests.floe.dev",
                // Nothing listens there.
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"],
                }],
                "objectSelector": {"matchLabels": {"marker.tests.floe.dev": self.name}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "timeoutSeconds": 1,
                "admissionReviewVersions": ["v1"],
            }],
        })
    }

    async fn is_in_force(&self, client: &Client) -> bool {
        let metadata = json!({"name": self.name, "namespace": "default", "labels": {"marker.tests.floe.dev": self.name}});
        let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let path = format!("{}?dryRun=All", objects::collection(&probe));
        !send(client, Method::POST, &path, Some(&probe))
            .await
            .is_accepted()
    }
}

/// Number of registrations of each control plane that need the Service.
static SERVICE_USERS: Mutex<BTreeMap<String, usize>> = Mutex::const_new(BTreeMap::new());

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "floe-secrets-webhook", "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    })
}

/// Makes the Service of the manifests resolve to this machine, without a proxy. Every registration has its own port.
async fn acquire_service(cp: &ControlPlane) {
    let mut users = SERVICE_USERS.lock().await;
    let count = users.entry(cp.admin.cluster_url.to_string()).or_default();
    if *count == 0 {
        let client = cp.client();
        for namespace in yaml(&manifest("namespace.yaml")) {
            objects::apply(&client, &namespace).await.object();
        }
        cp.create(&service()).await.object();
    }
    *count += 1;
}

/// Deletes the Service if this was the last registration that needed it.
async fn release_service(admin: &Config, client: &Client) {
    let mut users = SERVICE_USERS.lock().await;
    let count = users.entry(admin.cluster_url.to_string()).or_default();
    *count = count.saturating_sub(1);
    if *count == 0 {
        send(client, Method::DELETE, &objects::path(&service()), None).await;
    }
}

/// Access with exactly the permissions that `manifests/webhook/` grants to the webhook.
pub async fn webhook_identity(cp: &ControlPlane) -> Identity {
    cp.apply(&manifest("namespace.yaml")).await;
    cp.apply(&manifest("rbac.yaml")).await;
    cp.apply(&manifest("flowcontrol.yaml")).await;
    cp.identity(NAMESPACE, "floe-secrets-webhook").await
}

/// Access with exactly the permissions that `manifests/webhook/` grants to the controller.
pub async fn controller_identity(cp: &ControlPlane) -> Identity {
    cp.apply(&manifest("namespace.yaml")).await;
    cp.apply(&manifest("controller-rbac.yaml")).await;
    cp.identity(NAMESPACE, "floe-secrets-controller").await
}
