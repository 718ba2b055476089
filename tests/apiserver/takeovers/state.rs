//! Workloads as their authors write them.

use serde_json::{Map, Value, json};

pub const PREFIX: &str = "secrets.floe.dev/";
pub const INHERITED: &str = "secrets.floe.dev/inherited";
pub const RECORD: &str = "secrets.floe.dev/injected";
pub const LIST: &str = "secret.reloader.stakater.com/reload";

/// Workload of one container.
#[derive(Clone, Debug)]
pub struct State {
    pub kind: &'static str,
    image: &'static str,
    metadata: Map<String, Value>,
    template: Map<String, Value>,
    container: Value,
}

/// API version of a kind, and the path of its pod template.
pub fn group_and_template(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "CronJob" => ("batch/v1", "/spec/jobTemplate/spec/template"),
        "Rollout" => ("argoproj.io/v1alpha1", "/spec/template"),
        _ => ("apps/v1", "/spec/template"),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(key, value)| {
            let is_whole = key.contains('/');
            (
                if is_whole {
                    (*key).to_owned()
                } else {
                    format!("{PREFIX}{key}")
                },
                json!(value),
            )
        })
        .collect()
}

impl State {
    pub fn of(kind: &'static str) -> Self {
        Self {
            kind,
            image: "one",
            metadata: Map::new(),
            template: Map::new(),
            container: json!({}),
        }
    }

    pub fn image(mut self, image: &'static str) -> Self {
        self.image = image;
        self
    }

    /// Annotations of the workload; keys without a slash are the webhook's.
    pub fn on_metadata(mut self, annotations: &[(&str, &str)]) -> Self {
        self.metadata = pairs(annotations);
        self
    }

    /// Annotations of its pod template.
    pub fn on_template(mut self, annotations: &[(&str, &str)]) -> Self {
        self.template = pairs(annotations);
        self
    }

    /// More fields of the container.
    pub fn container(mut self, fields: &Value) -> Self {
        self.container = fields.clone();
        self
    }

    pub fn manifest(&self, name: &str) -> Value {
        let (version, _) = group_and_template(self.kind);
        let labels = json!({"app": name});
        // Another annotation is next to each of the webhook's, so that a JSON patch has a map to write into.
        let annotations = |webhook_annotations: &Map<String, Value>| {
            let mut all = webhook_annotations.clone();
            all.insert("team".to_owned(), json!("a"));
            all
        };
        let mut container = json!({"name": "main", "image": self.image});
        for (field, value) in self.container.as_object().into_iter().flatten() {
            container[field] = value.clone();
        }
        let restart = if self.kind == "CronJob" {
            "Never"
        } else {
            "Always"
        };
        let template = json!({
            "metadata": {"labels": labels, "annotations": annotations(&self.template)},
            "spec": {"restartPolicy": restart, "containers": [container]},
        });
        let spec = match self.kind {
            "CronJob" => {
                json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}})
            }
            "DaemonSet" => json!({"selector": {"matchLabels": labels}, "template": template}),
            kind => {
                let mut spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": template});
                if kind == "StatefulSet" {
                    spec["serviceName"] = json!("none");
                }
                spec
            }
        };
        json!({"apiVersion": version, "kind": self.kind,
            "metadata": {"name": name, "annotations": annotations(&self.metadata)}, "spec": spec})
    }
}

/// Annotations of the webhook on a template without the record: those of its author, and what it inherits.
pub fn ours_on(template: &Value) -> (Value, Value) {
    let annotations = template["metadata"]["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let inherited = annotations.get(INHERITED).and_then(Value::as_str);
    let inherited = inherited.map_or(Value::Null, |text| {
        serde_json::from_str(text).expect("JSON")
    });
    let own = annotations
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)));
    let own = own.filter(|(key, _)| key != "inherited" && key != "injected");
    (
        own.map(|(key, value)| (key, value.clone()))
            .collect::<Map<_, _>>()
            .into(),
        inherited,
    )
}

/// Secrets and variables of the first container.
pub fn references(pod: &Value) -> Vec<String> {
    let container = &pod["spec"]["containers"][0];
    let list = |field: &str| container[field].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sources = list("envFrom")
        .into_iter()
        .map(|source| text(&source["secretRef"]["name"]));
    sources
        .chain(list("env").into_iter().map(|entry| text(&entry["name"])))
        .collect()
}
