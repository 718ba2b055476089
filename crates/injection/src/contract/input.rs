//! Input of the planner.

use std::collections::BTreeMap;

use crate::contract::binding::BindOutcome;
use crate::contract::request::InjectionRequest;
use crate::contract::secret_ref::SecretId;
use crate::contract::sidecar::Sidecar;
use crate::view::pod::PodView;

/// Kind of object that is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanTarget {
    /// A pod: it is rejected if a requested secret does not exist.
    Pod,
    /// The template in a manifest, planned like a pod: it is rejected if a requested secret does not exist.
    Manifest,
    /// The template of a workload, whose pods are reviewed when they are created. A missing secret is a warning unless
    /// the author sets `on-missing: deny`, and so is a container that another webhook may still add.
    Template,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// Kind of object that `pod` is from.
    pub target: PlanTarget,
    /// The pod, or the template of one.
    pub pod: &'a PodView<'a>,
    /// Namespace of the pod, for sentences.
    pub namespace: &'a str,
    /// Requested secrets and containers.
    pub request: &'a InjectionRequest,
    /// Binding of each secret of `request.key_queries()`.
    pub bindings: &'a BTreeMap<SecretId, BindOutcome>,
    /// Sidecars by the operator: they are not selected by default.
    pub sidecars: &'a [Sidecar],
    /// Whether messages may contain names that the author did not write: other keys of a secret, and similar names.
    /// False for a caller that is not known to be the API server.
    pub discloses: bool,
}
