//! Warnings about entries that were taken back, where nobody can tell whether their author had written them as well.

use crate::contract::problem::{Taken, Warning};
use crate::keys::{INFISICAL, PREFIX, RELOADER_LIST};
use crate::limits::MAX_LISTED;
use crate::record::Restart;
use crate::view::pod::{Annotations, PodView};
use crate::workload::revise::{Removals, container};

fn warning(from: Taken, mut names: Vec<String>) -> Option<Warning> {
    let more = names.len().saturating_sub(MAX_LISTED);
    names.truncate(MAX_LISTED);
    (!names.is_empty()).then_some(Warning::TakenBack { from, names, more })
}

/// Entries of a template's containers.
pub(crate) fn from_containers(pod: &PodView<'_>, withdrawn: &[Removals]) -> Vec<Warning> {
    let warnings = withdrawn.iter().flat_map(
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
                    Taken::AnnotationLayers {
                        list: *list,
                        container: name.clone(),
                    },
                    names(env_from),
                ),
                warning(
                    Taken::Variables {
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

/// Annotations of a template that an earlier version copied there, by the part of the name after the prefix.
pub(crate) fn from_template<'k>(keys: impl Iterator<Item = &'k str>) -> Option<Warning> {
    warning(
        Taken::Template,
        keys.map(|key| format!("{PREFIX}{key}")).collect(),
    )
}

/// What was written for the program that restarts the workload, and is not any more.
pub(crate) fn from_metadata(
    metadata: Option<&Annotations<'_>>,
    was: &Restart,
    written: &Restart,
) -> Vec<Warning> {
    let there = |name: &str| metadata.and_then(|metadata| metadata.value(name));
    let listed: Vec<&str> = there(RELOADER_LIST)
        .into_iter()
        .flat_map(|list| list.split(',').map(str::trim))
        .collect();
    let is_gone =
        |entry: &&String| listed.contains(&entry.as_str()) && !written.list.contains(entry);
    let entries = was.list.iter().filter(is_gone).cloned().collect();
    let promoted = was.promoted.iter().filter(|(name, value)| {
        there(name) == Some(value.as_str()) && !written.promoted.contains_key(*name)
    });
    let infisical = was.infisical && !written.infisical && there(INFISICAL) == Some("true");
    let annotations = promoted
        .map(|(name, _)| name.clone())
        .chain(infisical.then(|| INFISICAL.to_owned()))
        .collect();
    [
        warning(Taken::ReloaderList, entries),
        warning(Taken::Metadata, annotations),
    ]
    .into_iter()
    .flatten()
    .collect()
}
