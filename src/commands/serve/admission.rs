//! Builds the admission handler and its policy from the arguments.

use std::collections::BTreeSet;
use std::sync::Arc;

use injection::SecretSource;
use kube::Client;
use prometheus_client::registry::Registry;

use super::args::PolicyArgs;
use crate::admission::event::metrics::AdmissionMetrics;
use crate::admission::handler::Handler;
use crate::admission::pipeline::Pipeline;
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy};
use crate::admission::sources::{Source, Sources};
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::metrics::BackendMetrics;
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::defaults::{Defaults, Guarded, KubernetesDefaults};

/// Builds the handler over the API server behind `client`.
pub(super) fn handler(client: Client, policy: PolicyArgs, registry: &mut Registry) -> Handler {
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
    Handler::new(Arc::new(pipeline), AdmissionMetrics::register(registry))
}

/// Namespaces whose Secrets may be read; `None` for all.
fn readable_namespaces(policy: &PolicyArgs) -> Option<BTreeSet<String>> {
    (!policy.namespaces.is_empty()).then(|| policy.namespaces.iter().cloned().collect())
}

fn to_policy(policy: PolicyArgs) -> Policy {
    let PolicyArgs {
        sidecars,
        on_unavailable,
        own_namespace,
        exempt_namespaces,
        namespaces: _,
        workloads_inject_template,
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
    }
}
