//! Scope, rules and options of a scan.

use std::collections::BTreeSet;

use crate::kubernetes::Selector;
use injection::Sidecar;

/// Namespaces that are scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These namespaces; needs permissions in each of them.
    Namespaces(Vec<String>),
    /// All namespaces; needs permissions in the cluster.
    All,
}

/// Settings of the webhook that decide which objects it mutates.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Containers that are injected only if an annotation names them.
    pub sidecars: Vec<Sidecar>,
    /// Namespaces whose objects are never mutated.
    pub exempt: BTreeSet<String>,
    /// Labels of the namespaces that the webhook serves.
    pub selected: Selector,
    /// Labels of the pods and workloads that are sent to the webhook.
    pub objects: Selector,
}

/// Scope and options of one scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Namespaces that are scanned.
    pub scope: Scope,
    /// Reports warnings about pods that were created since this time.
    pub warned_since: Option<jiff::Timestamp>,
    /// Reports annotations and labels without effect.
    pub ineffective: bool,
    /// Reports references that were lost together with an annotation. Needs more permissions than the rest.
    pub lost: bool,
}
