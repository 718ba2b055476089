//! Controller on a real API server, with exactly the shipped permissions: leader election, drift, and pods that are
//! created as soon as their secrets exist.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

mod drift;
mod exclusions;
mod lease;
mod retry;
mod rights;
mod shares;

use http::Method;
use serde_json::{Value, json};
use testbed::control_plane::ControlPlane;
use testbed::wait_for;
use testbed::webhook_process::WebhookProcess;

/// Value of a metric, by its name and labels after the prefix.
fn metric(process: &WebhookProcess, name: &str) -> Option<i64> {
    let (_, text) = process.get("/metrics")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("floe_secrets_webhook_{name} ")))?;
    line.parse().ok()
}

/// Waits until a metric has this value.
async fn metric_is(process: &WebhookProcess, name: &str, value: i64) {
    let what = format!("{name} is {value}");
    wait_for(&what, || async {
        (metric(process, name) == Some(value)).then_some(())
    })
    .await;
}

async fn events(cp: &ControlPlane, namespace: &str, reason: &str) -> Vec<Value> {
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
    cp.request(Method::GET, &path, None).await.object()["items"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Event about a rejected pod of this owner, as the owner's controller writes it.
fn refusal(owner: &Value) -> Value {
    let metadata = &owner["metadata"];
    let component = format!(
        "{}-controller",
        owner["kind"].as_str().expect("a kind").to_lowercase()
    );
    let name = format!(
        "{}.refused",
        metadata["uid"].as_str().expect("a stored object")
    );
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "namespace": metadata["namespace"],
            "name": metadata["name"], "uid": metadata["uid"],
        },
        "reason": "FailedCreate", "type": "Warning", "source": {"component": component},
        "message": "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: nothing is there",
    })
}
