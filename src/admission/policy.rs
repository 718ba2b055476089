//! Settings of the operator that decide admissions.

use std::collections::BTreeSet;

use injection::Sidecar;

/// Namespaces of the cluster itself. A webhook that refused their pods could stop the cluster.
pub const CLUSTER_NAMESPACES: [&str; 2] = ["kube-system", "kube-node-lease"];

/// Settings of the operator that decide admissions.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Containers that receive nothing unless an annotation names them.
    pub sidecars: Vec<Sidecar>,
    /// Namespaces whose objects are never mutated: the webhook's own, and [`CLUSTER_NAMESPACES`].
    pub exempt_namespaces: BTreeSet<String>,
    /// Response while a backend is unavailable.
    pub on_unavailable: OnUnavailable,
    /// Inject into the templates of workloads, and not only into their pods.
    pub inject_template: bool,
}

/// Response while a backend is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnUnavailable {
    /// Refuse; the pod's controller tries again.
    #[default]
    Deny,
    /// Admit the pod as it is, without its secrets, with a warning.
    Admit,
}
