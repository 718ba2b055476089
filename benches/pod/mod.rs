//! Pod of the benchmarks, and its path through the core.

#![allow(dead_code, reason = "each benchmark uses a part of this module")]

use std::collections::BTreeMap;

use injection::{
    AnnotationLayers, BindOutcome, Decision, PlanInput, PlanTarget, PodView, SecretBinding,
    SecretId, Sidecar, parse, plan, render,
};
use serde_json::{Value, json};

/// Pod of a Dagster run as the API server sends it, 6 kB of JSON.
const POD: &str = include_str!("pod.json");

/// Pod that requests three secrets in all three ways.
pub fn asking() -> Vec<u8> {
    POD.trim_end().as_bytes().to_vec()
}

/// Same pod without annotations of the webhook.
///
/// # Panics
/// Never: the pod is JSON.
pub fn indifferent() -> Vec<u8> {
    let mut pod: Value = serde_json::from_str(POD).expect("JSON");
    if let Some(annotations) = pod
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.retain(|key, _| !key.starts_with("secrets.floe.dev/"));
    }
    pod.to_string().into_bytes()
}

/// Existing secrets, and the operator's sidecar list.
pub struct World {
    bindings: BTreeMap<SecretId, BindOutcome>,
    sidecars: Vec<Sidecar>,
}

impl Default for World {
    fn default() -> Self {
        let secrets = json!({
            "snowflake-credentials": ["SNOWFLAKE_ACCOUNT", "SNOWFLAKE_PASSWORD", "SNOWFLAKE_USER"],
            "polaris": ["credential"],
            "s3": ["access-key", "secret-key"],
        });
        let bound = |(name, keys): (&String, &Value)| {
            let keys = serde_json::from_value(keys.clone()).expect("a list of keys");
            let binding = SecretBinding {
                secret_name: name.clone(),
                keys: Some(keys),
            };
            let id = SecretId {
                source: "kubernetes".parse().expect("a source"),
                name: name.parse().expect("a name"),
            };
            (id, BindOutcome::Found(binding))
        };
        let sidecars = ["istio-proxy", "linkerd-proxy", "vault-agent"]
            .map(|name| name.parse().expect("a sidecar"));
        Self {
            bindings: secrets
                .as_object()
                .into_iter()
                .flatten()
                .map(bound)
                .collect(),
            sidecars: sidecars.to_vec(),
        }
    }
}

/// Whether there is nothing to do for a pod.
///
/// # Panics
/// If it is not a pod.
pub fn skips(pod: &[u8]) -> bool {
    let view: PodView<'_> = serde_json::from_slice(pod).expect("a pod");
    matches!(
        parse(&AnnotationLayers {
            object: view.annotations(),
            ..AnnotationLayers::default()
        }),
        Ok(Decision::Skip(_))
    )
}

/// Decodes a pod's bytes and returns the patch's.
///
/// # Panics
/// If the pod is not admitted: then there is nothing to measure.
pub fn admit(pod: &[u8], world: &World) -> Vec<u8> {
    patch(&serde_json::from_slice(pod).expect("a pod"), world)
}

/// Plans a decoded pod and returns the patch's bytes.
///
/// # Panics
/// If the pod is not admitted: then there is nothing to measure.
pub fn patch(view: &PodView<'_>, world: &World) -> Vec<u8> {
    let Ok(Decision::Inject(request)) = parse(&AnnotationLayers {
        object: view.annotations(),
        ..AnnotationLayers::default()
    }) else {
        panic!("the pod asks for secrets")
    };
    let plan = plan(&PlanInput {
        target: PlanTarget::Pod,
        pod: view,
        namespace: "floe-platform",
        request: &request,
        bindings: &world.bindings,
        sidecars: &world.sidecars,
        discloses: true,
    })
    .expect("nothing stands against it");
    assert_eq!(plan.containers.len(), 3, "all containers are served");
    serde_json::to_vec(&render(&plan, &[])).expect("a patch is JSON")
}
