//! The plan: which entries each container of a pod lacks, and what has to be said about it.
//!
//! Add-only. What an author wrote is never removed, reordered or overridden; what is already there is not
//! added again, so that planning what was planned comes to nothing.

pub(crate) mod env_entry;
pub(crate) mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::input::{PlanInput, PlanTarget};
use crate::contract::problem::{PlanError, Warning};
use crate::contract::request::{Choice, Selection};
use crate::contract::selector::Pattern;
use crate::contract::sidecar::Sidecars;
use crate::excerpt::excerpt;
use crate::keys::RECORD_KEY;
use crate::limits::{MAX_CONTAINER_NAME, MAX_ENTRIES, MAX_LISTED, MAX_PATCH_BYTES};
use crate::plan::env_entry::EnvEntry;
use crate::plan::resolve::{DesiredEnv, Diagnostics, resolve};
use crate::record::{Added, Record};
use crate::reload::told_by_pod;
use crate::view::container_list::ContainerList;
use crate::view::pod::{ContainerView, EnvValue, MetadataView, PodView};

/// What to add to a pod. [`crate::render`] makes the patch of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionPlan {
    /// Only containers that lack something, in the pod's order, init containers last.
    pub containers: Vec<ContainerPlan>,
    /// The new record, when anything is added.
    pub record: Option<Record>,
    /// Of a pod: the entries of the list by which a workload would tell Reloader of these Secrets. It restarts nothing.
    pub reload: Vec<String>,
    /// Which maps and lists have to be made first.
    pub absent: MissingParents,
    /// For a person, most important first.
    pub warnings: Vec<Warning>,
}

/// What an operation of a patch takes beside names, in bytes: its path, and the names of its fields.
const OPERATION_BYTES: usize = 128;

impl InjectionPlan {
    /// About how long its patch is, and never less: known before any of it is written.
    fn bytes(&self) -> usize {
        let of_container = |plan: &ContainerPlan| {
            let sources = plan
                .env_from
                .iter()
                .map(|(_, secret)| OPERATION_BYTES + secret.len());
            let variables = plan.env_before.iter().chain(&plan.env_after);
            let variables =
                variables.map(|e| OPERATION_BYTES + e.name.len() + e.secret.len() + e.key.len());
            sources.chain(variables).sum::<usize>()
        };
        self.containers.iter().map(of_container).sum()
    }

    /// Whether nothing is added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }
}

/// Parents of what is added that the pod does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissingParents {
    /// No `metadata`.
    pub metadata: bool,
    /// No `metadata.annotations`.
    pub annotations: bool,
    /// No `metadata.labels`.
    pub labels: bool,
}

impl MissingParents {
    pub(crate) fn of(metadata: Option<&MetadataView<'_>>) -> Self {
        Self {
            metadata: metadata.is_none(),
            annotations: metadata.is_none_or(|m| m.annotations.is_none()),
            labels: metadata.is_none_or(|m| m.labels.is_none()),
        }
    }
}

/// What one container lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Which list.
    pub list: ContainerList,
    /// Its place there.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The container has no `envFrom` list to add to.
    pub env_from_absent: bool,
    /// Sources to insert, each at the place that it has once those before it are in.
    pub env_from: Vec<(usize, String)>,
    /// The container has no `env` list to add to.
    pub env_absent: bool,
    /// Entries to insert at the front, because an author's value refers to them by `$(VAR)`.
    pub env_before: Vec<EnvEntry>,
    /// Entries to append.
    pub env_after: Vec<EnvEntry>,
}

/// Plans the injection.
///
/// # Errors
/// Everything that stands against it, at once: missing secrets and keys (unless `on-missing: warn`),
/// references that meet in one variable, containers that do not exist.
pub fn plan(input: &PlanInput<'_>) -> Result<InjectionPlan, Vec<PlanError>> {
    let Desired {
        wanted,
        selected,
        mut warnings,
    } = settle(input)?;
    let known = input
        .pod
        .annotations()
        .and_then(|a| a.get(RECORD_KEY))
        .and_then(Record::read);
    let known = known.filter(|record| carries(record, input.pod, &wanted));
    let mut record = Record {
        template: false,
        ..known.clone().unwrap_or_default()
    };
    let known = known.filter(|_| input.target != PlanTarget::Template);
    let mut containers = Vec::new();
    for Selected {
        list,
        index,
        container,
        by_default,
    } in selected
    {
        let name = container.name.as_str();
        // A container that came after our first pass, added by another webhook: nobody chose it.
        if by_default
            && known
                .as_ref()
                .is_some_and(|record| !record.list(list).contains_key(name))
        {
            continue;
        }
        let lacks = lacking(list, index, container, &wanted, &mut warnings);
        if let Some((plan, added)) = lacks {
            warnings.extend(over_sources(container, &plan, &wanted));
            record.add(list, name, added);
            containers.push(plan);
        }
    }
    warnings.sort();
    warnings.dedup();
    // A template would not only tell: Reloader reads it.
    let tells = input.target == PlanTarget::Pod && !containers.is_empty();
    let reload = if tells {
        told_by_pod(input)
    } else {
        Vec::new()
    };
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
        absent: MissingParents::of(input.pod.metadata.as_ref()),
        warnings,
    };
    match input.request.first_site() {
        Some(site) if plan.bytes() > MAX_PATCH_BYTES => Err(vec![PlanError::PatchTooLarge {
            limit: MAX_PATCH_BYTES,
            site: site.clone(),
        }]),
        Some(_) | None => Ok(plan),
    }
}

