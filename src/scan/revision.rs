//! Revisions of workloads: the two latest of each, by number and name, without their templates.
//!
//! `ReplicaSets` and `ControllerRevisions` can be written by anybody in their namespace. A revision counts only in its own
//! namespace and only for the uid of its controller owner reference, so a forged one affects no other namespace. The
//! number of workloads that are kept is bounded for each namespace and in all.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::objects::{is_object_name, meta};
use super::scanner::Kind;
use injection::{Annotations, CowStr, INJECTED, PREFIX, WorkloadKind};

/// Workloads of one namespace whose revisions are compared.
const MAX_IN_NAMESPACE: usize = 5_000;

/// Workloads whose revisions are compared in one list.
const MAX_IN_ALL: usize = 100_000;

const REPLICA_SETS: Kind = Kind::of_revisions("ReplicaSet", "replicasets");
const CONTROLLER_REVISIONS: Kind = Kind::of_revisions("ControllerRevision", "controllerrevisions");

/// The resource in which the revisions of a workload are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Of Deployments and Rollouts; the number is an annotation.
    ReplicaSets,
    /// Of `StatefulSets` and `DaemonSets`; the number is a field.
    ControllerRevisions,
}

impl Store {
    pub const ALL: [Self; 2] = [Self::ReplicaSets, Self::ControllerRevisions];

    pub fn resource(self) -> Kind {
        match self {
            Self::ReplicaSets => REPLICA_SETS,
            Self::ControllerRevisions => CONTROLLER_REVISIONS,
        }
    }

    /// Whether the controller of this kind stores its revisions here.
    fn holds(self, kind: WorkloadKind) -> bool {
        match kind {
            WorkloadKind::Deployment | WorkloadKind::Rollout => self == Self::ReplicaSets,
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
                self == Self::ControllerRevisions
            }
            WorkloadKind::Job | WorkloadKind::CronJob => false,
        }
    }

    /// The pod template of a revision, or the part of it that `T` reads.
    pub fn template<'a, T: Deserialize<'a>>(self, body: &'a [u8]) -> Option<T> {
        let Object { spec, data, .. } = serde_json::from_slice(body).ok()?;
        let spec: Spec<T> = match self {
            Self::ReplicaSets => serde_json::from_str(spec?.get()).ok()?,
            Self::ControllerRevisions => serde_json::from_str::<Data<T>>(data?.get()).ok()?.spec,
        };
        Some(spec.template)
    }
}

/// A `ReplicaSet` or `ControllerRevision`. Both payloads stay unread, because that of a `ControllerRevision` may be any JSON.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Numbers<'a>,
    #[serde(default)]
    revision: Option<i64>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Numbers<'a> {
    #[serde(borrow, default)]
    annotations: Option<NumberAnnotations<'a>>,
}

#[derive(Deserialize)]
struct NumberAnnotations<'a> {
    #[serde(rename = "deployment.kubernetes.io/revision", borrow, default)]
    deployment: Option<CowStr<'a>>,
    #[serde(rename = "rollout.argoproj.io/revision", borrow, default)]
    rollout: Option<CowStr<'a>>,
}

#[derive(Deserialize)]
struct Data<T> {
    spec: Spec<T>,
}

#[derive(Deserialize)]
struct Spec<T> {
    template: T,
}

/// A template, as far as its annotations go.
#[derive(Deserialize)]
struct Annotated<'a> {
    #[serde(borrow, default)]
    metadata: Option<AnnotatedMetadata<'a>>,
}

#[derive(Deserialize)]
struct AnnotatedMetadata<'a> {
    #[serde(borrow, default)]
    annotations: Option<Annotations<'a>>,
}

/// One revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision {
    pub number: i64,
    /// `metadata.name` of the object that stores it.
    pub name: String,
    /// A digest of the template's annotations of the contract; `None` if it has none or cannot be read.
    digest: Option<u64>,
}

/// A workload whose two latest revisions have different annotations of the contract, the previous one some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
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
    /// At most two, the latest first.
    revisions: Vec<Revision>,
}

/// The two latest revisions of workloads, by namespace and by the workload's uid.
#[derive(Debug)]
pub(super) struct Histories {
    store: Store,
    namespaces: BTreeMap<String, BTreeMap<String, History>>,
    workloads: usize,
    /// Whether workloads were left out because there are too many.
    pub truncated: bool,
}

