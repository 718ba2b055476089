//! Live pods of a workload, evaluated one by one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use injection::{PodView, WorkloadKind};

use super::error::ExplainError;
use super::head::ObjectHead;
use super::layers::PodDefaults;
use super::limits::{MAX_OWNERS, MAX_PODS, PAGE_SIZE};
use super::output::Explanation;
use super::reader::Explainer;
use super::target::pods_path;
use crate::consumers::{PodObject, intermediate_list};
use crate::kubernetes::{ApiError, Representation};
use crate::scan::evaluate;

/// Query of pods that have not ended. Ended ones are not evaluated, and a workload may have many.
const NOT_ENDED: &str = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";

/// Names of the first pods of a workload, and their number.
#[derive(Debug, Default)]
struct OwnedPods {
    names: Vec<String>,
    count: usize,
    /// Whether the workload has more than [`MAX_OWNERS`] objects between it and its pods.
    has_more_owners: bool,
}

impl Explainer {
    /// Adds a sentence for each of the first pods of a workload.
    pub(super) async fn explain_pods_of(
        &self,
        namespace: &str,
        kind: WorkloadKind,
        uid: &str,
        explained: &mut Explanation,
    ) -> Result<(), ExplainError> {
        let owned = match self.pods_of(namespace, kind, uid).await {
            Err(error) if error.kind.is_denied() => {
                explained
                    .notes
                    .push(format!("its pods were not read: {error}"));
                return Ok(());
            }
            owned => owned?,
        };
        if owned.has_more_owners {
            explained.notes.push(format!(
                "it has more than {MAX_OWNERS} ReplicaSets or Jobs, and the pods of further ones were not looked for; scan reads all"
            ));
        }
        // Defaults by service account.
        let mut known = BTreeMap::new();
        for name in &owned.names {
            let path = format!("{}/{name}", pods_path(namespace));
            let body = match self.api.get(&path, Representation::Full).await {
                Err(error) if error.kind.is_denied() => {
                    explained
                        .notes
                        .push(format!("its pods were listed, and not read: {error}"));
                    return Ok(());
                }
                body => body?,
            };
            // The pod may have been deleted meanwhile.
            let Some(body) = body else { continue };
            if let Some(problems) = self.pod_problems(namespace, &body, &mut known).await? {
                let lacks = !problems.is_empty();
                explained.pods.push(pod_line(name, &problems));
                if lacks {
                    explained.problems.push(format!(
                        "pod \"{name}\" lacks secrets: explain pod/{name} has the reason"
                    ));
                }
            }
        }
        let more = owned.count.saturating_sub(owned.names.len());
        if more > 0 {
            explained.notes.push(format!(
                "{more} of its {} pods were not read; scan reads all",
                owned.count
            ));
        }
        if owned.count == 0 {
            explained
                .pods
                .push("it has no pods now, apart from any that have ended".to_owned());
        }
        Ok(())
    }

