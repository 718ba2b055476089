//! A healthy installation of the plain manifests, for unit tests.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::installation::Installation;
use crate::kubernetes::Lookup;
use crate::kubernetes::tls_secret::PublicCertificates;

/// Time of the API server, in seconds.
pub const NOW: i64 = 1_800_000_000;

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("YAML")
}

fn of_kind<T: DeserializeOwned>(text: &str, kind: &str) -> T {
    let found = documents(text)
        .into_iter()
        .find(|object| object["kind"] == kind)
        .expect("an object of this kind");
    serde_json::from_value(found).expect("an object")
}

/// Applies a JSON merge patch to an object.
pub fn merged<T: Serialize + DeserializeOwned>(object: &T, change: &Value) -> T {
    let mut object = serde_json::to_value(object).expect("an object");
    json_patch::merge(&mut object, change);
    serde_json::from_value(object).expect("an object")
}

/// Returns a slice with one endpoint per value: ready or not.
pub fn slice(ready: &[bool]) -> EndpointSlice {
    let endpoints: Vec<Value> = ready
        .iter()
        .map(|ready| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}))
        .collect();
    serde_json::from_value(json!({"addressType": "IPv4", "metadata": {}, "endpoints": endpoints}))
        .expect("a slice")
}

/// Returns an installation in which every check is ok, except that it has no certificate.
pub fn healthy_installation() -> Installation {
    let now = Timestamp::from_second(NOW).expect("a time");
    let available = json!({"status": {"availableReplicas": 2}});
    let deployments = [
        include_str!("../../manifests/webhook/deployment.yaml"),
        include_str!("../../manifests/webhook/controller.yaml"),
        include_str!("../../manifests/webhook/admin.yaml"),
    ]
    .map(|text| merged(&of_kind(text, "Deployment"), &available));
    let spec =
        json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": now.to_string()});
    let configuration = include_str!("../../manifests/webhook/mutatingwebhookconfiguration.yaml");
    Installation {
        version: "v1.36.3".to_owned(),
        now,
        configuration_name: "zz-floe-secrets-webhook".to_owned(),
        configuration: Lookup::Found(of_kind(configuration, "MutatingWebhookConfiguration")),
        similar: Vec::new(),
        namespace: "floe-secrets-webhook".to_owned(),
        service_name: Some("floe-secrets-webhook".to_owned()),
        service: Lookup::Found(of_kind(
            include_str!("../../manifests/webhook/service.yaml"),
            "Service",
        )),
        slices: Lookup::Found(vec![slice(&[true, true])]),
        deployments: Lookup::Found(deployments.to_vec()),
        pods: Lookup::Found(Vec::new()),
        budgets: Lookup::Found(vec![of_kind(
            include_str!("../../manifests/webhook/pdb.yaml"),
            "PodDisruptionBudget",
        )]),
        network_policies: Lookup::Found(vec![of_kind(
            include_str!("../../manifests/webhook/networkpolicy.yaml"),
            "NetworkPolicy",
        )]),
        lease: Lookup::Found(
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a Lease"),
        ),
        secret_certificates: Lookup::Found(PublicCertificates::default()),
        served_certificates: None,
        cert_manager: None,
    }
}

/// Returns the healthy installation with changed entries.
pub fn with_entries(change: impl FnOnce(&mut Vec<MutatingWebhook>)) -> Installation {
    let mut installation = healthy_installation();
    if let Lookup::Found(configuration) = &mut installation.configuration {
        change(configuration.webhooks.as_mut().expect("entries"));
    }
    installation
}

/// Replaces the arguments of a Deployment's first container.
pub fn set_arguments(installation: &mut Installation, index: usize, arguments: &[&str]) {
    let containers = json!([{"name": "program", "args": arguments}]);
    let change = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    change_deployment(installation, index, &change);
}

/// Removes the Deployment of `admin`.
pub fn remove_admin(installation: &mut Installation) {
    if let Lookup::Found(deployments) = &mut installation.deployments {
        deployments.truncate(2);
    }
}

/// Applies a JSON merge patch to a Deployment: 0 is the webhook's, 1 the controller's, 2 that of `admin`.
pub fn change_deployment(installation: &mut Installation, index: usize, change: &Value) {
    if let Lookup::Found(deployments) = &mut installation.deployments {
        deployments[index] = merged(&deployments[index], change);
    }
}
