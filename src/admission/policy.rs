//! Settings of the operator that decide admissions.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use injection::{NameConvention, Sidecar};

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
    /// Convention for the names of secrets.
    pub secret_names: Option<SecretNamePolicy>,
}

/// Convention for the names of secrets, and the response to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNamePolicy {
    pub convention: NameConvention,
    pub mode: SecretNameMode,
}

/// Response to a secret whose name does not follow the convention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SecretNameMode {
    /// Admit with a warning.
    #[default]
    Warn,
    /// Refuse.
    Deny,
}

/// Response to an object that asks for secrets, if the audit trail did not take its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnAuditFailure {
    /// Admit it. The trail reports the number of missing records.
    #[default]
    Ignore,
    /// Refuse it with 503, so that no secret is used without a record.
    Refuse,
}

/// Policy that can be replaced while admissions are decided. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SharedPolicy(Arc<RwLock<Arc<Policy>>>);

impl SharedPolicy {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// Policy of now. An admission keeps the one that it began with.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
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
