//! The record: what was really added to a pod or workload, written back as an annotation.
//!
//! What the author had already written is never in it. Authors can write the annotation too, so it is
//! information, never proof: whoever reads it compares it with the containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::container_list::ContainerList;

/// By list, container and kind of entry, the names of what was added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// App containers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, Added>,
    /// Init containers and native sidecars, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub init_containers: BTreeMap<String, Added>,
    /// On a workload: its annotations of ours that were copied to its template, by the part of the name after the
    /// prefix, with the value that was copied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub copied: BTreeMap<String, String>,
    /// On a workload: its template was injected into, and the template's own record says with what.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// On a workload: what was written for the program that restarts it.
    #[serde(default, skip_serializing_if = "Restart::is_empty")]
    pub restart: Restart,
}

/// What was written on a workload's own metadata so that a changed secret restarts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Entries of `secret.reloader.stakater.com/reload`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<String>,
    /// Annotations that the template has, and that ours on the metadata would have hidden from Reloader.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lifted: BTreeMap<String, String>,
    /// `secrets.infisical.com/auto-reload`.
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

/// What was added to one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Added {
    /// Secrets, whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<String>,
    /// Variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
}

impl Record {
    /// Reads the annotation; one that is not a record is none.
    #[must_use]
    pub fn read(annotation: &str) -> Option<Self> {
        serde_json::from_str(annotation).ok()
    }

    /// As the annotation's value.
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

    /// Whether it says nothing at all, about a workload either.
    #[must_use]
    pub fn says_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// One list of it.
    #[must_use]
    pub fn list(&self, list: ContainerList) -> &BTreeMap<String, Added> {
        match list {
            ContainerList::Containers => &self.containers,
            ContainerList::InitContainers => &self.init_containers,
        }
    }

    /// Notes additions to one container, after those that it had before.
    pub(super) fn add(&mut self, list: ContainerList, container: &str, added: Added) {
        let map = match list {
            ContainerList::Containers => &mut self.containers,
            ContainerList::InitContainers => &mut self.init_containers,
        };
        let entry = map.entry(container.to_owned()).or_default();
        for (have, new) in [(&mut entry.env_from, added.env_from), (&mut entry.env, added.env)] {
            let fresh: Vec<String> = new.into_iter().filter(|name| !have.contains(name)).collect();
            have.extend(fresh);
        }
    }
}
