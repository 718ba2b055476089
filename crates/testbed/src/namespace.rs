//! Namespaces of one test, and ordinary `ServiceAccount`s in them.

use std::path::PathBuf;

use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DeleteParams;
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::control_plane::{
    ControlPlane, await_default_service_account, create_default_service_account,
};
use super::kubeconfig::{config, kubeconfig};
use super::{block_on_new_thread, unique};

/// Namespace of one test. Deleted on drop, without waiting until it is gone.
pub struct TestNamespace {
    pub name: String,
    admin: Config,
}

/// User of the API server.
#[derive(Clone)]
pub struct Identity {
    /// Kubeconfig with the user's token.
    pub kubeconfig: PathBuf,
    /// User name, as in `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    config: Config,
}

impl Identity {
    /// Reads a kubeconfig that was written for this user.
    pub async fn of(kubeconfig: PathBuf, username: &str) -> Self {
        let config = config(&kubeconfig).await;
        Self {
            kubeconfig,
            username: username.to_owned(),
            config,
        }
    }

    /// Client of this user. Each test needs its own: a client's worker lives in the runtime that created it.
    pub fn client(&self) -> Client {
        Client::try_from(self.config.clone()).expect("a valid configuration")
    }
}

impl ControlPlane {
    /// Creates a namespace whose name starts with `stem`, ready for pods.
    pub async fn namespace(&self, stem: &str) -> TestNamespace {
        self.namespace_with(stem, &json!({})).await
    }

    /// Creates a namespace with more metadata, such as `{"labels": {…}}`.
    pub async fn namespace_with(&self, stem: &str, metadata: &Value) -> TestNamespace {
        let name = unique(stem);
        let mut metadata = metadata.clone();
        metadata["name"] = name.clone().into();
        self.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
            .await
            .object();
        let namespace = TestNamespace {
            name,
            admin: self.admin.clone(),
        };
        if self.options.controller_manager {
            await_default_service_account(&self.client(), &namespace.name).await;
        } else {
            create_default_service_account(&self.client(), &namespace.name).await;
        }
        namespace
    }

    /// Creates a `ServiceAccount` with a Role of these `rules` in its own namespace, and no other permissions.
    pub async fn service_account(&self, namespace: &str, name: &str, rules: &Value) -> Identity {
        let metadata = json!({"name": name, "namespace": namespace});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
        let rbac = "rbac.authorization.k8s.io/v1";
        for object in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            json!({"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": rules}),
            json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject]}),
        ] {
            self.create(&object).await.object();
        }
        self.identity(namespace, name).await
    }

    /// Access as an existing `ServiceAccount`.
    pub async fn identity(&self, namespace: &str, name: &str) -> Identity {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": 24 * 3600},
        });
        let response = self
            .request(Method::POST, &path, Some(&request))
            .await
            .object();
        let token = response["status"]["token"].as_str().expect("a token");
        let content = kubeconfig(&self.server, &self.authority, &json!({"token": token}));
        let kubeconfig = self
            .folder
            .write(&format!("{}.kubeconfig", unique(name)), content);
        Identity::of(
            kubeconfig,
            &format!("system:serviceaccount:{namespace}:{name}"),
        )
        .await
    }
}

impl TestNamespace {
    /// Metadata of an object in this namespace.
    pub fn named(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.name})
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        block_on_new_thread(async move {
            let client = Client::try_from(admin).expect("the administrator's configuration");
            Api::<Namespace>::all(client)
                .delete(&name, &DeleteParams::default())
                .await
                .ok();
        });
    }
}
