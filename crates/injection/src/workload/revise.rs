//! Injecting into a template a second time: what earlier additions stay, which are withdrawn, what is new.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::input::PlanInput;
use crate::contract::problem::{PlanError, Warning};
use crate::plan::env_entry::EnvEntry;
use crate::plan::resolve::DesiredEnv;
use crate::plan::{ContainerPlan, Desired, InjectionPlan, MissingParents, lacking, plan, settle};
use crate::record::{Added, Record};
use crate::view::container_list::ContainerList;
use crate::view::pod::{ContainerView, EnvView, PodView};
use crate::workload::statements::Statements;

/// What to do to a template's containers: first take back, then add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateUpdate {
    pub withdrawn: Vec<Removals>,
    /// Its places count once the withdrawn entries are gone.
    pub containers: Vec<ContainerPlan>,
    /// What the template's record says then.
    pub record: Record,
    pub warnings: Vec<Warning>,
}

/// Entries of one container that the record names and nobody asks for any more, each with its place; last first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removals {
    pub list: ContainerList,
    pub index: usize,
    /// Place and Secret.
    pub env_from: Vec<(usize, String)>,
    /// Place and variable.
    pub env: Vec<(usize, String)>,
}

fn lists<'p, 'a>(pod: &'p PodView<'a>) -> [(ContainerList, &'p [ContainerView<'a>]); 2] {
    let of = |list: &'p Option<Vec<ContainerView<'a>>>| list.as_deref().unwrap_or_default();
    [
        (ContainerList::Containers, of(&pod.spec.containers)),
        (ContainerList::InitContainers, of(&pod.spec.init_containers)),
    ]
}

/// A container by its place.
pub(crate) fn container<'p, 'a>(
    pod: &'p PodView<'a>,
    list: ContainerList,
    index: usize,
) -> Option<&'p ContainerView<'a>> {
    lists(pod)
        .into_iter()
        .find(|(known, _)| *known == list)
        .and_then(|(_, containers)| containers.get(index))
}

fn find<'p, 'a>(
    pod: Option<&'p PodView<'a>>,
    list: ContainerList,
    name: &str,
) -> Option<&'p ContainerView<'a>> {
    let lists = pod.map(lists)?;
    let (_, containers) = lists.into_iter().find(|(known, _)| *known == list)?;
    containers
        .iter()
        .find(|container| container.name.as_str() == name)
}

/// Plans anew for a template in which `recorded` was added earlier; without an input, all of that is withdrawn.
pub(crate) fn revise(
    input: Option<&PlanInput<'_>>,
    pod: &PodView<'_>,
    old: Option<&PodView<'_>>,
    recorded: &Record,
    statements: &Statements<'_>,
) -> Result<TemplateUpdate, Vec<PlanError>> {
    let settled = input.map(settle).transpose()?;
    let mut revision = TemplateUpdate::default();
    let mut reduced = pod.clone();
    for (list, containers) in lists(pod) {
        for (index, container) in containers.iter().enumerate() {
            let Some(added) = recorded.list(list).get(container.name.as_str()) else {
                continue;
            };
            let before = find(old, list, container.name.as_str());
            let (kept, withdrawn) = sort(
                (list, index),
                container,
                before,
                added,
                settled.as_ref(),
                statements,
            );
            if kept != Added::default() {
                revision.record.add(list, container.name.as_str(), kept);
            }
            if let Some(withdrawn) = withdrawn {
                reduce(&mut reduced, &withdrawn);
                revision.withdrawn.push(withdrawn);
            }
        }
    }
    if let Some(input) = input {
        // Not by the record of the pod surface: it is about containers that came late to a pod.
        let InjectionPlan {
            containers,
            record: _,
            absent: _,
            reload: _,
            warnings,
        } = plan(&PlanInput {
            pod: &reduced,
            ..*input
        })?;
        for planned in &containers {
            revision
                .record
                .add(planned.list, &planned.name, added(planned));
        }
        revision.containers = containers;
        revision.warnings = warnings;
    }
    Ok(revision)
}

fn added(planned: &ContainerPlan) -> Added {
    Added {
        env_from: planned
            .env_from
            .iter()
            .map(|(_, secret)| secret.clone())
            .collect(),
        env: planned
            .env_before
            .iter()
            .chain(&planned.env_after)
            .map(|entry| entry.name.clone())
            .collect(),
    }
}

