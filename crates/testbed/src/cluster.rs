//! Cluster that runs containers, from `KUBECONFIG`: the one-node cluster of `make test-cluster`, or the user's own.

use std::time::{Duration, Instant};

use http::Method;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::namespace::Identity;
use super::objects::{ApiResponse, apply, path, send};
use super::process::Folder;
use super::{block_on_new_thread, unique};

/// Access of the administrator. Created objects are deleted when the test ends.
pub struct Cluster {
    /// Client of the administrator.
    pub client: Client,
    file: Kubeconfig,
    cleanup: Cleanup,
    folder: Folder,
}

/// Objects that are deleted on drop.
struct Cleanup {
    admin: Config,
    paths: Vec<String>,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let (admin, paths) = (self.admin.clone(), std::mem::take(&mut self.paths));
        block_on_new_thread(async move {
            let client = Client::try_from(admin).expect("the administrator's configuration");
            for path in paths {
                send(&client, Method::DELETE, &path, None).await;
            }
        });
    }
}

impl Cluster {
    /// Connects to the cluster of `KUBECONFIG`.
    pub async fn connect() -> Self {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let file =
            Kubeconfig::read().expect("KUBECONFIG names the cluster; run `make test-cluster`");
        let admin =
            Config::from_custom_kubeconfig(file.clone(), &KubeConfigOptions::default()).await;
        let admin = admin.expect("the cluster's kubeconfig");
        let client = Client::try_from(admin.clone()).expect("the cluster's kubeconfig");
        Self {
            client,
            file,
            cleanup: Cleanup {
                admin,
                paths: Vec::new(),
            },
            folder: Folder::new(),
        }
    }

    /// Applies an object that is deleted at the end.
    pub async fn apply_temporarily(&mut self, object: &Value) {
        self.cleanup.paths.push(path(object));
        apply(&self.client, object).await.object();
    }

    /// Creates a namespace of the test, ready for pods.
    pub async fn namespace(&mut self, stem: &str) -> String {
        let name = unique(stem);
        self.apply_temporarily(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        super::wait_for("the namespace's service account", || async {
            self.get(&account).await.is_accepted().then_some(())
        })
        .await;
        name
    }

    /// Access as an existing `ServiceAccount`.
    pub async fn identity(&self, namespace: &str, account: &str) -> Identity {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": 3600},
        });
        let result = send(&self.client, Method::POST, &path, Some(&request))
            .await
            .object();
        let token = &result["status"]["token"];
        let mut file = self.file.clone();
        for user in &mut file.auth_infos {
            user.auth_info =
                Some(serde_json::from_value(json!({"token": token})).expect("a user with a token"));
        }
        // A JSON document is valid YAML.
        let content = serde_json::to_string(&file).expect("a kubeconfig");
        let kubeconfig = self
            .folder
            .write(&format!("{}.kubeconfig", unique(account)), content);
        Identity::of(
            kubeconfig,
            &format!("system:serviceaccount:{namespace}:{account}"),
        )
        .await
    }

    /// Reads as the administrator.
    pub async fn get(&self, path: &str) -> ApiResponse {
        send(&self.client, Method::GET, path, None).await
    }

    /// Sends a JSON merge patch as the administrator.
    pub async fn patch(&self, path: &str, change: &Value) -> Value {
        send(&self.client, Method::PATCH, path, Some(change))
            .await
            .object()
    }

    /// Items of a list.
    pub async fn items(&self, path: &str) -> Vec<Value> {
        match self.get(path).await.object()["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path} is not a list: {other}"),
        }
    }

    /// Reads an object or a list until `evaluate` returns a value; panics with the last response.
    pub async fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        path: &str,
        mut evaluate: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let end = Instant::now() + within;
        loop {
            let response = self.get(path).await.body;
            if let Some(result) = evaluate(&response) {
                return result;
            }
            assert!(
                Instant::now() < end,
                "not within {within:?}: {what}\n{response:#}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Image with a shell that the cluster's nodes have.
#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts these tests sets the image"
)]
pub fn shell_image() -> String {
    std::env::var("BUSYBOX_IMAGE").expect("BUSYBOX_IMAGE is set; run `make test-cluster`")
}
