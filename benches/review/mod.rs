//! Reviews of the benchmarks' pod, and a handler whose backend has its secrets.

#[path = "../pod/mod.rs"]
pub mod pod;

use std::sync::Arc;

use floe_secrets_webhook::admission::event::metrics::AdmissionMetrics;
use floe_secrets_webhook::admission::handler::{Handler, Received};
use floe_secrets_webhook::admission::pipeline::Pipeline;
use floe_secrets_webhook::admission::policy::Policy;
use floe_secrets_webhook::admission::sources::{Source, Sources};
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::backend::layers::cached::{CacheSettings, Cached};
use floe_secrets_webhook::backend::metrics::BackendMetrics;
use floe_secrets_webhook::backend::static_binder::StaticBinder;
use floe_secrets_webhook::defaults::Defaults;
use floe_secrets_webhook::telemetry::metrics::PREFIX;
use floe_secrets_webhook::telemetry::span::Span;
use injection::SecretSource;
use prometheus_client::registry::Registry;
use serde_json::json;
use testbed::in_process::NoDefaults;

/// Review of the pod's creation, as the API server frames it.
fn review(pod: &[u8]) -> Vec<u8> {
    let pod: serde_json::Value = serde_json::from_slice(pod).expect("a pod");
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0f6f5c1e-6f1c-4ad2-b1d9-3c7ec6c0ef7a",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "floe-platform", "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:job-controller",
                "uid": "6d9f0e3c-6a0f-4f0e-9d51-0c7a2f5b9a11",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    review.to_string().into_bytes()
}

/// Review of the pod that requests three secrets.
#[must_use]
pub fn asking() -> Vec<u8> {
    review(&pod::asking())
}

/// Review of the same pod without annotations of the webhook.
#[must_use]
pub fn indifferent() -> Vec<u8> {
    review(&pod::indifferent())
}

/// Handler as `serve` has it, whose cache holds the three secrets.
///
/// # Panics
/// If it does not respond: then there is nothing to measure.
pub async fn handler() -> Handler {
    let mut registry = Registry::with_prefix(PREFIX);
    let metrics = BackendMetrics::register(&mut registry);
    let mut secrets = StaticBinder::default();
    for (name, keys) in [
        (
            "snowflake-credentials",
            &["SNOWFLAKE_ACCOUNT", "SNOWFLAKE_PASSWORD", "SNOWFLAKE_USER"][..],
        ),
        ("polaris", &["credential"]),
        ("s3", &["access-key", "secret-key"]),
    ] {
        secrets.insert(
            "floe-platform",
            name,
            keys.iter().map(|&key| key.to_owned()),
        );
    }
    let cached = Arc::new(Cached::new(secrets, CacheSettings::default(), metrics));
    let source = Source {
        binder: cached.clone(),
        recent_names: Some(cached),
    };
    let sources = Sources::from([(SecretSource::Kubernetes, source)]);
    let defaults = Arc::new(Defaults::new(Arc::new(NoDefaults)));
    let pipeline = Arc::new(Pipeline::new(sources, defaults, Policy::default()));
    let handler = Handler::new(pipeline, AdmissionMetrics::register(&mut registry));
    // The first review fills the cache.
    assert!(
        respond(&handler, &asking()).await > 500,
        "the pod is injected"
    );
    handler
}

/// Length of the response.
///
/// # Panics
/// If the bytes are not a review.
pub async fn respond(handler: &Handler, body: &[u8]) -> usize {
    let received = Received::in_process(Some("timeout=5s"));
    let response = handler
        .handle(Surface::Pods, received, body, Span::off())
        .await
        .expect("a review");
    assert!(response.response.allowed, "{:?}", response.response.status);
    response.to_json().len()
}
