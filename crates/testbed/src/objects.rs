//! Objects as JSON, sent as a plain client sends them, and the API server's complete response: kube's typed calls hide
//! the admission warnings.

use http::Method;
use http_body_util::BodyExt;
use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::command_output::CommandOutput;
use super::control_plane::ControlPlane;
use super::wait_for;

/// Response of the API server.
#[derive(Debug, Clone)]
pub struct ApiResponse {
    /// HTTP status.
    pub status: u16,
    /// Object, or a `Status`.
    pub body: Value,
    /// Texts of the `Warning` headers, in order.
    pub warnings: Vec<String>,
}

impl ApiResponse {
    /// Whether the status is a success.
    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Message of a `Status`; empty for an object.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// Returns the object if accepted; panics with the rejection otherwise.
    #[track_caller]
    pub fn object(self) -> Value {
        assert!(
            self.is_accepted(),
            "refused with {}: {}",
            self.status,
            self.body
        );
        self.body
    }
}

impl ControlPlane {
    /// Creates an object as the administrator.
    pub async fn create(&self, object: &Value) -> ApiResponse {
        send(
            &self.client(),
            Method::POST,
            &collection(object),
            Some(object),
        )
        .await
    }

    /// Sends a create that is not stored.
    pub async fn create_dry_run(&self, object: &Value) -> ApiResponse {
        send(
            &self.client(),
            Method::POST,
            &format!("{}?dryRun=All", collection(object)),
            Some(object),
        )
        .await
    }

    /// Applies YAML documents server-side, one after the other, with force.
    pub async fn apply(&self, text: &str) -> Vec<Value> {
        let client = self.client();
        let mut applied = Vec::new();
        for object in yaml(text) {
            applied.push(apply(&client, &object).await.object());
        }
        applied
    }

    /// Sends any other request as the administrator; `path` may include a query.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> ApiResponse {
        send(&self.client(), method, path, body).await
    }

    /// Installs the CRD of Argo Rollouts. Its controller does not run.
    pub async fn install_rollouts(&self) {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let version = json!({
            "name": "v1alpha1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}},
        });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "rollouts.argoproj.io"},
            "spec": {"group": "argoproj.io", "scope": "Namespaced", "versions": [version],
                "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout"}},
        });
        let created = self.create(&definition).await;
        // Another test of the same binary may have installed it.
        assert!(
            created.is_accepted() || created.status == 409,
            "{}",
            created.message()
        );
        wait_for("rollouts are served", || async {
            self.request(Method::GET, "/apis/argoproj.io/v1alpha1/rollouts", None)
                .await
                .is_accepted()
                .then_some(())
        })
        .await;
    }
}

impl ControlPlane {
    /// `kubectl create secret generic`; every key gets `value`.
    pub async fn secret(&self, namespace: &str, name: &str, keys: &[&str], value: &str) {
        let data: serde_json::Map<String, Value> = keys
            .iter()
            .map(|key| ((*key).to_owned(), value.into()))
            .collect();
        let metadata = json!({"name": name, "namespace": namespace});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        self.create(&secret).await.object();
    }

    /// `kubectl -n NAMESPACE apply -f -`.
    pub async fn kubectl_apply(&self, namespace: &str, manifest: &Value) -> CommandOutput {
        self.kubectl(
            &["-n", namespace, "apply", "-f", "-"],
            &manifest.to_string(),
        )
        .await
    }

    /// Pods with a label.
    pub async fn pods(&self, namespace: &str, selector: &str) -> Vec<Value> {
        let selector = selector.replace('=', "%3D");
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
        let list = self.request(Method::GET, &path, None).await.object();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for a pod with this label.
    pub async fn pod_of(&self, namespace: &str, selector: &str) -> Value {
        wait_for(&format!("a pod with {selector}"), || async {
            self.pods(namespace, selector).await.pop()
        })
        .await
    }

    /// Waits for an event with this reason about an object of this kind whose name starts with `name`. Returns its
    /// message.
    pub async fn event(&self, namespace: &str, kind: &str, name: &str, reason: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let about = |event: &&Value| {
            event["involvedObject"]["kind"] == kind
                && event["involvedObject"]["name"]
                    .as_str()
                    .is_some_and(|full| full.starts_with(name))
                && event["reason"] == reason
        };
        wait_for(&format!("event {reason} about {kind} {name}"), || async {
            let events = self.request(Method::GET, &path, None).await.object();
            events["items"].as_array()?.iter().find(about)?["message"]
                .as_str()
                .map(str::to_owned)
        })
        .await
    }
}

/// Documents of a YAML text.
pub fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Path at which objects of this kind are created.
pub fn collection(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{}", resource.plural),
        None => format!("{root}/{}", resource.plural),
    }
}

/// Path of the object.
pub fn path(object: &Value) -> String {
    format!(
        "{}/{}",
        collection(object),
        object["metadata"]["name"]
            .as_str()
            .expect("the object has a name")
    )
}

/// Applies an object server-side with force.
pub async fn apply(client: &Client, object: &Value) -> ApiResponse {
    let path = format!("{}?fieldManager=floe-secrets-test&force=true", path(object));
    send_as(
        client,
        Method::PATCH,
        &path,
        Some(object),
        "application/apply-patch+yaml",
    )
    .await
}

/// Sends a request and reads the complete response. A PATCH is a JSON merge patch.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> ApiResponse {
    let content_type = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    send_as(client, method, path, body, content_type).await
}

/// [`send`] with another content type.
pub async fn send_as(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
    content_type: &str,
) -> ApiResponse {
    let body = body
        .map(|body| body.to_string().into_bytes())
        .unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(kube::client::Body::from(body))
        .expect("a request");
    let (head, body) = client
        .send(request)
        .await
        .expect("the API server responds")
        .into_parts();
    let body = body
        .collect()
        .await
        .expect("the response's body")
        .to_bytes();
    let warnings = head
        .headers
        .get_all("warning")
        .iter()
        .filter_map(|value| warning(value.to_str().ok()?))
        .collect();
    let body = serde_json::from_slice(&body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into());
    ApiResponse {
        status: head.status.as_u16(),
        body,
        warnings,
    }
}

/// Text of a header such as `299 - "text"`.
fn warning(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1.strip_suffix('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        text.push(if character == '\\' {
            characters.next()?
        } else {
            character
        });
    }
    Some(text)
}
