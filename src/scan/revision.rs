//! The two latest revisions of each workload, by number and name, without their templates.
//!
//! Anybody in a namespace may write its `ReplicaSets` and `ControllerRevisions`. A revision counts only in its own
//! namespace and only for the uid of its controller owner reference, so a forged one affects no other namespace. The
//! number of workloads that are kept is bounded for each namespace and in total.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use super::objects::{is_object_name, object_meta};
use super::revision_store::{RevisionStore, revision_number};
use injection::{Annotations, INJECTED, PREFIX, WorkloadKind};

/// Limit of workloads per namespace whose revisions are compared.
const MAX_WORKLOADS_PER_NAMESPACE: usize = 5_000;

/// Limit of workloads in one list whose revisions are compared.
const MAX_WORKLOADS: usize = 100_000;

/// Annotations of a template.
#[derive(Deserialize)]
struct AnnotatedTemplate<'a> {
    #[serde(borrow, default)]
    metadata: Option<TemplateAnnotations<'a>>,
}

#[derive(Deserialize)]
struct TemplateAnnotations<'a> {
    #[serde(borrow, default)]
    annotations: Option<Annotations<'a>>,
}

/// One revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision {
    pub number: i64,
    /// `metadata.name` of the object that stores the revision.
    pub name: String,
    /// Digest of the template's annotations with the webhook's prefix; `None` if there are none or they cannot be
    /// parsed.
    digest: Option<u64>,
}

/// A workload whose two latest revisions differ in annotations with the webhook's prefix, and whose previous one has
/// any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RevisionCandidate {
    pub namespace: String,
    pub kind: WorkloadKind,
    pub name: String,
    pub uid: String,
    pub previous: Revision,
    pub latest: Revision,
}

#[derive(Debug)]
struct History {
    kind: WorkloadKind,
    name: String,
    /// At most two revisions, the latest first.
    revisions: Vec<Revision>,
}

/// Histories by namespace and by the workload's uid.
#[derive(Debug)]
pub(super) struct Histories {
    store: RevisionStore,
    namespaces: BTreeMap<String, BTreeMap<String, History>>,
    workloads: usize,
    /// Whether workloads were skipped because there are too many.
    pub truncated: bool,
}

impl Histories {
    pub fn new(store: RevisionStore) -> Self {
        Self {
            store,
            namespaces: BTreeMap::new(),
            workloads: 0,
            truncated: false,
        }
    }

    /// Adds an object of the list. A restarted list returns objects again; each counts once.
    pub fn add(&mut self, item: &[u8], selects: impl FnOnce(&str) -> bool) {
        let Some(mut meta) = object_meta(item).filter(|meta| meta.deletion_timestamp.is_none())
        else {
            return;
        };
        let Some(owner) = meta
            .controller()
            .filter(|owner| !owner.uid.is_empty() && is_object_name(&owner.name))
        else {
            return;
        };
        let Some(namespace) = meta.namespace.filter(|namespace| selects(namespace)) else {
            return;
        };
        let kind = WorkloadKind::of_manifest(&owner.api_version, &owner.kind);
        let Some(kind) = kind.filter(|kind| self.store.holds(*kind)) else {
            return;
        };
        let Some(number) = revision_number(kind, item) else {
            return;
        };
        let revision = Revision {
            number,
            name: meta.name,
            digest: self.digest(item),
        };
        let workloads = self.namespaces.entry(namespace).or_default();
        if !workloads.contains_key(&owner.uid) {
            if workloads.len() >= MAX_WORKLOADS_PER_NAMESPACE || self.workloads >= MAX_WORKLOADS {
                self.truncated = true;
                return;
            }
            self.workloads += 1;
        }
        let history = workloads.entry(owner.uid);
        let history = history.or_insert_with(|| History {
            kind,
            name: owner.name,
            revisions: Vec::new(),
        });
        history
            .revisions
            .retain(|known| known.name != revision.name);
        history.revisions.push(revision);
        history.revisions.sort_by(|one, other| {
            Reverse((one.number, one.name.as_str()))
                .cmp(&Reverse((other.number, other.name.as_str())))
        });
        history.revisions.truncate(2);
    }

