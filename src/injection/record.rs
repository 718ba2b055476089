//! The record: what was really added to a pod, written back as an annotation.
//!
//! What the author had already written is never in it. Authors can write the annotation too, so it is
//! information, never proof: whoever reads it compares it with the containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::ContainerList;

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