impl Histories {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            namespaces: BTreeMap::new(),
            workloads: 0,
            truncated: false,
        }
    }

    /// Adds an object of the list. One that comes twice, because the list had to begin anew, counts once.
    pub fn add(&mut self, item: &[u8], selects: impl FnOnce(&str) -> bool) {
        let Some(mut meta) = meta(item).filter(|meta| meta.deletion_timestamp.is_none()) else {
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
        let Some(number) = number(kind, item) else {
            return;
        };
        let revision = Revision {
            number,
            name: meta.name,
            digest: self.digest(item),
        };
        let workloads = self.namespaces.entry(namespace).or_default();
        if !workloads.contains_key(&owner.uid) {
            if workloads.len() >= MAX_IN_NAMESPACE || self.workloads >= MAX_IN_ALL {
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
            .template::<Annotated<'_>>(item)?
            .metadata?
            .annotations?;
        annotations.say_anything().then(|| {
            let mut hasher = DefaultHasher::new();
            // The record says what was added, and not what is asked for.
            let asking = annotations
                .ours()
                .filter(|(key, _)| INJECTED.strip_prefix(PREFIX) != Some(*key));
            asking.for_each(|annotation| annotation.hash(&mut hasher));
            hasher.finish()
        })
    }

    /// The workloads whose annotations may be gone.
    pub fn candidates(self) -> impl Iterator<Item = Candidate> {
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
                        let may_be_gone =
                            previous.digest.is_some() && previous.digest != latest.digest;
                        let namespace = namespace.clone();
                        may_be_gone.then_some(Candidate {
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

/// The number of a revision, where the controller of this kind writes it.
fn number(kind: WorkloadKind, item: &[u8]) -> Option<i64> {
    let Object {
        metadata, revision, ..
    } = serde_json::from_slice(item).ok()?;
    let parse = |text: Option<CowStr<'_>>| text?.as_str().parse().ok();
    match kind {
        WorkloadKind::Deployment => parse(metadata.annotations?.deployment),
        WorkloadKind::Rollout => parse(metadata.annotations?.rollout),
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => revision,
        WorkloadKind::Job | WorkloadKind::CronJob => None,
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

    fn template(asks: Option<&str>) -> Value {
        let annotations = asks.map(
            |asks| json!({"secrets.floe.dev/env-from": asks, "secrets.floe.dev/injected": "{}"}),
        );
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}})
    }

    fn replica_set(number: i64, owner: &Value, asks: Option<&str>) -> Value {
        let annotations = json!({"deployment.kubernetes.io/revision": number.to_string()});
        let metadata = json!({
            "namespace": "jobs", "name": format!("web-{number}"), "uid": "r", "annotations": annotations,
            "ownerReferences": owner,
        });
        json!({"metadata": metadata, "spec": {"template": template(asks)}})
    }

    fn controller_revision(number: i64, owner: &Value, data: &Value) -> Value {
        let name = format!("web-{number}");
        let metadata =
            json!({"namespace": "jobs", "name": name, "uid": "c", "ownerReferences": owner});
        json!({"metadata": metadata, "revision": number, "data": data})
    }

    fn candidates(store: Store, items: &[Value]) -> Vec<(String, i64, i64)> {
        let mut histories = Histories::new(store);
        for item in items {
            histories.add(item.to_string().as_bytes(), |namespace| {
                namespace != "exempt"
            });
        }
        histories
            .candidates()
            .map(|one| (one.uid, one.previous.number, one.latest.number))
            .collect()
    }

    #[rstest]
    #[case::annotation_gone(Some("db"), None, true)]
    #[case::annotation_changed(Some("db"), Some("s3"), true)]
    #[case::annotation_kept(Some("db"), Some("db"), false)]
    #[case::never_asked(None, None, false)]
    #[case::annotation_came(None, Some("db"), false)]
    fn revisions_are_compared_by_their_annotations(
        #[case] before: Option<&str>,
        #[case] now: Option<&str>,
        #[case] expected: bool,
    ) {
        let deployment = owner("Deployment", "u");
        // The order of a list is that of names: revision 10 comes before revision 9.
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
        assert_eq!(candidates(Store::ReplicaSets, &sets), expected);
        let stateful = owner("StatefulSet", "u");
        let revision = |number, asks| {
            let data = json!({"spec": {"template": template(asks)}});
            controller_revision(number, &stateful, &data)
        };
        let revisions = [
            revision(10, now),
            revision(8, Some("older")),
            revision(9, before),
        ];
        assert_eq!(candidates(Store::ControllerRevisions, &revisions), expected);
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
            candidates(Store::ReplicaSets, &[&sets[..], &exempt].concat()),
            []
        );
        let only = [replica_set(1, &own, Some("db")), replica_set(2, &own, None)];
        assert_eq!(
            candidates(Store::ReplicaSets, &only),
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
        assert_eq!(candidates(Store::ReplicaSets, &sets), []);
    }

    #[test]
    fn rollouts_number_their_own_replica_sets() {
        let set = |number: i64, asks| {
            let mut set = replica_set(number, &owner("Rollout", "u"), asks);
            set["metadata"]["annotations"] =
                json!({"rollout.argoproj.io/revision": number.to_string()});
            set
        };
        let sets = [set(1, Some("db")), set(2, None)];
        assert_eq!(
            candidates(Store::ReplicaSets, &sets),
            [("u".to_owned(), 1, 2)]
        );
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!([1]))]
    #[case(json!({"spec": {"template": 7}}))]
    #[case(json!({"spec": {"template": {"metadata": {"annotations": {"secrets.floe.dev/refs": 7}}}}}))]
    fn data_of_any_shape_is_a_revision_that_asks_for_nothing(#[case] data: Value) {
        let set = owner("DaemonSet", "u");
        let asks = json!({"spec": {"template": template(Some("db"))}});
        let revisions = [
            controller_revision(1, &set, &asks),
            controller_revision(2, &set, &data),
        ];
        assert_eq!(
            candidates(Store::ControllerRevisions, &revisions),
            [("u".to_owned(), 1, 2)]
        );
        let revisions = [
            controller_revision(1, &set, &data),
            controller_revision(2, &set, &asks),
        ];
        assert_eq!(candidates(Store::ControllerRevisions, &revisions), []);
    }

    #[test]
    fn workloads_of_a_namespace_are_bounded() {
        let mut histories = Histories::new(Store::ReplicaSets);
        for number in 0..=MAX_IN_NAMESPACE {
            let set = replica_set(1, &owner("Deployment", &format!("u{number}")), None);
            histories.add(set.to_string().as_bytes(), |_| true);
            assert_eq!(histories.truncated, number == MAX_IN_NAMESPACE);
        }
        let mut other = replica_set(1, &owner("Deployment", "v"), None);
        other["metadata"]["namespace"] = "other".into();
        histories.add(other.to_string().as_bytes(), |_| true);
        assert_eq!(
            histories.workloads,
            MAX_IN_NAMESPACE + 1,
            "another namespace has a share of its own"
        );
    }
}
