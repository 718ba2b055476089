//! Naming convention for secrets, as the operator's policy has it.

use super::pipeline::Pipeline;
use super::policy::{SecretNameMode, SecretNamePolicy};
use injection::{InjectionRequest, PlanError, Warning};

/// Secrets whose names do not follow the convention.
#[derive(Debug, Default)]
pub(super) struct NameViolations {
    /// Those that refuse the object.
    pub(super) errors: Vec<PlanError>,
    /// Those that are admitted with a warning.
    pub(super) warnings: Vec<Warning>,
}

impl Pipeline {
    /// Checks the names of the requested secrets.
    pub(super) fn name_violations(&self, request: &InjectionRequest) -> NameViolations {
        let policy = self.policy();
        let Some(SecretNamePolicy { convention, mode }) = &policy.secret_names else {
            return NameViolations::default();
        };
        let errors = convention.violations(request);
        match mode {
            SecretNameMode::Deny => NameViolations {
                errors,
                warnings: Vec::new(),
            },
            SecretNameMode::Warn => NameViolations {
                errors: Vec::new(),
                warnings: errors.into_iter().map(Warning::NameConvention).collect(),
            },
        }
    }
}

impl NameViolations {
    /// Turns errors about defaults into warnings: the author of a workload cannot correct those.
    pub(super) fn tolerating_defaults(mut self) -> Self {
        let (of_defaults, errors): (Vec<_>, Vec<_>) = self
            .errors
            .into_iter()
            .partition(|error| error.site().origin.is_default());
        self.errors = errors;
        self.warnings
            .extend(of_defaults.into_iter().map(Warning::NameConvention));
        self
    }
}