    fn digest(&self, item: &[u8]) -> Option<u64> {
        let annotations = self
            .store
            .template::<AnnotatedTemplate<'_>>(item)?
            .metadata?
            .annotations?;
        annotations.has_requests().then(|| {
            let mut hasher = DefaultHasher::new();
            // The record lists what was added. It does not refer to secrets.
            let referring = annotations
                .ours()
                .filter(|(key, _)| INJECTED.strip_prefix(PREFIX) != Some(*key));
            referring.for_each(|annotation| annotation.hash(&mut hasher));
            hasher.finish()
        })
    }

    /// Workloads whose latest revision may lack an annotation of the previous one.
    pub fn candidates(self) -> impl Iterator<Item = RevisionCandidate> {
        self.namespaces
            .into_iter()
            .flat_map(|(namespace, workloads)| {
                workloads.into_iter().filter_map(
                    move |(
                        uid,
                        History {
                            kind,
                            name,
                            revisions,
                        },
                    )| {
                        let [latest, previous]: [Revision; 2] = revisions.try_into().ok()?;
                        let may_lack_annotation =
                            previous.digest.is_some() && previous.digest != latest.digest;
                        let namespace = namespace.clone();
                        may_lack_annotation.then_some(RevisionCandidate {
                            namespace,
                            kind,
                            name,
                            uid,
                            previous,
                            latest,
                        })
                    },
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn owner(kind: &str, uid: &str) -> Value {
        let version = if kind == "Rollout" {
            "argoproj.io/v1alpha1"
        } else {
            "apps/v1"
        };
        json!([{"apiVersion": version, "kind": kind, "name": "web", "uid": uid, "controller": true}])
    }

    fn template(bulk: Option<&str>) -> Value {
        let annotations = bulk.map(
            |bulk| json!({"secrets.floe.dev/env-from": bulk, "secrets.floe.dev/injected": "{}"}),
        );
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}})
    }

    fn replica_set(number: i64, owner: &Value, bulk: Option<&str>) -> Value {
        let annotations = json!({"deployment.kubernetes.io/revision": number.to_string()});
        let metadata = json!({
            "namespace": "jobs", "name": format!("web-{number}"), "uid": "r", "annotations": annotations,
            "ownerReferences": owner,
        });
        json!({"metadata": metadata, "spec": {"template": template(bulk)}})
    }

    fn controller_revision(number: i64, owner: &Value, data: &Value) -> Value {
        let name = format!("web-{number}");
        let metadata =
            json!({"namespace": "jobs", "name": name, "uid": "c", "ownerReferences": owner});
        json!({"metadata": metadata, "revision": number, "data": data})
    }

    fn candidates(store: RevisionStore, items: &[Value]) -> Vec<(String, i64, i64)> {
        let mut histories = Histories::new(store);
        for item in items {
            histories.add(item.to_string().as_bytes(), |namespace| {
                namespace != "exempt"
            });
        }
        histories
            .candidates()
            .map(|candidate| {
                let (previous, latest) = (candidate.previous, candidate.latest);
                (candidate.uid, previous.number, latest.number)
            })
            .collect()
    }

    #[rstest]
    #[case::annotation_removed(Some("db"), None, true)]
    #[case::annotation_changed(Some("db"), Some("s3"), true)]
    #[case::annotation_kept(Some("db"), Some("db"), false)]
    #[case::no_annotation(None, None, false)]
    #[case::annotation_added(None, Some("db"), false)]
    fn revisions_are_compared_by_their_annotations(
        #[case] before: Option<&str>,
        #[case] now: Option<&str>,
        #[case] expected: bool,
    ) {
        let deployment = owner("Deployment", "u");
        // Lists are ordered by name: revision 10 comes before revision 9.
        let sets = [
            replica_set(10, &deployment, now),
            replica_set(8, &deployment, Some("older")),
            replica_set(9, &deployment, before),
            replica_set(10, &deployment, now),
        ];
        let expected = if expected {
            vec![("u".to_owned(), 9, 10)]
        } else {
            Vec::new()
        };
        assert_eq!(candidates(RevisionStore::ReplicaSets, &sets), expected);
        let stateful = owner("StatefulSet", "u");
        let revision = |number, bulk| {
            let data = json!({"spec": {"template": template(bulk)}});
            controller_revision(number, &stateful, &data)
        };
        let revisions = [
            revision(10, now),
            revision(8, Some("older")),
            revision(9, before),
        ];
        assert_eq!(
            candidates(RevisionStore::ControllerRevisions, &revisions),
            expected
        );
    }

    #[test]
    fn revisions_of_another_owner_or_namespace_do_not_count() {
        let own = owner("Deployment", "u");
        let mut not_a_controller = own.clone();
        not_a_controller[0]["controller"] = false.into();
        let mut elsewhere = replica_set(9, &own, None);
        elsewhere["metadata"]["namespace"] = "other".into();
        let mut exempt = [replica_set(1, &own, Some("db")), replica_set(2, &own, None)];
        for set in &mut exempt {
            set["metadata"]["namespace"] = "exempt".into();
        }
        let mut deleted = replica_set(9, &own, None);
        deleted["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into();
        let sets = [
            replica_set(1, &own, Some("db")),
            replica_set(9, &owner("Deployment", "another"), None),
            replica_set(9, &owner("CloneSet", "u"), None),
            replica_set(9, &owner("StatefulSet", "u"), None),
            replica_set(9, &owner("Rollout", "u"), None),
            replica_set(9, &owner("Deployment", ""), None),
            replica_set(9, &not_a_controller, None),
            elsewhere,
            deleted,
        ];
        assert_eq!(
            candidates(RevisionStore::ReplicaSets, &[&sets[..], &exempt].concat()),
            []
        );
        let only = [replica_set(1, &own, Some("db")), replica_set(2, &own, None)];
        assert_eq!(
            candidates(RevisionStore::ReplicaSets, &only),
            [("u".to_owned(), 1, 2)]
        );
    }

    #[rstest]
    #[case("../../../other/secrets/db")]
    #[case("a b")]
    #[case("..")]
    #[case("")]
    fn names_that_would_change_a_path_do_not_count(#[case] name: &str) {
        let mut forged = owner("Deployment", "u");
        forged[0]["name"] = name.into();
        let sets = [
            replica_set(1, &forged, Some("db")),
            replica_set(2, &forged, None),
        ];
        assert_eq!(candidates(RevisionStore::ReplicaSets, &sets), []);
    }

    #[test]
    fn rollouts_number_their_own_replica_sets() {
        let set = |number: i64, bulk| {
            let mut set = replica_set(number, &owner("Rollout", "u"), bulk);
            set["metadata"]["annotations"] =
                json!({"rollout.argoproj.io/revision": number.to_string()});
            set
        };
        let sets = [set(1, Some("db")), set(2, None)];
        assert_eq!(
            candidates(RevisionStore::ReplicaSets, &sets),
            [("u".to_owned(), 1, 2)]
        );
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!([1]))]
    #[case(json!({"spec": {"template": 7}}))]
    #[case(json!({"spec": {"template": {"metadata": {"annotations": {"secrets.floe.dev/refs": 7}}}}}))]
    fn revision_with_data_of_any_type_has_no_references(#[case] data: Value) {
        let set = owner("DaemonSet", "u");
        let referring = json!({"spec": {"template": template(Some("db"))}});
        let revisions = [
            controller_revision(1, &set, &referring),
            controller_revision(2, &set, &data),
        ];
        assert_eq!(
            candidates(RevisionStore::ControllerRevisions, &revisions),
            [("u".to_owned(), 1, 2)]
        );
        let revisions = [
            controller_revision(1, &set, &data),
            controller_revision(2, &set, &referring),
        ];
        assert_eq!(
            candidates(RevisionStore::ControllerRevisions, &revisions),
            []
        );
    }

    #[test]
    fn workloads_of_a_namespace_are_bounded() {
        let mut histories = Histories::new(RevisionStore::ReplicaSets);
        for number in 0..=MAX_WORKLOADS_PER_NAMESPACE {
            let set = replica_set(1, &owner("Deployment", &format!("u{number}")), None);
            histories.add(set.to_string().as_bytes(), |_| true);
            assert_eq!(histories.truncated, number == MAX_WORKLOADS_PER_NAMESPACE);
        }
        let mut other = replica_set(1, &owner("Deployment", "v"), None);
        other["metadata"]["namespace"] = "other".into();
        histories.add(other.to_string().as_bytes(), |_| true);
        assert_eq!(
            histories.workloads,
            MAX_WORKLOADS_PER_NAMESPACE + 1,
            "each namespace has its own share"
        );
    }
}
