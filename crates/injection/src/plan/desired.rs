//! The desired state: the entries that every selected container should have.

use crate::contract::input::PlanInput;
use crate::contract::plan_error::PlanError;
use crate::contract::warning::Warning;
use crate::limits::MAX_ENTRIES;
use crate::plan::diagnostics::Diagnostics;
use crate::plan::resolve::{DesiredEnv, resolve};
use crate::plan::selection::{Selected, check_names, select_containers};

/// Entries that every selected container should have, and the selected containers.
pub(crate) struct Desired<'a> {
    pub(crate) env: DesiredEnv,
    pub(crate) selected: Vec<Selected<'a>>,
    pub(crate) warnings: Vec<Warning>,
}

/// Computes the desired state, whatever the containers have already.
pub(crate) fn compute_desired<'a>(input: &PlanInput<'a>) -> Result<Desired<'a>, Vec<PlanError>> {
    check_names(input)?;
    let mut diagnostics = Diagnostics::default();
    let env = resolve(input, &mut diagnostics);
    let selected = select_containers(input, &mut diagnostics);
    let entries = selected.len().saturating_mul(env.len());
    if let Some(site) = input
        .request
        .first_site()
        .filter(|_| entries > MAX_ENTRIES && diagnostics.errors.is_empty())
    {
        diagnostics.errors.push(PlanError::TooMany {
            limit: MAX_ENTRIES,
            site: site.clone(),
        });
    }
    if diagnostics.errors.is_empty() {
        Ok(Desired {
            env,
            selected,
            warnings: diagnostics.warnings,
        })
    } else {
        Err(diagnostics.errors)
    }
}
