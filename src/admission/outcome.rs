//! Outcomes of admissions that are not errors.

use super::error::AdmissionError;
use injection::{InjectionPlan, SecretId, SkipReason, WorkloadPlan};

/// Outcome of an admission that is not refused.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing to do.
    Skipped(SkipReason),
    /// A pod, or a template instead of its pods.
    Injected(PodMutation),
    /// A workload.
    Mutated(WorkloadMutation),
    /// A Namespace or ServiceAccount with well-formed annotations.
    Validated { notes: Vec<String> },
    /// Admitted without an answer of the backend, because the policy allows it.
    Degraded(AdmissionError),
}

/// Mutation of a pod.
#[derive(Clone, Debug)]
pub struct PodMutation {
    /// Entries to add. May be empty and still have warnings.
    pub plan: InjectionPlan,
    /// Requested secrets, for the log and the audit annotations.
    pub secrets: Vec<SecretId>,
    /// Warnings in addition to those of the plan.
    pub notes: Vec<String>,
}

/// Mutation of an object with a pod template.
#[derive(Clone, Debug)]
pub struct WorkloadMutation {
    /// Changes. May be empty and still have warnings.
    pub plan: WorkloadPlan,
    /// Requested secrets, for the log and the audit annotations.
    pub secrets: Vec<SecretId>,
    /// Warnings in addition to those of the plan.
    pub notes: Vec<String>,
}
