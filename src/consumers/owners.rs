//! Workloads that pods belong to: the owner of a pod's ReplicaSet or Job, read once for each.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::limits::MAX_OWNERS_READ;
use super::pod_object::{PodOwnerReference, controller_of};
use crate::kubernetes::{ApiError, ObjectApi, Representation};

/// Kind and name of a workload, or of a pod's direct owner if that has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodOwner {
    pub kind: String,
    pub name: String,
}

/// Owners of the pods of one namespace.
#[derive(Debug)]
pub(crate) struct PodOwners<'a> {
    api: &'a ObjectApi,
    namespace: &'a str,
    known: BTreeMap<PodOwner, PodOwner>,
    /// Sentence about owners that could not be read.
    pub note: Option<String>,
}

#[derive(Deserialize)]
struct OwnedObject {
    metadata: OwnedMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnedMetadata {
    #[serde(default)]
    owner_references: Option<Vec<PodOwnerReference>>,
}

impl<'a> PodOwners<'a> {
    pub fn new(api: &'a ObjectApi, namespace: &'a str) -> Self {
        Self {
            api,
            namespace,
            known: BTreeMap::new(),
            note: None,
        }
    }

    /// Workload of a pod with this controller.
    pub async fn workload_of(&mut self, controller: &PodOwnerReference) -> PodOwner {
        let direct = PodOwner {
            kind: controller.kind.clone(),
            name: controller.name.clone(),
        };
        let Some(list) = list_with_owner(&direct.kind) else {
            return direct;
        };
        if let Some(known) = self.known.get(&direct) {
            return known.clone();
        }
        if self.known.len() >= MAX_OWNERS_READ || !is_object_name(&direct.name) {
            return direct;
        }
        let path = format!("{}/{}", list.replace("{}", self.namespace), direct.name);
        let owner = match self.read(&path).await {
            Ok(owner) => owner.unwrap_or_else(|| direct.clone()),
            Err(error) => {
                self.note.get_or_insert_with(|| {
                    format!("owners of ReplicaSets or Jobs were not read: {error}")
                });
                direct.clone()
            }
        };
        self.known.insert(direct, owner.clone());
        owner
    }

    async fn read(&self, path: &str) -> Result<Option<PodOwner>, ApiError> {
        let body = self.api.get(path, Representation::Metadata).await?;
        let object: Option<OwnedObject> = body.and_then(|body| serde_json::from_slice(&body).ok());
        let owner = object.and_then(|object| {
            let owner = controller_of(object.metadata.owner_references.as_ref())?;
            Some(PodOwner {
                kind: owner.kind.clone(),
                name: owner.name.clone(),
            })
        });
        Ok(owner)
    }
}

/// List of a kind whose objects are made by workloads, with `{}` for the namespace.
fn list_with_owner(kind: &str) -> Option<&'static str> {
    match kind {
        "ReplicaSet" => Some("/apis/apps/v1/namespaces/{}/replicasets"),
        "Job" => Some("/apis/batch/v1/namespaces/{}/jobs"),
        _ => None,
    }
}

/// Whether a name may be part of a path: anybody can write owner references.
fn is_object_name(name: &str) -> bool {
    name.parse::<injection::SecretName>().is_ok()
}
