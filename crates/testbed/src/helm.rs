//! Real Helm, and the chart.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::control_plane::ControlPlane;
use super::kubectl::Output;
use super::objects::yaml;
use super::tools::{paths, project};

/// Release and namespace that the plain manifests are rendered for.
pub const NAME: &str = "floe-secrets-webhook";

/// Major version of Helm: users have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    /// Applies server-side.
    Four,
    /// Merges three ways, client-side.
    Three,
}

impl Helm {
    pub const ALL: [Self; 2] = [Self::Four, Self::Three];

    fn program(self) -> &'static PathBuf {
        static PROGRAMS: OnceLock<[PathBuf; 2]> = OnceLock::new();
        let [four, three] = PROGRAMS.get_or_init(|| paths(["helm", "helm3"]));
        match self {
            Self::Four => four,
            Self::Three => three,
        }
    }

    /// Runs Helm without a cluster; `values` are those of the user.
    pub fn run(self, args: &[&str], values: &Value) -> Output {
        let mut child = Command::new(self.program())
            .args(args)
            .args(["--values", "-"])
            .env("KUBECONFIG", "/nonexistent")
            .current_dir(project())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("helm starts");
        // A JSON document is valid YAML. Helm may exit before it has read it.
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(values.to_string().as_bytes())
            .ok();
        let output = child.wait_with_output().expect("helm is our child");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().unwrap_or(-1);
        Output {
            code,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// `helm template`, as a release of this name in a namespace of the same name.
    pub fn template(self, release: &str, values: &Value) -> Output {
        self.run(
            &["template", release, &chart(), "--namespace", release],
            values,
        )
    }

    /// Rendered objects, hooks and tests included.
    #[track_caller]
    pub fn objects(self, release: &str, values: &Value) -> Vec<Value> {
        let rendered = self.template(release, values).succeeded();
        yaml(&rendered.stdout)
            .into_iter()
            .filter(|object| !object.is_null())
            .collect()
    }
}

/// Folder of the chart.
pub fn chart() -> String {
    project()
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
pub fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
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
    pub async fn helm(&self, helm: Helm, args: &[&str], values: &Value) -> Output {
        let mut command = Command::new(helm.program());
        command.args(args);
        if !values.is_null() {
            command.args(["--values", "-"]);
        }
        self.run(command, &self.kubeconfig, &values.to_string())
            .await
    }
}