/// What of a container's recorded additions stays, and what goes. What has become the author's is neither.
fn sort(
    (list, index): (ContainerList, usize),
    container: &ContainerView<'_>,
    before: Option<&ContainerView<'_>>,
    added: &Added,
    settled: Option<&Desired<'_>>,
    statements: &Statements<'_>,
) -> (Added, Option<Removals>) {
    let wanted = settled
        .filter(|settled| {
            settled
                .selected
                .iter()
                .any(|selected| selected.list == list && selected.index == index)
        })
        .map(|settled| &settled.wanted);
    let mut kept = Added::default();
    let mut withdrawn = Removals {
        list,
        index,
        env_from: Vec::new(),
        env: Vec::new(),
    };
    let sources = container.whole_secrets();
    // `envFrom` is one whole: when some of ours are gone, whoever sent the list wrote what is left.
    let resent = before.is_some()
        && added
            .env_from
            .iter()
            .any(|secret| !sources.contains_key(secret.as_str()));
    let stated = statements.of_container(list, container, &added.env_from);
    for secret in &added.env_from {
        let Some(place) = sources.get(secret.as_str()).filter(|_| !resent) else {
            continue;
        };
        if stated.has_source(secret) {
            continue;
        }
        if wanted.is_some_and(|wanted| wanted.env_from.contains(secret)) {
            kept.env_from.push(secret.clone());
        } else {
            withdrawn.env_from.push((*place, secret.clone()));
        }
    }
    let was = before.map(ContainerView::env_by_name);
    // Of two entries for one variable the last counts.
    let entries: BTreeMap<&str, (usize, &EnvView<'_>)> = container
        .env
        .iter()
        .flatten()
        .enumerate()
        .map(|(place, entry)| (entry.name.as_str(), (place, entry)))
        .collect();
    for name in &added.env {
        let Some((place, entry)) = entries.get(name.as_str()).copied() else {
            continue;
        };
        if stated.has_variable(name) {
            continue;
        }
        let changed = was.as_ref().is_some_and(|was| {
            was.get(name.as_str())
                .copied()
                .and_then(EnvView::secret_key)
                != entry.secret_key()
        });
        if wanted.is_some_and(|wanted| {
            wanted
                .env
                .iter()
                .any(|wanted| wanted.name == *name && wanted.is(entry))
        }) {
            kept.env.push(name.clone());
        } else if entry.secret_key().is_some() && !changed {
            withdrawn.env.push((place, name.clone()));
        }
    }
    withdrawn.env_from.sort_by(|one, other| other.cmp(one));
    withdrawn.env.sort_by(|one, other| other.cmp(one));
    let any = !withdrawn.env_from.is_empty() || !withdrawn.env.is_empty();
    (kept, any.then_some(withdrawn))
}

/// The template as it is once the withdrawn entries are gone.
fn reduce(pod: &mut PodView<'_>, withdrawn: &Removals) {
    let containers = match withdrawn.list {
        ContainerList::Containers => &mut pod.spec.containers,
        ContainerList::InitContainers => &mut pod.spec.init_containers,
    };
    let Some(container) = containers
        .as_mut()
        .and_then(|containers| containers.get_mut(withdrawn.index))
    else {
        return;
    };
    // Last first, so that the places hold.
    for (place, _) in &withdrawn.env_from {
        if let Some(list) = container
            .env_from
            .as_mut()
            .filter(|list| list.len() > *place)
        {
            list.remove(*place);
        }
    }
    for (place, _) in &withdrawn.env {
        if let Some(list) = container.env.as_mut().filter(|list| list.len() > *place) {
            list.remove(*place);
        }
    }
}

/// Puts back what was recorded and stood there before the update, and nothing else.
pub(crate) fn restore(pod: &PodView<'_>, old: &PodView<'_>, recorded: &Record) -> TemplateUpdate {
    let mut revision = TemplateUpdate {
        record: recorded.clone(),
        ..TemplateUpdate::default()
    };
    for (list, containers) in lists(pod) {
        for (index, container) in containers.iter().enumerate() {
            let name = container.name.as_str();
            let (Some(added), Some(before)) =
                (recorded.list(list).get(name), find(Some(old), list, name))
            else {
                continue;
            };
            let (sources, env) = (before.whole_secrets(), before.env_by_name());
            let entry = |name: &String| {
                let (secret, key) = env.get(name.as_str())?.secret_key()?;
                Some(EnvEntry {
                    name: name.clone(),
                    secret: secret.to_owned(),
                    key: key.to_owned(),
                })
            };
            let wanted = DesiredEnv {
                env_from: added
                    .env_from
                    .iter()
                    .filter(|secret| sources.contains_key(secret.as_str()))
                    .cloned()
                    .collect(),
                env: added.env.iter().filter_map(entry).collect(),
                by_default: BTreeSet::new(),
            };
            // That an author's entry stands in the way was said when it came.
            if let Some((plan, _)) = lacking(list, index, container, &wanted, &mut Vec::new()) {
                revision.containers.push(plan);
            }
        }
    }
    revision
}

impl TemplateUpdate {
    /// Which parents of the template's annotations and labels are missing.
    pub(crate) fn absent(pod: &PodView<'_>) -> MissingParents {
        MissingParents::of(pod.metadata.as_ref())
    }
}
