//! Everything that a plan depends on.

use std::collections::BTreeMap;

use crate::contract::binding::BindOutcome;
use crate::contract::request::InjectionRequest;
use crate::contract::secret_ref::SecretId;
use crate::contract::sidecar::Sidecar;
use crate::view::pod::PodView;

/// What is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanTarget {
    /// A pod: what it asks for is there now, or it is refused.
    Pod,
    /// The template in a manifest, planned as a pod of it would be: what it asks for is there now, or it is refused.
    Manifest,
    /// The template of a workload, whose pods will be reviewed in their turn. A missing secret is a warning unless
    /// the author says otherwise, and so is a container that another webhook may still add.
    Template,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// What `pod` is.
    pub target: PlanTarget,
    /// The pod, or the template of one.
    pub pod: &'a PodView<'a>,
    /// Where it will run, for sentences.
    pub namespace: &'a str,
    /// What it asks for.
    pub request: &'a InjectionRequest,
    /// What is known of each secret of `request.key_queries()`.
    pub bindings: &'a BTreeMap<SecretId, BindOutcome>,
    /// The operator's list of containers that the unset selection leaves out.
    pub sidecars: &'a [Sidecar],
    /// Whether names may be told that the author did not write: other keys of a secret, and names like the one written.
    /// Not to a caller who may be anybody.
    pub discloses: bool,
}
