//! Renders a workload's plan as a JSON patch.

use crate::patch::PatchBuilder;
use crate::patch::operations::Patch;
use crate::workload::plan::WorkloadPlan;
use crate::workload::template_patch::render_template;

/// Renders a workload's plan. An empty plan results in an empty patch.
#[must_use]
pub fn render_workload(plan: &WorkloadPlan) -> Patch<'_> {
    let mut patch = PatchBuilder::at(&[]);
    patch.annotations(&plan.metadata);
    let mut operations = patch.operations;
    operations.extend(render_template(&plan.template, plan.kind.template()).0);
    Patch(operations)
}