/// What every selected container should have, and which these are.
pub(crate) struct Desired<'a> {
    pub(crate) wanted: DesiredEnv,
    pub(crate) selected: Vec<Selected<'a>>,
    pub(crate) warnings: Vec<Warning>,
}

/// What is wanted where, whatever is there already.
pub(crate) fn settle<'a>(input: &PlanInput<'a>) -> Result<Desired<'a>, Vec<PlanError>> {
    check_names(input)?;
    let mut findings = Diagnostics::default();
    let wanted = resolve(input, &mut findings);
    let selected = select(input, &mut findings);
    let entries = selected.len().saturating_mul(wanted.len());
    if let Some(site) = input
        .request
        .first_site()
        .filter(|_| entries > MAX_ENTRIES && findings.errors.is_empty())
    {
        findings.errors.push(PlanError::TooMany {
            limit: MAX_ENTRIES,
            site: site.clone(),
        });
    }
    if findings.errors.is_empty() {
        Ok(Desired {
            wanted,
            selected,
            warnings: findings.warnings,
        })
    } else {
        Err(findings.errors)
    }
}

// === containers ===

/// A name that the API server will refuse anyway: it may have any length here, so nothing is said or matched by it.
fn check_names(input: &PlanInput<'_>) -> Result<(), Vec<PlanError>> {
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

pub(crate) struct Selected<'a> {
    pub(crate) list: ContainerList,
    pub(crate) index: usize,
    container: &'a ContainerView<'a>,
    /// No annotation chose it: the selection was left unset.
    by_default: bool,
}

fn select<'a>(input: &PlanInput<'a>, findings: &mut Diagnostics) -> Vec<Selected<'a>> {
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
            unmatched(input, list, containers, selection, findings);
        }
        for (index, container) in containers.iter().enumerate() {
            let name = container.name.as_str();
            let chosen = match selection.as_ref().map(|selection| &selection.choice) {
                Some(Choice::None) => false,
                Some(Choice::Patterns(patterns)) => {
                    patterns.iter().any(|pattern| pattern.matches(name))
                }
                None => list == ContainerList::Containers && !sidecars.contain(name),
            };
            if chosen {
                selected.push(Selected {
                    list,
                    index,
                    container,
                    by_default: selection.is_none(),
                });
            }
        }
    }
    if selected.is_empty() && findings.errors.is_empty() {
        match only_sidecars(input) {
            Some(error) if input.target != PlanTarget::Template => findings.errors.push(error),
            Some(error) => findings.warnings.push(Warning::OnlySidecars(error)),
            None => findings.warnings.push(Warning::NoContainer),
        }
    }
    selected
}

/// Nothing is selected, nobody chose that, and the pod itself asks for secrets: it would run without them.
fn only_sidecars(input: &PlanInput<'_>) -> Option<PlanError> {
    let containers = input.pod.spec.containers.as_deref().unwrap_or_default();
    let site = input
        .request
        .own_site()
        .filter(|_| input.request.containers.is_none() && !containers.is_empty())?;
    Some(PlanError::OnlySidecars {
        names: containers
            .iter()
            .take(MAX_LISTED)
            .map(|container| container.name.as_str().to_owned())
            .collect(),
        more: containers.len().saturating_sub(MAX_LISTED),
        site: site.clone(),
    })
}

