//! Errors and warnings that planning collects.

use std::collections::BTreeSet;

use crate::contract::input::{PlanInput, PlanTarget};
use crate::contract::plan_error::PlanError;
use crate::contract::request::OnMissing;
use crate::contract::secret_ref::SecretKey;
use crate::contract::suggestions::Suggestions;
use crate::contract::warning::Warning;

/// Errors and warnings so far, and the suggestions that may still be looked for.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    pub(crate) errors: Vec<PlanError>,
    pub(crate) warnings: Vec<Warning>,
    suggestions: Suggestions,
}

impl Diagnostics {
    /// Existing key that is similar to a missing one, if the caller may see it.
    pub(crate) fn similar_key(
        &mut self,
        input: &PlanInput<'_>,
        key: &SecretKey,
        known: &BTreeSet<String>,
    ) -> Option<String> {
        let known = known.iter().map(String::as_str);
        if input.discloses {
            self.suggestions.nearest(key.as_str(), known)
        } else {
            None
        }
    }

    /// Reports a missing secret or key as an error or as a warning, by `on-missing` and by what is planned for.
    pub(crate) fn report_missing(&mut self, input: &PlanInput<'_>, error: PlanError) {
        match (input.request.on_missing, input.target) {
            (Some(OnMissing::Deny), _) | (None, PlanTarget::Pod | PlanTarget::Manifest) => {
                self.errors.push(error);
            }
            (Some(OnMissing::Warn), _) => self.warnings.push(Warning::Missing(error)),
            (None, PlanTarget::Template) => self.warnings.push(Warning::Awaited(error)),
        }
    }
}
