//! Builds the admission handler and its policy from the arguments.

use std::collections::BTreeSet;
use std::sync::Arc;

use injection::SecretSource;
use kube::Client;
use prometheus_client::registry::Registry;

use super::args::PolicyArgs;
use crate::admission::event::metrics::{AdmissionMetrics, AdmissionTotals};
use crate::admission::handler::Handler;
use crate::admission::pipeline::Pipeline;
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy, SecretNamePolicy, SharedPolicy};
use crate::admission::sources::{Source, Sources};
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::metrics::BackendMetrics;
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::defaults::{Defaults, Guarded, KubernetesDefaults};

/// Builds the handler over the API server behind `client`, with the handle of its policy and its totals.
pub(super) fn handler(
    client: Client,
    policy: PolicyArgs,
    registry: &mut Registry,
) -> (Handler, SharedPolicy, Arc<AdmissionTotals>) {
    let settings = DecoratorSettings::default();
    let backend = Backend::assemble(
        KubernetesBackend::new(client.clone(), readable_namespaces(&policy)),
        settings,
        &BackendMetrics::register(registry),
    );
    let reader = Guarded::new(KubernetesDefaults(client), backend.limits, settings);
    let defaults = Arc::new(Defaults::new(Arc::new(reader)));
    let source = Source {
        binder: backend.binder,
        recent_names: Some(backend.names),
    };
    let sources = Sources::from([(SecretSource::Kubernetes, source)]);
    let pipeline = Pipeline::new(sources, defaults, to_policy(policy));
    let shared = pipeline.shared_policy();
    let metrics = AdmissionMetrics::register(registry);
    let totals = metrics.totals();
    let handler = Handler::new(Arc::new(pipeline), metrics);
    (handler, shared, totals)
}

/// Namespaces whose Secrets may be read; `None` for all.
fn readable_namespaces(policy: &PolicyArgs) -> Option<BTreeSet<String>> {
    (!policy.namespaces.is_empty()).then(|| policy.namespaces.iter().cloned().collect())
}

pub(super) fn to_policy(policy: PolicyArgs) -> Policy {
    let PolicyArgs {
        sidecars,
        on_unavailable,
        own_namespace,
        exempt_namespaces,
        namespaces: _,
        workloads_inject_template,
        secret_names,
        secret_name_mode,
        trusted_callers: _,
    } = policy;
    let cluster = CLUSTER_NAMESPACES.into_iter().map(str::to_owned);
    Policy {
        sidecars: sidecars.sidecar_containers,
        exempt_namespaces: cluster
            .chain(own_namespace)
            .chain(exempt_namespaces)
            .collect(),
        on_unavailable,
        inject_template: workloads_inject_template,
        secret_names: secret_names
            .secret_name_pattern
            .map(|convention| SecretNamePolicy {
                convention,
                mode: secret_name_mode,
            }),
    }
}