    /// Problems of a pod; `None` if it has ended or cannot be read.
    async fn pod_problems(
        &self,
        namespace: &str,
        body: &[u8],
        known: &mut BTreeMap<String, PodDefaults>,
    ) -> Result<Option<Vec<String>>, ExplainError> {
        let Ok(pod) = serde_json::from_slice::<PodView<'_>>(body) else {
            return Ok(None);
        };
        let has_ended =
            serde_json::from_slice::<PodObject<'_>>(body).is_ok_and(|pod| pod.has_ended());
        if has_ended {
            return Ok(None);
        }
        let account = pod.service_account();
        let defaults = match known.entry(account.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.read_defaults(namespace, account).await?),
        };
        let layers = defaults
            .applied
            .layers(pod.annotations(), namespace, account);
        let mut problems = evaluate::pod(namespace, &pod, &layers, &self.sidecars).problems;
        problems.extend(defaults.refusals(&layers));
        Ok(Some(problems))
    }

    async fn pods_of(
        &self,
        namespace: &str,
        kind: WorkloadKind,
        uid: &str,
    ) -> Result<OwnedPods, ApiError> {
        let between = match kind {
            WorkloadKind::Deployment | WorkloadKind::Rollout => Some("ReplicaSet"),
            WorkloadKind::CronJob => Some("Job"),
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet | WorkloadKind::Job => None,
        };
        let between = between.and_then(|kind| intermediate_list(kind, namespace));
        let mut uids = BTreeSet::from([uid.to_owned()]);
        let mut pods = OwnedPods::default();
        if let Some(path) = between {
            let mut owned = BTreeSet::new();
            self.for_each_head(&path, "", |head| {
                let is_owned = head.controller_uid() == Some(uid);
                if is_owned && owned.len() < MAX_OWNERS {
                    owned.insert(head.uid.clone());
                } else if is_owned && !owned.contains(&head.uid) {
                    pods.has_more_owners = true;
                }
            })
            .await?;
            uids = owned;
        }
        self.for_each_head(&pods_path(namespace), NOT_ENDED, |head| {
            let is_owned = head.controller_uid().is_some_and(|uid| uids.contains(uid));
            if is_owned && head.deletion_timestamp.is_none() {
                pods.count += 1;
                if pods.names.len() < MAX_PODS {
                    pods.names.push(head.name.clone());
                }
            }
        })
        .await?;
        Ok(pods)
    }

    /// Pages through the metadata of a list.
    async fn for_each_head(
        &self,
        path: &str,
        query: &str,
        mut visit: impl FnMut(&ObjectHead<'_>),
    ) -> Result<(), ApiError> {
        let mut pages = self
            .api
            .pages(path, query, Representation::Metadata, PAGE_SIZE);
        while let Some(page) = pages.next().await? {
            for item in &page.items {
                visit(&ObjectHead::parse(item));
            }
        }
        Ok(())
    }
}

fn pod_line(name: &str, problems: &[String]) -> String {
    if problems.is_empty() {
        format!("pod \"{name}\" has everything that its annotations ask for")
    } else {
        format!("pod \"{name}\": {}", problems.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::ObjectApi;

    const UID: &str = "workload";

    fn owned_by(uid: &str, name: &str) -> Value {
        json!({"metadata": {"name": name, "uid": name, "ownerReferences": [{"uid": uid, "controller": true}]}})
    }

    /// API server whose workload has this number of `ReplicaSets`. The first one has a pod for every name that the
    /// query selects.
    fn explainer(replica_sets: usize) -> Explainer {
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let items: Vec<Value> = if request.uri().path().ends_with("/replicasets") {
                let names = (0..replica_sets).map(|number| format!("rs-{number}"));
                names.map(|name| owned_by(UID, &name)).collect()
            } else if query.contains(NOT_ENDED) {
                vec![owned_by("rs-0", "running"), owned_by("rs-other", "other")]
            } else {
                vec![owned_by("rs-0", "ended")]
            };
            let body = json!({"kind": "PartialObjectMetadataList", "metadata": {}, "items": items});
            let body = Body::from(body.to_string().into_bytes());
            async move { Ok::<_, tower::BoxError>(http::Response::new(body)) }
        });
        let api = ObjectApi::new(kube::Client::new(service, "default"));
        Explainer::new(api, Vec::new(), BTreeSet::new())
    }

    #[tokio::test]
    async fn pods_that_have_not_ended_are_requested() {
        let explainer = explainer(1);
        let found = explainer.pods_of("jobs", WorkloadKind::Deployment, UID);
        let found = found.await.unwrap();
        assert_eq!((found.names, found.count), (vec!["running".to_owned()], 1));
        assert!(!found.has_more_owners);
    }

    #[tokio::test]
    async fn owners_beyond_the_limit_are_noticed() {
        for (count, expected) in [(MAX_OWNERS, false), (MAX_OWNERS + 1, true)] {
            let explainer = explainer(count);
            let found = explainer.pods_of("jobs", WorkloadKind::Rollout, UID);
            assert_eq!(found.await.unwrap().has_more_owners, expected, "{count}");
        }
    }
}
