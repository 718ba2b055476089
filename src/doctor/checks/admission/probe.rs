//! The probe: a dry-run create of a pod that refers to a secret which does not exist.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use crate::kubernetes::Lookup;
use crate::kubernetes::lookup;

/// Time limit of the create. The API server waits at most 30 s for each webhook, and there may be several.
const PROBE_TIMEOUT: Duration = Duration::from_secs(90);

/// Response of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResponse {
    /// The pod would be created.
    Admitted,
    /// HTTP status and message.
    Refused(u16, String),
    NoResponse,
}

/// A probe and its response.
#[derive(Clone, Debug)]
pub struct AdmissionProbe {
    pub namespace: String,
    /// Labels of the namespace.
    pub labels: Lookup<BTreeMap<String, String>>,
    /// Name of the secret that does not exist.
    pub secret: String,
    pub response: ProbeResponse,
}

/// Sends the probe.
pub async fn read(client: &Client, namespace: &str) -> AdmissionProbe {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = lookup::read_optional(namespaces.get_opt(namespace))
        .await
        .map(|found| found.metadata.labels.unwrap_or_default());
    let secret = format!("floe-secrets-doctor-{:08x}", fastrand::u32(..));
    let response = match pod(namespace, &secret) {
        Some(pod) => create(client, namespace, &pod).await,
        None => ProbeResponse::NoResponse,
    };
    AdmissionProbe {
        namespace: namespace.to_owned(),
        labels,
        secret,
        response,
    }
}

async fn create(client: &Client, namespace: &str, pod: &Pod) -> ProbeResponse {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match timeout(PROBE_TIMEOUT, pods.create(&params, pod)).await {
        Ok(Ok(_)) => ProbeResponse::Admitted,
        Ok(Err(kube::Error::Api(status))) => ProbeResponse::Refused(status.code, status.message),
        Ok(Err(_)) | Err(_) => ProbeResponse::NoResponse,
    }
}

/// Builds a pod that satisfies strict policies, so that the response is the webhook's.
fn pod(namespace: &str, secret: &str) -> Option<Pod> {
    let pod = json!({
        "metadata": {
            "name": secret, "namespace": namespace,
            "annotations": {"secrets.floe.dev/env-from": secret, "secrets.floe.dev/on-missing": "deny"},
        },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "never-runs", "image": "none",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true},
            }],
        },
    });
    serde_json::from_value(pod).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_of_the_probe_is_valid() {
        assert!(pod("default", "s-1").is_some());
    }
}
