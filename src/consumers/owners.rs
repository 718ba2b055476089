//! Workloads that pods belong to: the owner of a pod's ReplicaSet or Job, read once for each.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kinds::{WorkloadList, intermediate_list};
use super::limits::MAX_OWNERS_READ;
use super::pod_object::{PodOwnerReference, controller_of};
use crate::kubernetes::{ApiError, ObjectApi, Representation};

/// Kind and name of a workload, or of a pod's direct owner if that has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodOwner {
    pub kind: String,
    pub name: String,
}

/// Owner of a pod, as far as it could be determined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnerLookup {
    pub owner: PodOwner,
    /// Whether nothing else than `owner` decides about the pod: not if the owner of its `ReplicaSet` or Job was not
    /// read, or is of a kind without a pod template.
    pub is_known: bool,
}

/// Owners of the pods of one namespace.
#[derive(Debug)]
pub(crate) struct PodOwners<'a> {
    api: &'a ObjectApi,
    namespace: &'a str,
    known: BTreeMap<PodOwner, OwnerLookup>,
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
    pub async fn workload_of(&mut self, controller: &PodOwnerReference) -> OwnerLookup {
        let direct = PodOwner {
            kind: controller.kind.clone(),
            name: controller.name.clone(),
        };
        let lookup = |is_known| OwnerLookup {
            owner: direct.clone(),
            is_known,
        };
        let Some(list) = intermediate_list(&direct.kind, self.namespace) else {
            return lookup(true);
        };
        if let Some(known) = self.known.get(&direct) {
            return known.clone();
        }
        if !is_object_name(&direct.name) {
            return lookup(false);
        }
        if self.known.len() >= MAX_OWNERS_READ {
            self.note.get_or_insert_with(|| {
                format!(
                    "owners of more than {MAX_OWNERS_READ} ReplicaSets and Jobs were not read, so their pods are listed under these"
                )
            });
            return lookup(false);
        }
        let found = match self.read(&format!("{list}/{}", direct.name)).await {
            Ok(None) => lookup(true),
            // Objects of other kinds are not read, so the pod is listed under the object that is.
            Ok(Some(owner)) if WorkloadList::titled(&owner.kind).is_none() => lookup(false),
            Ok(Some(owner)) => OwnerLookup {
                owner,
                is_known: true,
            },
            Err(error) => {
                self.note.get_or_insert_with(|| {
                    format!("owners of ReplicaSets or Jobs were not read: {error}")
                });
                lookup(false)
            }
        };
        self.known.insert(direct, found.clone());
        found
    }

    /// Owner of the object at a path.
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

/// Whether a name may be part of a path: anybody can write owner references.
fn is_object_name(name: &str) -> bool {
    name.parse::<injection::SecretName>().is_ok()
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// API server whose `ReplicaSets` have a Deployment as owner, and whose Jobs have a `ScaledJob`.
    fn api() -> ObjectApi {
        let service = tower::service_fn(|request: http::Request<Body>| {
            let is_job = request.uri().path().contains("/jobs/");
            let kind = if is_job { "ScaledJob" } else { "Deployment" };
            let owner = json!({"kind": kind, "name": "api", "controller": true});
            let body = json!({"metadata": {"name": "x", "ownerReferences": [owner]}}).to_string();
            async move { Ok::<_, tower::BoxError>(http::Response::new(Body::from(body.into_bytes()))) }
        });
        ObjectApi::new(kube::Client::new(service, "default"))
    }

    fn controller(kind: &str, name: &str) -> PodOwnerReference {
        serde_json::from_value(json!({"kind": kind, "name": name, "controller": true})).unwrap()
    }

    #[tokio::test]
    async fn owners_without_a_pod_template_are_not_workloads() {
        let api = api();
        let mut owners = PodOwners::new(&api, "team");
        let found = owners.workload_of(&controller("Job", "run-1")).await;
        assert_eq!((found.owner.kind.as_str(), found.is_known), ("Job", false));
        let found = owners.workload_of(&controller("ReplicaSet", "api-1")).await;
        assert_eq!(
            (found.owner.kind.as_str(), found.is_known),
            ("Deployment", true)
        );
        assert_eq!(owners.note, None);
    }

    #[tokio::test]
    async fn owners_beyond_the_limit_are_unknown_with_a_note() {
        let api = api();
        let mut owners = PodOwners::new(&api, "team");
        for number in 0..MAX_OWNERS_READ {
            let reference = controller("ReplicaSet", &format!("api-{number}"));
            assert!(owners.workload_of(&reference).await.is_known);
        }
        let found = owners.workload_of(&controller("ReplicaSet", "last")).await;
        assert_eq!(
            (found.owner.kind.as_str(), found.is_known),
            ("ReplicaSet", false)
        );
        assert!(owners.note.unwrap().contains("were not read"));
    }
}
