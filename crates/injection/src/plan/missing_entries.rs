//! Entries that one container lacks, in their order among the author's.

use std::collections::BTreeSet;

use crate::contract::warning::Warning;
use crate::plan::injection_plan::ContainerPlan;
use crate::plan::resolve::DesiredEnv;
use crate::record::Added;
use crate::view::container::{ContainerView, EnvValue};
use crate::view::container_list::ContainerList;

/// Plans the entries that one container lacks, and what the record will list; `None` if it lacks none.
pub(crate) fn missing_entries(
    list: ContainerList,
    index: usize,
    container: &ContainerView<'_>,
    desired: &DesiredEnv,
    warnings: &mut Vec<Warning>,
) -> Option<(ContainerPlan, Added)> {
    let mut plan = ContainerPlan {
        list,
        index,
        name: container.name.as_str().to_owned(),
        env_from_absent: container.env_from.is_none(),
        env_from: missing_sources(container, desired),
        env_absent: container.env.is_none(),
        env_before: Vec::new(),
        env_after: Vec::new(),
    };
    if !desired.env.is_empty() {
        let env = container.env_by_name();
        let literals = container
            .env
            .iter()
            .flatten()
            .filter_map(|entry| entry.value.as_ref());
        let mentioned: BTreeSet<&str> = literals.flat_map(EnvValue::mentions).collect();
        for entry in &desired.env {
            match env.get(entry.name.as_str()) {
                Some(existing) if entry.matches(existing) => {}
                Some(_) => {
                    warnings.push(Warning::AlreadySet {
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
    let added = added_by(&plan);
    (added != Added::default()).then_some((plan, added))
}

/// Names of the entries that a plan adds, for the record.
pub(crate) fn added_by(plan: &ContainerPlan) -> Added {
    Added {
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
    }
}

/// Warning about variables of a default that are added to a container with sources of its own: in the kubelet every
/// `env` entry overrides `envFrom`, and the keys of the container's own sources are unknown here.
pub(crate) fn override_warning(
    container: &ContainerView<'_>,
    plan: &ContainerPlan,
    desired: &DesiredEnv,
) -> Option<Warning> {
    let sources = container.env_from.iter().flatten();
    let own_sources = sources.filter(|source| {
        source
            .whole_secret()
            .is_none_or(|name| !desired.env_from.iter().any(|secret| secret == name))
    });
    let mut variables = plan
        .env_before
        .iter()
        .chain(&plan.env_after)
        .map(|entry| &entry.name);
    let variable = variables
        .by_ref()
        .find(|name| desired.by_default.contains(*name))?;
    let more = variables
        .filter(|name| desired.by_default.contains(*name))
        .count();
    (own_sources.count() > 0).then(|| Warning::OverridesSources {
        variable: variable.clone(),
        more,
        container: plan.name.clone(),
    })
}

/// Sources to insert: before the author's, in the annotation's order. Existing sources keep their places.
fn missing_sources(container: &ContainerView<'_>, desired: &DesiredEnv) -> Vec<(usize, String)> {
    let existing = container.whole_secrets();
    let mut inserted = Vec::new();
    let mut front = 0;
    for secret in &desired.env_from {
        match existing.get(secret.as_str()) {
            Some(index) if index + inserted.len() == front => front += 1,
            Some(_) => {}
            None => {
                inserted.push((front, secret.clone()));
                front += 1;
            }
        }
    }
    inserted
}
