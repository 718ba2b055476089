//! Reload annotations of one object: names, limits, and the entries that the webhook wrote.

use std::collections::BTreeMap;

use crate::keys::{INFISICAL, RELOADER_LIST as LIST};
use crate::limits::MAX_RELOAD_BYTES;
use crate::record::Restart;
use crate::view::annotations::Annotations;

pub(crate) const AUTO: &str = "reloader.stakater.com/auto";
pub(crate) const SECRET_AUTO: &str = "secret.reloader.stakater.com/auto";
pub(crate) const SEARCH: &str = "reloader.stakater.com/search";
pub(crate) const IGNORE: &str = "reloader.stakater.com/ignore";
pub(crate) const EXCLUDE: &str = "secrets.exclude.reloader.stakater.com/reload";

/// Reload annotations by their full names.
pub(crate) type ReloadAnnotations = BTreeMap<String, String>;

/// Whether the reload annotations are longer than anybody writes: they are not merged.
pub(crate) fn is_too_long(annotations: Option<&Annotations<'_>>) -> bool {
    let reload = annotations
        .map(Annotations::reload_annotations)
        .unwrap_or_default();
    reload
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>()
        > MAX_RELOAD_BYTES
}

/// Copies the reload annotations of an object.
pub(crate) fn reload_annotations(annotations: Option<&Annotations<'_>>) -> ReloadAnnotations {
    let reload = annotations
        .map(Annotations::reload_annotations)
        .unwrap_or_default();
    reload
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Removes what the webhook wrote, as far as it still exists.
pub(crate) fn without_written(
    mut annotations: ReloadAnnotations,
    written: &Restart,
) -> ReloadAnnotations {
    let Restart {
        list,
        promoted,
        infisical,
    } = written;
    if let Some(existing) = annotations.get(LIST) {
        // Both lists may be forged, and thousands of items long: each is read once.
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in list {
            *left.entry(entry).or_default() += 1;
        }
        let mut segments: Vec<&str> = existing.split(',').rev().collect();
        segments.retain(|segment| match left.get_mut(segment.trim()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            Some(_) | None => true,
        });
        segments.reverse();
        let rest = (!segments.is_empty()).then(|| segments.join(","));
        match rest {
            Some(rest) => annotations.insert(LIST.to_owned(), rest),
            None => annotations.remove(LIST),
        };
    }
    for (key, value) in promoted {
        if annotations.get(key) == Some(value) {
            annotations.remove(key);
        }
    }
    if *infisical
        && annotations
            .get(INFISICAL)
            .is_some_and(|value| value == "true")
    {
        annotations.remove(INFISICAL);
    }
    annotations
}

/// Adds what the webhook writes. The author's list stays as it is, before the webhook's: an empty item matches nothing.
pub(crate) fn with_written(
    mut annotations: ReloadAnnotations,
    written: &Restart,
) -> ReloadAnnotations {
    let Restart {
        list,
        promoted,
        infisical,
    } = written;
    for (key, value) in promoted {
        annotations.insert(key.clone(), value.clone());
    }
    if !list.is_empty() {
        let entries = list.join(",");
        let merged = match annotations.get(LIST) {
            Some(existing) => format!("{existing},{entries}"),
            None => entries,
        };
        annotations.insert(LIST.to_owned(), merged);
    }
    if *infisical {
        annotations.insert(INFISICAL.to_owned(), "true".to_owned());
    }
    annotations
}
