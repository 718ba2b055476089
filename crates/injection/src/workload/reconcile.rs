//! Reconciles a template that was injected before: entries that are kept, entries to remove, entries to add.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::input::PlanInput;
use crate::contract::plan_error::PlanError;
use crate::contract::warning::Warning;
use crate::plan::desired::{Desired, compute_desired};
use crate::plan::env_entry::EnvEntry;
use crate::plan::injection_plan::{ContainerPlan, InjectionPlan, MissingParents};
use crate::plan::missing_entries::{added_by, missing_entries};
use crate::plan::plan;
use crate::plan::resolve::DesiredEnv;
use crate::record::{Added, Record};
use crate::view::container::{ContainerView, EnvView};
use crate::view::container_list::ContainerList;
use crate::view::pod::PodView;
use crate::workload::statements::{StatedEntries, Statements};

/// Changes to a template's containers: first removals, then additions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TemplateUpdate {
    pub removals: Vec<Removals>,
    /// Additions, with the indices that apply after the removals.
    pub containers: Vec<ContainerPlan>,
    /// The template's record after the changes.
    pub record: Record,
    pub warnings: Vec<Warning>,
}

/// Entries of one container that the record names and no annotation requests any more, each with its index; last first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removals {
    pub list: ContainerList,
    pub index: usize,
    /// Index and Secret.
    pub env_from: Vec<(usize, String)>,
    /// Index and variable.
    pub env: Vec<(usize, String)>,
}

fn lists<'p, 'a>(pod: &'p PodView<'a>) -> [(ContainerList, &'p [ContainerView<'a>]); 2] {
    let of = |list: &'p Option<Vec<ContainerView<'a>>>| list.as_deref().unwrap_or_default();
    [
        (ContainerList::Containers, of(&pod.spec.containers)),
        (ContainerList::InitContainers, of(&pod.spec.init_containers)),
    ]
}

/// Container at an index of a list.
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

/// Plans a template in which `recorded` was added earlier. Without an input, all recorded entries are removed.
pub(crate) fn reconcile(
    input: Option<&PlanInput<'_>>,
    pod: &PodView<'_>,
    old: Option<&PodView<'_>>,
    recorded: &Record,
    statements: &Statements<'_>,
) -> Result<TemplateUpdate, Vec<PlanError>> {
    let desired = input.map(compute_desired).transpose()?;
    let mut update = TemplateUpdate::default();
    let mut remaining = pod.clone();
    for (list, containers) in lists(pod) {
        for (index, container) in containers.iter().enumerate() {
            let name = container.name.as_str();
            let Some(added) = recorded.list(list).get(name) else {
                continue;
            };
            let before = find(old, list, name);
            let desired = desired
                .as_ref()
                .filter(|desired| is_selected(desired, list, index))
                .map(|desired| &desired.env);
            let stated = statements.for_container(list, container, &added.env_from);
            let mut kept = Added::default();
            let mut removals = Removals {
                list,
                index,
                env_from: Vec::new(),
                env: Vec::new(),
            };
            let recorded = RecordedEntries {
                container,
                before,
                added,
                desired,
                stated: &stated,
            };
            recorded.classify_sources(&mut kept, &mut removals);
            recorded.classify_variables(&mut kept, &mut removals);
            if kept != Added::default() {
                update.record.add(list, name, kept);
            }
            if !removals.env_from.is_empty() || !removals.env.is_empty() {
                apply_removals(&mut remaining, &removals);
                update.removals.push(removals);
            }
        }
    }
    if let Some(input) = input {
        add_missing(
            &PlanInput {
                pod: &remaining,
                ..*input
            },
            &mut update,
        )?;
    }
    Ok(update)
}

fn is_selected(desired: &Desired<'_>, list: ContainerList, index: usize) -> bool {
    desired
        .selected
        .iter()
        .any(|selected| selected.list == list && selected.index == index)
}

/// Plans the additions to the template without the removed entries.
fn add_missing(input: &PlanInput<'_>, update: &mut TemplateUpdate) -> Result<(), Vec<PlanError>> {
    // The plan's own record is not used: it is about containers that were added to a pod late.
    let InjectionPlan {
        containers,
        record: _,
        missing_parents: _,
        reload: _,
        warnings,
    } = plan(input)?;
    for planned in &containers {
        update
            .record
            .add(planned.list, &planned.name, added_by(planned));
    }
    update.containers = containers;
    update.warnings = warnings;
    Ok(())
}

