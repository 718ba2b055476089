//! From a workload's plan to its JSON patch.

use crate::patch::Builder;
use crate::patch::operations::Patch;
use crate::workload::plan::WorkloadPlan;
use crate::workload::template_patch::render_template;

/// The patch of a workload's plan. An empty plan gives an empty patch.
#[must_use]
pub fn render_workload(plan: &WorkloadPlan) -> Patch<'_> {
    let mut patch = Builder::at(&[]);
    patch.annotations(&plan.metadata);
    let mut operations = patch.operations;
    operations.extend(render_template(&plan.template, plan.kind.template()).0);
    Patch(operations)
}
