//! Programs that users write workloads with.

use std::fmt;

use serde_json::{Value, json};

use crate::scene::Scene;
use testbed::helm::Helm;
use testbed::kubectl::Output;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Apply,
    ServerSide,
    Replace,
    JsonPatch,
    Upgrade(Helm),
    /// The last step is a rollback to a first release.
    Rollback(Helm),
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Apply => "apply",
            Self::ServerSide => "apply --server-side",
            Self::Replace => "replace",
            Self::JsonPatch => "JSON patch",
            Self::Upgrade(Helm::Four) => "helm 4 upgrade",
            Self::Upgrade(Helm::Three) => "helm 3 upgrade",
            Self::Rollback(Helm::Four) => "helm 4 rollback",
            Self::Rollback(Helm::Three) => "helm 3 rollback",
        })
    }
}

impl Tool {
    pub const ALL: [Self; 8] = [
        Self::Apply,
        Self::ServerSide,
        Self::Replace,
        Self::JsonPatch,
        Self::Upgrade(Helm::Four),
        Self::Upgrade(Helm::Three),
        Self::Rollback(Helm::Four),
        Self::Rollback(Helm::Three),
    ];

    /// Short name for objects.
    pub fn stem(self) -> String {
        self.to_string()
            .replace(' ', "-")
            .replace("---", "-")
            .to_lowercase()
    }

    /// Whether the object records what its author states: in the last applied configuration, in managed fields, or
    /// because it was sent without the webhook's record. Helm 3 sends only the difference.
    pub fn tells(self) -> bool {
        !matches!(
            self,
            Self::JsonPatch | Self::Upgrade(Helm::Three) | Self::Rollback(Helm::Three)
        )
    }

    /// Creates the object. `last` is the state that a rollback will restore.
    pub async fn create(self, scene: &Scene, object: &Value, last: &Value) -> Vec<Output> {
        let text = object.to_string();
        let name = object["metadata"]["name"].as_str().expect("a name");
        match self {
            Self::Apply => vec![scene.kubectl(&["apply", "-f", "-"], &text).await],
            Self::ServerSide => vec![
                scene
                    .kubectl(&["apply", "--server-side", "-f", "-"], &text)
                    .await,
            ],
            Self::Replace | Self::JsonPatch => {
                vec![scene.kubectl(&["create", "-f", "-"], &text).await]
            }
            Self::Upgrade(helm) => vec![scene.helm(helm, "install", name, object).await],
            Self::Rollback(helm) => {
                vec![
                    scene.helm(helm, "install", name, last).await,
                    scene.helm(helm, "upgrade", name, object).await,
                ]
            }
        }
    }

    /// Changes the object from one manifest to the next.
    pub async fn change(
        self,
        scene: &Scene,
        before: &Value,
        after: &Value,
        is_last: bool,
    ) -> Output {
        let text = after.to_string();
        let name = after["metadata"]["name"].as_str().expect("a name");
        match self {
            Self::Apply => scene.kubectl(&["apply", "-f", "-"], &text).await,
            // After an undo, fields belong to another manager.
            Self::ServerSide => {
                scene
                    .kubectl(
                        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
                        &text,
                    )
                    .await
            }
            Self::Replace => scene.kubectl(&["replace", "-f", "-"], &text).await,
            Self::JsonPatch => {
                let mut operations = Vec::new();
                difference(before, after, "", &mut operations);
                let resource = format!(
                    "{}/{name}",
                    after["kind"].as_str().expect("a kind").to_lowercase()
                );
                let patch = Value::from(operations).to_string();
                scene
                    .kubectl(&["patch", &resource, "--type=json", "-p", &patch], "")
                    .await
            }
            Self::Rollback(helm) if is_last => scene.helm(helm, "rollback", name, after).await,
            Self::Upgrade(helm) | Self::Rollback(helm) => {
                scene.helm(helm, "upgrade", name, after).await
            }
        }
    }
}

/// Operations of a JSON patch; lists of equal length are compared element by element.
fn difference(before: &Value, after: &Value, path: &str, operations: &mut Vec<Value>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let at = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                operations.push(json!({"op": "remove", "path": at(key)}));
            }
            for (key, value) in after {
                match before.get(key) {
                    Some(before) => difference(before, value, &at(key), operations),
                    None => operations.push(json!({"op": "add", "path": at(key), "value": value})),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                difference(before, after, &format!("{path}/{index}"), operations);
            }
        }
        _ if before == after => {}
        _ => operations.push(json!({"op": "replace", "path": path, "value": after})),
    }
}
