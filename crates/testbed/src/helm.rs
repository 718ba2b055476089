//! Real Helm, and the chart.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::command_output::CommandOutput;
use super::control_plane::ControlPlane;
use super::objects::yaml;
use super::tools::{program_paths, project_root};

/// Release and namespace that the plain manifests are rendered for.
pub const NAME: &str = "floe-secrets-webhook";

/// Major version of Helm: users have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    /// Applies server-side.
    V4,
    /// Merges three ways, client-side.
    V3,
}

impl Helm {
    pub const ALL: [Self; 2] = [Self::V4, Self::V3];

    fn program(self) -> &'static PathBuf {
        static PROGRAMS: OnceLock<[PathBuf; 2]> = OnceLock::new();
        let [four, three] = PROGRAMS.get_or_init(|| program_paths(["helm", "helm3"]));
        match self {
            Self::V4 => four,
            Self::V3 => three,
        }
    }

    /// Runs Helm without a cluster; `values` are those of the user.
    pub fn run(self, args: &[&str], values: &Value) -> CommandOutput {
        let mut command = Command::new(self.program());
        command
            .args(args)
            .args(["--values", "-"])
            .env("KUBECONFIG", "/nonexistent")
            .current_dir(project_root());
        // A JSON document is valid YAML.
        CommandOutput::run(command, &values.to_string())
    }

    /// `helm template`, as a release of this name in a namespace of the same name.
    pub fn template(self, release: &str, values: &Value) -> CommandOutput {
        self.run(
            &["template", release, &chart(), "--namespace", release],
            values,
        )
    }

    /// Rendered objects, hooks and tests included.
    #[track_caller]
    pub fn objects(self, release: &str, values: &Value) -> Vec<Value> {
        let rendered = self.template(release, values).expect_success();
        yaml(&rendered.stdout)
            .into_iter()
            .filter(|object| !object.is_null())
            .collect()
    }
}

/// Folder of the chart.
pub fn chart() -> String {
    project_root()
        .join("charts/floe-secrets-webhook")
        .display()
        .to_string()
}

/// Default values of the chart.
pub fn default_values() -> Value {
    let text = std::fs::read_to_string(format!("{}/values.yaml", chart())).expect("values.yaml");
    let [values]: [Value; 1] = yaml(&text).try_into().expect("one document");
    values
}

/// Object of this kind and name.
#[track_caller]
pub fn find_object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} among {:?}", summaries(objects)))
}

/// Kind and name of each object.
pub fn summaries(objects: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    objects
        .iter()
        .map(|object| {
            format!(
                "{}/{}",
                text(&object["kind"]),
                text(&object["metadata"]["name"])
            )
        })
        .collect()
}

impl ControlPlane {
    /// Runs Helm on this cluster, as the administrator; `values` are those of the user.
    pub async fn helm(&self, helm: Helm, args: &[&str], values: &Value) -> CommandOutput {
        let mut command = Command::new(helm.program());
        command.args(args);
        if !values.is_null() {
            command.args(["--values", "-"]);
        }
        self.run(command, &self.kubeconfig, &values.to_string())
            .await
    }
}
