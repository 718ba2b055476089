//! Objects as users write them, and short forms of their entries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

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
pub fn find_container<'a>(pod: &'a Value, name: &str) -> &'a Value {
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
