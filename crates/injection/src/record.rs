//! The record: the entries that the webhook added to a pod or workload, as an annotation.
//!
//! Entries that the author wrote are never in it. Authors can write the annotation too, so it is information, never
//! proof: readers compare it with the containers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::keys::RECORD_KEY;
use crate::limits::{MAX_READ_RECORD_BYTES, MAX_RECORD_BYTES};
use crate::view::annotations::Annotations;
use crate::view::container_list::ContainerList;

/// Bytes of a record's JSON besides names: both maps and the restart entries, a container's two lists, a name's quotes
/// and comma.
const LISTS_BYTES: usize = 128;
const CONTAINER_BYTES: usize = 32;
const SEPARATOR_BYTES: usize = 1;

/// Maximum bytes of JSON for one byte of text: `\u001f`.
const MAX_ESCAPE_BYTES: usize = 6;

/// Length of a text as a JSON string, quotes included.
fn json_len(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 2
}

/// Names of added entries, by list, container and kind of entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// App containers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, Added>,
    /// Init containers and native sidecars, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub init_containers: BTreeMap<String, Added>,
    /// For a workload: annotations that an earlier version copied to its template, by the part of the name after the
    /// prefix, with the copied value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub copied: BTreeMap<String, String>,
    /// For a workload: its template was injected into, and has a record of its own. For a template: the webhook
    /// injected into it as a part of its workload.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// For a workload: entries for the program that restarts it.
    #[serde(default, skip_serializing_if = "Restart::is_empty")]
    pub restart: Restart,
}

/// Entries that the webhook wrote on a workload's own metadata so that a changed secret restarts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Entries of `secret.reloader.stakater.com/reload`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<String>,
    /// Annotations of the template that were promoted to the metadata, because Reloader ignores the template's once the
    /// metadata has one. Older versions wrote them as `lifted`.
    #[serde(default, alias = "lifted", skip_serializing_if = "BTreeMap::is_empty")]
    pub promoted: BTreeMap<String, String>,
    /// Whether `secrets.infisical.com/auto-reload` was written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub infisical: bool,
}

impl Restart {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Entries that were added to one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Added {
    /// Secrets in `envFrom`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<String>,
    /// Variables in `env`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
}

impl Record {
    /// Reads the annotation; `None` if it is not a record, or longer than any that the webhook writes.
    #[must_use]
    pub fn read(annotation: &str) -> Option<Self> {
        (annotation.len() <= MAX_READ_RECORD_BYTES)
            .then(|| serde_json::from_str(annotation).ok())?
    }

    /// Whether `annotations` lack this record. A manifest that replaces an object drops the record with all additions:
    /// entries that it names and that exist anyway are the author's.
    pub(crate) fn is_dropped_from(&self, annotations: Option<&Annotations<'_>>) -> bool {
        !self.is_blank()
            && annotations.is_none_or(|annotations| annotations.get(RECORD_KEY).is_none())
    }

    /// Drops the last entries of a pod's record, so that it is at most [`MAX_RECORD_BYTES`] long. A part of it
    /// suffices: a pod needs its record only to distinguish containers that were added later.
    #[must_use]
    pub(crate) fn shortened(mut self) -> Self {
        let mut room = MAX_RECORD_BYTES.saturating_sub(LISTS_BYTES);
        // Most records are so short that no name has to be measured.
        let containers = self.containers.iter().chain(&self.init_containers);
        let names = containers
            .flat_map(|(name, added)| [name].into_iter().chain(&added.env_from).chain(&added.env));
        let most = names
            .chain(&self.restart.list)
            .map(|name| name.len() * MAX_ESCAPE_BYTES + CONTAINER_BYTES);
        if most.sum::<usize>() <= room {
            return self;
        }
        let mut fits = |text: &str, more: usize| {
            let taken = json_len(text) + more;
            let fits = taken <= room;
            room = if fits { room - taken } else { 0 };
            fits
        };
        self.restart
            .list
            .retain(|entry| fits(entry, SEPARATOR_BYTES));
        for map in [&mut self.containers, &mut self.init_containers] {
            map.retain(|name, added| {
                let there = fits(name, CONTAINER_BYTES);
                added.env_from.retain(|name| fits(name, SEPARATOR_BYTES));
                added.env.retain(|name| fits(name, SEPARATOR_BYTES));
                there && *added != Added::default()
            });
        }
        self
    }

    /// Writes the annotation's value.
    ///
    /// # Panics
    /// Never: maps of strings always serialise.
    #[must_use]
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("maps of strings serialise")
    }

    /// Whether it names no container.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.init_containers.is_empty()
    }

    /// Whether it has no entries at all, for a workload either.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Entries of one list of containers.
    #[must_use]
    pub fn list(&self, list: ContainerList) -> &BTreeMap<String, Added> {
        match list {
            ContainerList::Containers => &self.containers,
            ContainerList::InitContainers => &self.init_containers,
        }
    }

    /// Adds entries of one container, after those that it has.
    pub(crate) fn add(&mut self, list: ContainerList, container: &str, added: Added) {
        let map = match list {
            ContainerList::Containers => &mut self.containers,
            ContainerList::InitContainers => &mut self.init_containers,
        };
        let entry = map.entry(container.to_owned()).or_default();
        for (have, new) in [
            (&mut entry.env_from, added.env_from),
            (&mut entry.env, added.env),
        ] {
            if have.is_empty() {
                *have = new;
            } else {
                let known: BTreeSet<String> = have.iter().cloned().collect();
                have.extend(new.into_iter().filter(|name| !known.contains(name)));
            }
        }
    }
}
