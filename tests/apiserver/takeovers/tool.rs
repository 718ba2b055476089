//! Programs that users write workloads with.

use std::fmt;

use serde_json::{Value, json};

use crate::fixture::Fixture;
use testbed::command_output::CommandOutput;
use testbed::helm::Helm;

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
            Self::Upgrade(Helm::V4) => "helm 4 upgrade",
            Self::Upgrade(Helm::V3) => "helm 3 upgrade",
            Self::Rollback(Helm::V4) => "helm 4 rollback",
            Self::Rollback(Helm::V3) => "helm 3 rollback",
        })
    }
}

impl Tool {
    pub const ALL: [Self; 8] = [
        Self::Apply,
        Self::ServerSide,
        Self::Replace,
        Self::JsonPatch,
        Self::Upgrade(Helm::V4),
        Self::Upgrade(Helm::V3),
        Self::Rollback(Helm::V4),
        Self::Rollback(Helm::V3),
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
    pub fn records_statements(self) -> bool {
        !matches!(
            self,
            Self::JsonPatch | Self::Upgrade(Helm::V3) | Self::Rollback(Helm::V3)
        )
    }

    /// Creates the object. `last` is the state that a rollback will restore.
    pub async fn create(
        self,
        fixture: &Fixture,
        object: &Value,
        last: &Value,
    ) -> Vec<CommandOutput> {
        let text = object.to_string();
        let name = object["metadata"]["name"].as_str().expect("a name");
        match self {
            Self::Apply => vec![fixture.kubectl(&["apply", "-f", "-"], &text).await],
            Self::ServerSide => vec![
                fixture
                    .kubectl(&["apply", "--server-side", "-f", "-"], &text)
                    .await,
            ],
            Self::Replace | Self::JsonPatch => {
                vec![fixture.kubectl(&["create", "-f", "-"], &text).await]
            }
            Self::Upgrade(helm) => vec![fixture.helm(helm, "install", name, object).await],
            Self::Rollback(helm) => {
                vec![
                    fixture.helm(helm, "install", name, last).await,
                    fixture.helm(helm, "upgrade", name, object).await,
                ]
            }
        }
    }

    /// Changes the object from one manifest to the next.
    pub async fn change(
        self,
        fixture: &Fixture,
        before: &Value,
        after: &Value,
        is_last: bool,
    ) -> CommandOutput {
        let text = after.to_string();
        let name = after["metadata"]["name"].as_str().expect("a name");
        match self {
            Self::Apply => fixture.kubectl(&["apply", "-f", "-"], &text).await,
            // After an undo, fields belong to another manager.
            Self::ServerSide => {
                fixture
                    .kubectl(
                        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
                        &text,
                    )
                    .await
            }
            Self::Replace => fixture.kubectl(&["replace", "-f", "-"], &text).await,
            Self::JsonPatch => {
                let mut operations = Vec::new();
                difference(before, after, "", &mut operations);
                let resource = format!(
                    "{}/{name}",
                    after["kind"].as_str().expect("a kind").to_lowercase()
                );
                let patch = Value::from(operations).to_string();
                fixture
                    .kubectl(&["patch", &resource, "--type=json", "-p", &patch], "")
                    .await
            }
            Self::Rollback(helm) if is_last => fixture.helm(helm, "rollback", name, after).await,
            Self::Upgrade(helm) | Self::Rollback(helm) => {
                fixture.helm(helm, "upgrade", name, after).await
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
