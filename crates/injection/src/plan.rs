//! Plans an injection: the entries that each container of a pod lacks, and the warnings for its author.
//!
//! Add-only: nothing that an author wrote is removed, reordered or overridden, and entries that exist are not added
//! again. Planning for an injected pod results in an empty plan.

pub(crate) mod desired;
pub(crate) mod diagnostics;
pub(crate) mod env_entry;
pub(crate) mod injection_plan;
pub(crate) mod missing_entries;
pub(crate) mod resolve;
pub(crate) mod selection;

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::input::{PlanInput, PlanTarget};
use crate::contract::plan_error::PlanError;
use crate::contract::warning::Warning;
use crate::keys::RECORD_KEY;
use crate::limits::MAX_PATCH_BYTES;
use crate::plan::desired::{Desired, compute_desired};
use crate::plan::injection_plan::{ContainerPlan, InjectionPlan, MissingParents};
use crate::plan::missing_entries::{missing_entries, override_warning};
use crate::plan::resolve::DesiredEnv;
use crate::plan::selection::Selected;
use crate::record::{Added, Record};
use crate::reload::pod::pod_reload_record;
use crate::view::container::ContainerView;
use crate::view::container_list::ContainerList;
use crate::view::pod::PodView;

/// Plans the injection.
///
/// # Errors
/// All errors at once: missing secrets and keys (unless `on-missing: warn`), references that result in the same
/// variable, containers that do not exist, limits that are exceeded.
pub fn plan(input: &PlanInput<'_>) -> Result<InjectionPlan, Vec<PlanError>> {
    let Desired {
        env: desired,
        selected,
        mut warnings,
    } = compute_desired(input)?;
    let earlier = input
        .pod
        .annotations()
        .and_then(|a| a.get(RECORD_KEY))
        .and_then(Record::read)
        .filter(|record| record_matches(record, input.pod, &desired));
    let mut record = Record {
        template: false,
        ..earlier.clone().unwrap_or_default()
    };
    let earlier = earlier.filter(|_| input.target != PlanTarget::Template);
    let selected = selected
        .into_iter()
        .filter(|selected| !is_late(selected, earlier.as_ref()));
    let containers = plan_containers(selected, &desired, &mut record, &mut warnings);
    warnings.sort();
    warnings.dedup();
    let reload = planned_reload(input, &containers);
    if !reload.is_empty() {
        record.restart.list.clone_from(&reload);
    }
    let record = if input.target == PlanTarget::Template {
        record
    } else {
        record.shortened()
    };
    let plan = InjectionPlan {
        reload,
        record: (!containers.is_empty()).then_some(record),
        containers,
        missing_parents: MissingParents::of(input.pod.metadata.as_ref()),
        warnings,
    };
    match input.request.first_site() {
        Some(site) if plan.max_patch_bytes() > MAX_PATCH_BYTES => {
            Err(vec![PlanError::PatchTooLarge {
                limit: MAX_PATCH_BYTES,
                site: site.clone(),
            }])
        }
        Some(_) | None => Ok(plan),
    }
}

/// Whether another webhook added the container after the first pass: no annotation selects it.
fn is_late(selected: &Selected<'_>, earlier: Option<&Record>) -> bool {
    let name = selected.container.name.as_str();
    selected.by_default
        && earlier.is_some_and(|record| !record.list(selected.list).contains_key(name))
}

/// Plans each selected container, and adds its entries to the record.
fn plan_containers<'a>(
    selected: impl Iterator<Item = Selected<'a>>,
    desired: &DesiredEnv,
    record: &mut Record,
    warnings: &mut Vec<Warning>,
) -> Vec<ContainerPlan> {
    let mut containers = Vec::new();
    for Selected {
        list,
        index,
        container,
        by_default: _,
    } in selected
    {
        let missing = missing_entries(list, index, container, desired, warnings);
        if let Some((plan, added)) = missing {
            warnings.extend(override_warning(container, &plan, desired));
            record.add(list, container.name.as_str(), added);
            containers.push(plan);
        }
    }
    containers
}

/// Entries of the reload list of a pod. Only pods get one: on a template Reloader would act on it.
fn planned_reload(input: &PlanInput<'_>, containers: &[ContainerPlan]) -> Vec<String> {
    if input.target == PlanTarget::Pod && !containers.is_empty() {
        pod_reload_record(input)
    } else {
        Vec::new()
    }
}

/// Whether the record matches the containers: each container that it names has all desired entries, and the entries
/// that it lists are references to Secrets. A forged record does not match.
fn record_matches(record: &Record, pod: &PodView<'_>, desired: &DesiredEnv) -> bool {
    let lists = [
        (ContainerList::Containers, &pod.spec.containers),
        (ContainerList::InitContainers, &pod.spec.init_containers),
    ];
    !record.is_empty()
        && lists.into_iter().all(|(list, containers)| {
            let containers: BTreeMap<&str, &ContainerView<'_>> = containers
                .iter()
                .flatten()
                .map(|container| (container.name.as_str(), container))
                .collect();
            record.list(list).iter().all(|(name, added)| {
                containers
                    .get(name.as_str())
                    .is_some_and(|container| container_matches(container, added, desired))
            })
        })
}

fn container_matches(container: &ContainerView<'_>, added: &Added, desired: &DesiredEnv) -> bool {
    let (sources, env) = (container.whole_secrets(), container.env_by_name());
    let claimed: BTreeSet<&str> = added.env.iter().map(String::as_str).collect();
    *added != Added::default()
        && desired
            .env_from
            .iter()
            .chain(&added.env_from)
            .all(|secret| sources.contains_key(secret.as_str()))
        && claimed.iter().all(|name| {
            env.get(name)
                .is_some_and(|entry| entry.secret_key().is_some())
        })
        && desired.env.iter().all(|entry| {
            // The author's own entry of the same name was left alone, and is not in the record.
            env.get(entry.name.as_str()).is_some_and(|existing| {
                entry.matches(existing) || !claimed.contains(entry.name.as_str())
            })
        })
}