/// Recorded entries of one container, and what decides whether they are kept.
struct RecordedEntries<'c, 'a> {
    container: &'c ContainerView<'a>,
    /// The container before the update.
    before: Option<&'c ContainerView<'a>>,
    added: &'c Added,
    /// Desired entries, if the container is selected.
    desired: Option<&'c DesiredEnv>,
    stated: &'c StatedEntries<'c>,
}

impl RecordedEntries<'_, '_> {
    /// Sorts recorded sources into kept and removed ones. A source that an author states is neither.
    fn classify_sources(&self, kept: &mut Added, removals: &mut Removals) {
        let sources = self.container.whole_secrets();
        // `envFrom` is atomic: if recorded sources are missing, whoever sent the list wrote all that is left.
        let is_replaced = self.before.is_some()
            && self
                .added
                .env_from
                .iter()
                .any(|secret| !sources.contains_key(secret.as_str()));
        if is_replaced {
            return;
        }
        for secret in &self.added.env_from {
            let Some(index) = sources.get(secret.as_str()) else {
                continue;
            };
            if self.stated.has_source(secret) {
                continue;
            }
            if self
                .desired
                .is_some_and(|desired| desired.env_from.contains(secret))
            {
                kept.env_from.push(secret.clone());
            } else {
                removals.env_from.push((*index, secret.clone()));
            }
        }
        removals.env_from.sort_by(|one, other| other.cmp(one));
    }

    /// Sorts recorded variables into kept and removed ones. A variable that an author states or changed is neither.
    fn classify_variables(&self, kept: &mut Added, removals: &mut Removals) {
        let old = self.before.map(ContainerView::env_by_name);
        // If a variable has two entries, the last one counts.
        let entries: BTreeMap<&str, (usize, &EnvView<'_>)> = self
            .container
            .env
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, entry)| (entry.name.as_str(), (index, entry)))
            .collect();
        for name in &self.added.env {
            let Some((index, entry)) = entries.get(name.as_str()).copied() else {
                continue;
            };
            if self.stated.has_variable(name) {
                continue;
            }
            let is_changed = old.as_ref().is_some_and(|old| {
                old.get(name.as_str())
                    .copied()
                    .and_then(EnvView::secret_key)
                    != entry.secret_key()
            });
            let is_desired = |desired: &EnvEntry| desired.name == *name && desired.matches(entry);
            if self
                .desired
                .is_some_and(|desired| desired.env.iter().any(is_desired))
            {
                kept.env.push(name.clone());
            } else if entry.secret_key().is_some() && !is_changed {
                removals.env.push((index, name.clone()));
            }
        }
        removals.env.sort_by(|one, other| other.cmp(one));
    }
}

/// Removes the entries from a copy of the template.
fn apply_removals(pod: &mut PodView<'_>, removals: &Removals) {
    let containers = match removals.list {
        ContainerList::Containers => &mut pod.spec.containers,
        ContainerList::InitContainers => &mut pod.spec.init_containers,
    };
    let Some(container) = containers
        .as_mut()
        .and_then(|containers| containers.get_mut(removals.index))
    else {
        return;
    };
    // Last first, so that the other indices stay valid.
    for (index, _) in &removals.env_from {
        if let Some(list) = container
            .env_from
            .as_mut()
            .filter(|list| list.len() > *index)
        {
            list.remove(*index);
        }
    }
    for (index, _) in &removals.env {
        if let Some(list) = container.env.as_mut().filter(|list| list.len() > *index) {
            list.remove(*index);
        }
    }
}

/// Restores recorded entries that were in the template before the update, and nothing else.
pub(crate) fn restore(pod: &PodView<'_>, old: &PodView<'_>, recorded: &Record) -> TemplateUpdate {
    let mut update = TemplateUpdate {
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
            let desired = DesiredEnv {
                env_from: added
                    .env_from
                    .iter()
                    .filter(|secret| sources.contains_key(secret.as_str()))
                    .cloned()
                    .collect(),
                env: added.env.iter().filter_map(entry).collect(),
                by_default: BTreeSet::new(),
            };
            // Warnings about entries of the author were returned when these were added.
            let missing = missing_entries(list, index, container, &desired, &mut Vec::new());
            if let Some((plan, _)) = missing {
                update.containers.push(plan);
            }
        }
    }
    update
}

impl TemplateUpdate {
    /// Parents of the template's annotations and labels that are missing.
    pub(crate) fn missing_parents(pod: &PodView<'_>) -> MissingParents {
        MissingParents::of(pod.metadata.as_ref())
    }
}
