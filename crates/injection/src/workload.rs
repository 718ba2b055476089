//! Workloads: what an update changes, how annotations reach the pod template, and the patch of both.

pub(crate) mod copies;
pub(crate) mod inheritance;
pub(crate) mod patch;
pub(crate) mod plan;
pub(crate) mod revise;
pub(crate) mod statements;
pub(crate) mod taken_back;
pub(crate) mod template_edit;
pub(crate) mod template_patch;
pub(crate) mod update;
