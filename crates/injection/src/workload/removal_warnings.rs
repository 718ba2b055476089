//! Warnings about entries that were removed, if it is unknown whether their author had written them as well.

use crate::contract::warning::{RemovedFrom, Warning};
use crate::keys::{INFISICAL, PREFIX, RELOADER_LIST};
use crate::limits::MAX_LISTED;
use crate::record::Restart;
use crate::view::annotations::Annotations;
use crate::view::pod::PodView;
use crate::workload::reconcile::{Removals, container};

fn warning(from: RemovedFrom, mut names: Vec<String>) -> Option<Warning> {
    let more = names.len().saturating_sub(MAX_LISTED);
    names.truncate(MAX_LISTED);
    (!names.is_empty()).then_some(Warning::EntriesRemoved { from, names, more })
}

/// Warns about entries of a template's containers.
pub(crate) fn from_containers(pod: &PodView<'_>, removals: &[Removals]) -> Vec<Warning> {
    let warnings = removals.iter().flat_map(
        |Removals {
             list,
             index,
             env_from,
             env,
         }| {
            let name = container(pod, *list, *index)
                .map(|container| container.name.as_str().to_owned())
                .unwrap_or_default();
            let names = |entries: &[(usize, String)]| {
                entries.iter().rev().map(|(_, name)| name.clone()).collect()
            };
            [
                warning(
                    RemovedFrom::Sources {
                        list: *list,
                        container: name.clone(),
                    },
                    names(env_from),
                ),
                warning(
                    RemovedFrom::Variables {
                        list: *list,
                        container: name,
                    },
                    names(env),
                ),
            ]
        },
    );
    warnings.flatten().collect()
}

/// Warns about annotations that an earlier version copied to the template, by the part of the name after the prefix.
pub(crate) fn from_template<'k>(keys: impl Iterator<Item = &'k str>) -> Option<Warning> {
    warning(
        RemovedFrom::Template,
        keys.map(|key| format!("{PREFIX}{key}")).collect(),
    )
}

/// Warns about reload annotations that an earlier pass wrote and this one does not.
pub(crate) fn from_metadata(
    metadata: Option<&Annotations<'_>>,
    earlier: &Restart,
    written: &Restart,
) -> Vec<Warning> {
    let current = |name: &str| metadata.and_then(|metadata| metadata.value(name));
    let listed: Vec<&str> = current(RELOADER_LIST)
        .into_iter()
        .flat_map(|list| list.split(',').map(str::trim))
        .collect();
    let is_removed =
        |entry: &&String| listed.contains(&entry.as_str()) && !written.list.contains(entry);
    let entries = earlier.list.iter().filter(is_removed).cloned().collect();
    let promoted = earlier.promoted.iter().filter(|(name, value)| {
        current(name) == Some(value.as_str()) && !written.promoted.contains_key(*name)
    });
    let infisical = earlier.infisical && !written.infisical && current(INFISICAL) == Some("true");
    let annotations = promoted
        .map(|(name, _)| name.clone())
        .chain(infisical.then(|| INFISICAL.to_owned()))
        .collect();
    [
        warning(RemovedFrom::ReloaderList, entries),
        warning(RemovedFrom::Metadata, annotations),
    ]
    .into_iter()
    .flatten()
    .collect()
}
