//! Naming convention for secrets, as the operator's policy has it.

use super::policy::{Policy, SecretNameMode, SecretNamePolicy};
use injection::{InjectionRequest, PlanError, Warning};

/// Secrets whose names do not follow the convention.
#[derive(Debug, Default)]
pub(super) struct NameViolations {
    /// Those that refuse the object.
    pub(super) errors: Vec<PlanError>,
    /// Those that are admitted with a warning.
    pub(super) warnings: Vec<Warning>,
}

impl NameViolations {
    /// Checks the names of the requested secrets.
    pub(super) fn of(request: &InjectionRequest, policy: &Policy) -> Self {
        let Some(SecretNamePolicy { convention, mode }) = &policy.secret_names else {
            return Self::default();
        };
        let errors = convention.violations(request);
        match mode {
            SecretNameMode::Deny => Self {
                errors,
                warnings: Vec::new(),
            },
            SecretNameMode::Warn => Self {
                errors: Vec::new(),
                warnings: errors.into_iter().map(Warning::NameConvention).collect(),
            },
        }
    }

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
