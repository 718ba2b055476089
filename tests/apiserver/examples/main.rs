//! Worked examples of the folder `examples`, and compiled annotations in each place: applied to a real API server by
//! kubectl, and the variables of the pods.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

mod applied;
mod compile_cluster;
mod compiled;
mod lint_cluster;

use std::collections::BTreeSet;

use serde_json::Value;
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{find_container, sources, variables};
use testbed::namespace::TestNamespace;
use testbed::shared_fixture::shared_fixture;
use testbed::tools::project_root;

/// Text of a file of an example.
fn example(path: &str) -> String {
    let file = project_root().join("examples").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Namespace on an API server that calls the webhook.
struct Fixture {
    cp: &'static ControlPlane,
    ns: TestNamespace,
}

impl Fixture {
    async fn new(stem: &str) -> Self {
        let cp = shared_fixture().await.cp;
        let ns = cp.namespace(stem).await;
        Self { cp, ns }
    }

    async fn secret(&self, name: &str, keys: &[&str]) {
        self.cp.secret(&self.ns.name, name, keys, "value").await;
    }

    /// Runs kubectl in the namespace, from the top folder of the checkout.
    async fn kubectl(&self, args: &[&str]) -> CommandOutput {
        self.kubectl_with(args, "").await
    }

    async fn kubectl_with(&self, args: &[&str], stdin: &str) -> CommandOutput {
        let args = [&["-n", &self.ns.name], args].concat();
        self.cp.kubectl(&args, stdin).await.expect_success()
    }

    async fn create_pod(&self, pod: &Value) -> Value {
        let printed = self
            .kubectl_with(&["create", "-f", "-", "-o", "json"], &pod.to_string())
            .await;
        serde_json::from_str(&printed.stdout).expect("the created pod")
    }

    /// Pod that a controller made, by its label.
    async fn pod(&self, selector: &str) -> Value {
        self.cp.pod_of(&self.ns.name, selector).await
    }
}

/// Entries for secrets in a container: its `envFrom`, and its variables that come from a key.
fn secrets_of(pod: &Value, container: &str) -> (Vec<String>, Vec<String>) {
    let container = find_container(pod, container);
    let mut entries = variables(container);
    entries.retain(|entry| entry.contains('<'));
    entries.sort();
    (sources(container), entries)
}

/// Names in the `env_var` calls of a profile.
fn env_vars(profile: &str) -> BTreeSet<String> {
    let calls = profile.split("env_var('").skip(1);
    calls
        .filter_map(|rest| Some(rest.split_once('\'')?.0.to_owned()))
        .collect()
}

fn names(entries: &[String]) -> BTreeSet<String> {
    let names = entries.iter().filter_map(|entry| entry.split_once('<'));
    names.map(|(name, _)| name.to_owned()).collect()
}