/// Says which patterns match no container: globs one by one, names all in one sentence.
fn unmatched(
    input: &PlanInput<'_>,
    list: ContainerList,
    containers: &[ContainerView<'_>],
    selection: &Selection,
    findings: &mut Diagnostics,
) {
    let Choice::Patterns(patterns) = &selection.choice else {
        return;
    };
    let missed = |pattern: &&Pattern| {
        !pattern.is_all() && !containers.iter().any(|c| pattern.matches(c.name.as_str()))
    };
    let (names, globs): (Vec<&Pattern>, Vec<&Pattern>) = patterns
        .iter()
        .filter(missed)
        .partition(|pattern| pattern.is_exact());
    findings
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
    let error = PlanError::NoSuchContainer {
        in_other_list: names
            .iter()
            .filter(in_other)
            .map(ToString::to_string)
            .collect(),
        names: names.iter().map(ToString::to_string).collect(),
        list,
        known: containers
            .iter()
            .take(MAX_LISTED)
            .map(|container| container.name.as_str().to_owned())
            .collect(),
        more: containers.len().saturating_sub(MAX_LISTED),
        site: selection.site.clone(),
    };
    // A default is written for many pods; that one of them lacks a container is no mistake of its author.
    if error.site().origin.is_default() || input.target == PlanTarget::Template {
        findings.warnings.push(Warning::NoSuchContainer(error));
    } else {
        findings.errors.push(error);
    }
}

/// Whether every container that the record names really carries our references: all that is wanted is there, and
/// what the record says we added is a reference to a Secret. A forged record fails here.
fn carries(record: &Record, pod: &PodView<'_>, wanted: &DesiredEnv) -> bool {
    let lists = [
        (ContainerList::Containers, &pod.spec.containers),
        (ContainerList::InitContainers, &pod.spec.init_containers),
    ];
    let complete = |container: &ContainerView<'_>, added: &Added| {
        let (sources, env) = (container.whole_secrets(), container.env_by_name());
        let claimed: BTreeSet<&str> = added.env.iter().map(String::as_str).collect();
        *added != Added::default()
            && wanted
                .env_from
                .iter()
                .chain(&added.env_from)
                .all(|secret| sources.contains_key(secret.as_str()))
            && claimed.iter().all(|name| {
                env.get(name)
                    .is_some_and(|entry| entry.secret_key().is_some())
            })
            && wanted.env.iter().all(|entry| {
                // The author's own entry of the same name was left alone, and is not in the record.
                env.get(entry.name.as_str())
                    .is_some_and(|there| entry.is(there) || !claimed.contains(entry.name.as_str()))
            })
    };
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
                    .is_some_and(|there| complete(there, added))
            })
        })
}

/// What one container lacks, and how the record will tell it.
pub(crate) fn lacking(
    list: ContainerList,
    index: usize,
    container: &ContainerView<'_>,
    wanted: &DesiredEnv,
    warnings: &mut Vec<Warning>,
) -> Option<(ContainerPlan, Added)> {
    let mut plan = ContainerPlan {
        list,
        index,
        name: container.name.as_str().to_owned(),
        env_from_absent: container.env_from.is_none(),
        env_from: missing_sources(container, wanted),
        env_absent: container.env.is_none(),
        env_before: Vec::new(),
        env_after: Vec::new(),
    };
    if !wanted.env.is_empty() {
        let env = container.env_by_name();
        let literals = container
            .env
            .iter()
            .flatten()
            .filter_map(|entry| entry.value.as_ref());
        let mentioned: BTreeSet<&str> = literals.flat_map(EnvValue::mentions).collect();
        for entry in &wanted.env {
            match env.get(entry.name.as_str()) {
                Some(theirs) if entry.is(theirs) => {}
                Some(_) => {
                    warnings.push(Warning::LeftAlone {
                        variable: entry.name.clone(),
                        container: plan.name.clone(),
                    });
                }
                None if mentioned.contains(entry.name.as_str()) => {
                    plan.env_before.push(entry.clone());
                }
                None => plan.env_after.push(entry.clone()),
            }
        }
    }
    let added = Added {
        env_from: plan
            .env_from
            .iter()
            .map(|(_, secret)| secret.clone())
            .collect(),
        env: plan
            .env_before
            .iter()
            .chain(&plan.env_after)
            .map(|entry| entry.name.clone())
            .collect(),
    };
    (added != Added::default()).then_some((plan, added))
}

/// Whether variables of a default come to a container that has sources of its own: the kubelet lets every `env` entry
/// win against them, and what is in them is not known here.
fn over_sources(
    container: &ContainerView<'_>,
    plan: &ContainerPlan,
    wanted: &DesiredEnv,
) -> Option<Warning> {
    let sources = container.env_from.iter().flatten();
    let theirs = sources.filter(|source| {
        source
            .whole_secret()
            .is_none_or(|name| !wanted.env_from.iter().any(|w| w == name))
    });
    let mut variables = plan
        .env_before
        .iter()
        .chain(&plan.env_after)
        .map(|entry| &entry.name);
    let variable = variables
        .by_ref()
        .find(|name| wanted.by_default.contains(*name))?;
    let more = variables
        .filter(|name| wanted.by_default.contains(*name))
        .count();
    (theirs.count() > 0).then(|| Warning::OverSources {
        variable: variable.clone(),
        more,
        container: plan.name.clone(),
    })
}

/// Our sources stand before the author's, in the annotation's order; those that are there stay where they are.
fn missing_sources(container: &ContainerView<'_>, wanted: &DesiredEnv) -> Vec<(usize, String)> {
    let there = container.whole_secrets();
    let mut inserted = Vec::new();
    let mut front = 0;
    for secret in &wanted.env_from {
        match there.get(secret.as_str()) {
            Some(place) if place + inserted.len() == front => front += 1,
            Some(_) => {}
            None => {
                inserted.push((front, secret.clone()));
                front += 1;
            }
        }
    }
    inserted
}
