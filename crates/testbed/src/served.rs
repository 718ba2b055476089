//! Shared webhook on the API server, registered as it is shipped; objects that users create there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::kubectl::Output;
use super::wait_for;
use super::webhook::{Registration, webhook_identity};
use super::webhook_process::{Launch, WebhookProcess};

/// Control plane, and the webhook with its configuration in force.
pub struct Served {
    pub cp: &'static ControlPlane,
    /// Process of the webhook, which logs skips too.
    pub webhook: WebhookProcess,
    _registration: Registration,
}

/// Fixture of this test binary: the webhook has the shipped permissions and is called by its Service for every
/// namespace.
pub async fn served() -> &'static Served {
    static SHARED: OnceCell<Served> = OnceCell::const_new();
    let start = || async {
        let cp = ControlPlane::shared().await;
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity)
            .with(&["--log", "debug"])
            .start()
            .await;
        let registration = Registration::shared(cp, &webhook.by_service()).await;
        Served {
            cp,
            webhook,
            _registration: registration,
        }
    };
    SHARED.get_or_init(start).await
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
    pub async fn kubectl_apply(&self, namespace: &str, manifest: &Value) -> Output {
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

/// Annotations with the prefix `secrets.floe.dev/` before each key.
pub fn prefixed(short: &Value) -> Value {
    let pairs = short.as_object().expect("annotations").iter();
    let pairs = pairs.map(|(key, value)| (format!("secrets.floe.dev/{key}"), value.clone()));
    pairs.collect::<serde_json::Map<_, _>>().into()
}

/// Adds fields to an object.
pub fn with(object: &mut Value, fields: &Value) {
    let fields = fields.as_object().expect("fields").clone();
    object.as_object_mut().expect("an object").extend(fields);
}

/// Container named `main`.
pub fn container() -> Value {
    container_named("main")
}

pub fn container_named(name: &str) -> Value {
    json!({"name": name, "image": "none"})
}

/// Pod of [`container`] alone.
pub fn pod(namespace: &str, name: &str, annotations: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container()]}})
}

/// Pod template with the label `app: NAME`.
pub fn template(name: &str, annotations: &Value, containers: &Value) -> Value {
    json!({"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": {"containers": containers}})
}

/// Deployment of one pod with the label `app: NAME`.
pub fn deployment(name: &str, annotations: &Value, containers: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, annotations, containers)},
    })
}

/// Job whose pod has the label `app: NAME`.
pub fn job(name: &str, annotations: &Value, containers: &Value) -> Value {
    let mut template = template(name, annotations, containers);
    template["spec"]["restartPolicy"] = "Never".into();
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    })
}

/// Short form of a container's `envFrom`: `secret/NAME`, `configMap/NAME`, with `PREFIX+` before it.
pub fn sources(container: &Value) -> Vec<String> {
    let each = |source: &Value| {
        let (kind, from) = match source.get("secretRef") {
            Some(from) => ("secret", from),
            None => ("configMap", &source["configMapRef"]),
        };
        let prefix = source["prefix"]
            .as_str()
            .map(|prefix| format!("{prefix}+"))
            .unwrap_or_default();
        format!("{prefix}{kind}/{}", from["name"].as_str().expect("a name"))
    };
    container["envFrom"]
        .as_array()
        .into_iter()
        .flatten()
        .map(each)
        .collect()
}

/// Short form of a container's `env`: `NAME=VALUE` or `NAME<SECRET/KEY`.
pub fn variables(container: &Value) -> Vec<String> {
    let each = |entry: &Value| {
        let name = entry["name"].as_str().expect("a name");
        match entry.pointer("/valueFrom/secretKeyRef") {
            Some(from) => {
                format!(
                    "{name}<{}/{}",
                    from["name"].as_str().expect("a name"),
                    from["key"].as_str().expect("a key")
                )
            }
            None => format!("{name}={}", entry["value"].as_str().unwrap_or_default()),
        }
    };
    container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .map(each)
        .collect()
}

/// Container of this name, in either list.
#[track_caller]
pub fn named<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = [&pod["spec"]["containers"], &pod["spec"]["initContainers"]];
    let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.find(|container| container["name"] == name)
        .unwrap_or_else(|| panic!("no container {name}: {pod}"))
}

/// Patch of an `AdmissionReview`'s response.
pub fn patch_of(review: &Value) -> json_patch::Patch {
    let Some(text) = review["response"]["patch"].as_str() else {
        return json_patch::Patch(Vec::new());
    };
    assert_eq!(review["response"]["patchType"], "JSONPatch");
    let bytes = STANDARD.decode(text).expect("base64");
    serde_json::from_slice(&bytes).expect("a patch")
}

/// Object with the patch of the response applied to it.
pub fn patched(object: &Value, review: &Value) -> Value {
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch_of(review)).expect("the patch applies");
    object
}

/// `AdmissionReview` of a pod's creation, as the API server writes it.
pub fn review_of(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": super::unique("review"),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"],
            "operation": "CREATE",
            "userInfo": {"username": "tester", "groups": ["system:authenticated"]},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}
