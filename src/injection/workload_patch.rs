//! From a workload's plan to its JSON patch.

use json_patch::Patch;

use super::patch::Builder;
use super::template_patch::render_template;
use super::workload_plan::WorkloadPlan;

/// The patch of a workload's plan. An empty plan gives an empty patch.
#[must_use]
pub fn render_workload(plan: &WorkloadPlan) -> Patch {
    let mut patch = Builder { root: &[], operations: Vec::new() };
    patch.annotations(&plan.metadata);
    let mut operations = patch.operations;
    operations.extend(render_template(&plan.template, plan.kind.template()).0);
    Patch(operations)
}
