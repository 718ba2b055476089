//! Containers that receive entries: those that annotations select, or all app containers that are not sidecars.

use crate::contract::input::{PlanInput, PlanTarget};
use crate::contract::plan_error::PlanError;
use crate::contract::request::{Choice, Selection};
use crate::contract::selector::Pattern;
use crate::contract::sidecar::Sidecars;
use crate::contract::warning::Warning;
use crate::excerpt::excerpt;
use crate::limits::{MAX_CONTAINER_NAME, MAX_LISTED};
use crate::plan::diagnostics::Diagnostics;
use crate::view::container::ContainerView;
use crate::view::container_list::ContainerList;

/// A selected container.
pub(crate) struct Selected<'a> {
    pub(crate) list: ContainerList,
    pub(crate) index: usize,
    pub(crate) container: &'a ContainerView<'a>,
    /// Whether no annotation selects containers of this list.
    pub(crate) by_default: bool,
}

/// Rejects pods with a container name that the API server will reject anyway. Names may have any length before its
/// validation, so such a name is neither matched nor repeated in full.
pub(crate) fn check_names(input: &PlanInput<'_>) -> Result<(), Vec<PlanError>> {
    let spec = &input.pod.spec;
    let mut names = spec
        .containers
        .iter()
        .chain(&spec.init_containers)
        .flatten()
        .map(|c| c.name.as_str());
    match (
        names.find(|name| name.len() > MAX_CONTAINER_NAME),
        input.request.first_site(),
    ) {
        (Some(name), Some(site)) => Err(vec![PlanError::ContainerName {
            name: excerpt(name).into_owned(),
            length: name.len(),
            site: site.clone(),
        }]),
        _ => Ok(()),
    }
}

/// Selects containers of both lists, and reports selections that match nothing.
pub(crate) fn select_containers<'a>(
    input: &PlanInput<'a>,
    diagnostics: &mut Diagnostics,
) -> Vec<Selected<'a>> {
    let spec = &input.pod.spec;
    let lists = [
        (
            ContainerList::Containers,
            &spec.containers,
            &input.request.containers,
        ),
        (
            ContainerList::InitContainers,
            &spec.init_containers,
            &input.request.init_containers,
        ),
    ];
    let sidecars = Sidecars::of(input.sidecars, input.pod);
    let mut selected = Vec::new();
    for (list, containers, selection) in lists {
        let containers = containers.as_deref().unwrap_or_default();
        if let Some(selection) = selection {
            report_unmatched(input, list, containers, selection, diagnostics);
        }
        for (index, container) in containers.iter().enumerate() {
            let name = container.name.as_str();
            let is_selected = match selection.as_ref().map(|selection| &selection.choice) {
                Some(Choice::None) => false,
                Some(Choice::Patterns(patterns)) => {
                    patterns.iter().any(|pattern| pattern.matches(name))
                }
                None => list == ContainerList::Containers && !sidecars.contains_container(name),
            };
            if is_selected {
                selected.push(Selected {
                    list,
                    index,
                    container,
                    by_default: selection.is_none(),
                });
            }
        }
    }
    if selected.is_empty() && diagnostics.errors.is_empty() {
        match only_sidecars(input) {
            Some(error) if input.target != PlanTarget::Template => diagnostics.errors.push(error),
            Some(error) => diagnostics.warnings.push(Warning::OnlySidecars(error)),
            None => diagnostics.warnings.push(Warning::NoContainer),
        }
    }
    selected
}

/// Error for a pod that requests secrets itself, has only sidecars and selects none of them: it would run without the
/// secrets.
fn only_sidecars(input: &PlanInput<'_>) -> Option<PlanError> {
    let containers = input.pod.spec.containers.as_deref().unwrap_or_default();
    let site = input
        .request
        .first_own_site()
        .filter(|_| input.request.containers.is_none() && !containers.is_empty())?;
    let (names, more) = first_names(containers);
    Some(PlanError::OnlySidecars {
        names,
        more,
        site: site.clone(),
    })
}

/// Names of the first containers, and the number of the others.
fn first_names(containers: &[ContainerView<'_>]) -> (Vec<String>, usize) {
    let names = containers
        .iter()
        .take(MAX_LISTED)
        .map(|container| container.name.as_str().to_owned())
        .collect();
    (names, containers.len().saturating_sub(MAX_LISTED))
}

/// Reports patterns that match no container: each glob by itself, all names in one sentence.
fn report_unmatched(
    input: &PlanInput<'_>,
    list: ContainerList,
    containers: &[ContainerView<'_>],
    selection: &Selection,
    diagnostics: &mut Diagnostics,
) {
    let Choice::Patterns(patterns) = &selection.choice else {
        return;
    };
    let is_unmatched = |pattern: &&Pattern| {
        !pattern.is_all() && !containers.iter().any(|c| pattern.matches(c.name.as_str()))
    };
    let (names, globs): (Vec<&Pattern>, Vec<&Pattern>) = patterns
        .iter()
        .filter(is_unmatched)
        .partition(|pattern| pattern.is_exact());
    diagnostics
        .warnings
        .extend(globs.into_iter().map(|pattern| Warning::Unmatched {
            pattern: pattern.to_string(),
            list,
            site: selection.site.clone(),
        }));
    if names.is_empty() {
        return;
    }
    let other = match list {
        ContainerList::Containers => &input.pod.spec.init_containers,
        ContainerList::InitContainers => &input.pod.spec.containers,
    };
    let in_other = |name: &&&Pattern| {
        other
            .iter()
            .flatten()
            .any(|container| name.matches(container.name.as_str()))
    };
    let (known, more) = first_names(containers);
    let error = PlanError::NoSuchContainer {
        in_other_list: names
            .iter()
            .filter(in_other)
            .map(ToString::to_string)
            .collect(),
        names: names.iter().map(ToString::to_string).collect(),
        list,
        known,
        more,
        site: selection.site.clone(),
    };
    // A default is written for many pods: the author of one that lacks the container made no mistake.
    if error.site().origin.is_default() || input.target == PlanTarget::Template {
        diagnostics.warnings.push(Warning::NoSuchContainer(error));
    } else {
        diagnostics.errors.push(error);
    }
}
