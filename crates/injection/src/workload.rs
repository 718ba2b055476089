//! Workloads: the scope of an update, the propagation of annotations to the pod template, and the patch of both.

pub(crate) mod compare;
pub(crate) mod patch;
pub(crate) mod plan;
pub(crate) mod propagation;
pub(crate) mod reconcile;
pub(crate) mod removal_warnings;
pub(crate) mod statements;
pub(crate) mod template_edit;
pub(crate) mod template_layers;
pub(crate) mod template_patch;
pub(crate) mod template_state;
pub(crate) mod update;
