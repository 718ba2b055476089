//! The owners of refused pods: what they are, whether they still wait, and what for.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admission::error::AdmissionError;
use crate::admission::mutator::Outcome;
use crate::backend::kubernetes::is_dns_label;
use crate::injection::{PlanError, SecretId, SecretName};

/// Outside of our prefix, where unknown annotations are refused.
pub(super) const ANNOTATION: &str = "nudge.floe.dev/secret";

/// The kinds whose controllers make pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OwnerKind {
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
}

impl OwnerKind {
    pub(super) fn read(kind: &str) -> Option<Self> {
        [Self::ReplicaSet, Self::StatefulSet, Self::DaemonSet, Self::Job].into_iter().find(|k| k.as_str() == kind)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// Who says that a pod of it was refused, as its controller signs events.
    pub(super) fn controller(self) -> &'static str {
        match self {
            Self::ReplicaSet => "replicaset-controller",
            Self::StatefulSet => "statefulset-controller",
            Self::DaemonSet => "daemonset-controller",
            Self::Job => "job-controller",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::ReplicaSet | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::Job => "batch/v1",
        }
    }
}

/// One owner. Its uid alone tells it from another of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub uid: String,
    pub kind: OwnerKind,
    pub namespace: String,
    pub name: String,
}

impl Owner {
    pub(super) fn path(&self) -> String {
        let (version, plural) = (self.kind.api_version(), self.kind.as_str().to_ascii_lowercase());
        format!("/apis/{version}/namespaces/{}/{plural}s/{}", self.namespace, self.name)
    }

    /// Whether its names may stand in a URL: events are written by anybody.
    pub(super) fn is_sound(&self) -> bool {
        is_dns_label(&self.namespace) && self.name.parse::<SecretName>().is_ok() && !self.uid.is_empty()
    }
}

/// The parts of an owner that say whether it still wants pods, and which. They borrow from the answer: owners may be
/// as large as the API server lets them be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnerView<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Spec<'a>,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    deletion_timestamp: Option<String>,
    annotations: Option<Told>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    #[serde(rename = "nudge.floe.dev/secret")]
    secret: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    replicas: Option<i64>,
    parallelism: Option<i64>,
    completions: Option<i64>,
    suspend: Option<bool>,
    #[serde(borrow)]
    template: Option<&'a RawValue>,
}

/// Literal values stand in the template.
impl fmt::Debug for Spec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("suspend", &self.suspend).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    replicas: i64,
    desired_number_scheduled: i64,
    current_number_scheduled: i64,
    active: i64,
    succeeded: i64,
    completion_time: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    of: String,
    status: String,
}

/// What an owner's controller has to do still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// It has pods to make.
    Pods,
    /// It has made all that are wanted.
    Nothing,
    /// The owner is another object by now, is going, was stopped, or wants no pods.
    Gone,
}

impl<'a> OwnerView<'a> {
    /// Reads an owner; `None` when the answer is none.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// What of the nudge it carries already.
    pub(super) fn mark(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.secret.as_deref()
    }

    /// Its pod template.
    pub(super) fn template(&self) -> Option<&'a RawValue> {
        self.spec.template
    }

    /// What the controller of this owner has to do still.
    pub(super) fn wants(&self, owner: &Owner) -> Wants {
        let Self { metadata, spec, status } = self;
        if metadata.uid != owner.uid || metadata.deletion_timestamp.is_some() {
            return Wants::Gone;
        }
        let of = |wanted: i64, there: i64| match wanted {
            ..=0 => Wants::Gone,
            _ if there < wanted => Wants::Pods,
            _ => Wants::Nothing,
        };
        match owner.kind {
            OwnerKind::ReplicaSet | OwnerKind::StatefulSet => of(spec.replicas.unwrap_or(1), status.replicas),
            // What has not been counted yet may be anything.
            OwnerKind::DaemonSet if status.desired_number_scheduled == 0 => Wants::Pods,
            OwnerKind::DaemonSet => of(status.desired_number_scheduled, status.current_number_scheduled),
            OwnerKind::Job => {
                let failed = |c: &Condition| matches!(c.of.as_str(), "Failed" | "FailureTarget") && c.status == "True";
                let left = spec.completions.map_or(i64::MAX, |all| all - status.succeeded);
                if status.conditions.iter().flatten().any(failed) || spec.suspend == Some(true) {
                    Wants::Gone
                } else if status.completion_time.is_some() || left <= 0 {
                    Wants::Nothing
                } else {
                    of(spec.parallelism.unwrap_or(1).min(left), status.active)
                }
            }
        }
    }
}

/// What an owner's pods would be told now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// Refused for want of these.
    Awaits(BTreeSet<SecretId>),
    /// Admitted, with these.
    Ready(BTreeSet<SecretId>),
    /// Refused whatever secrets come, or not ours.
    Hopeless,
    /// Nobody can say at the moment.
    Unknown,
}

impl Prospect {
    /// As traces write it.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Awaits(_) => "awaits",
            Self::Ready(_) => "ready",
            Self::Hopeless => "hopeless",
            Self::Unknown => "unknown",
        }
    }
}

/// What the webhook's own decision about the template means to its owner.
pub(super) fn prospect(outcome: Result<Outcome, AdmissionError>) -> Prospect {
    match outcome {
        Ok(Outcome::Injected(injection)) => Prospect::Ready(injection.secrets.into_iter().collect()),
        Err(AdmissionError::Plan(errors)) => {
            let missing = errors.iter().map(|error| match error {
                PlanError::MissingSecret { secret, .. } | PlanError::MissingKey { secret, .. } => Some(secret.clone()),
                PlanError::Collision { .. }
                | PlanError::NoSuchContainer { .. }
                | PlanError::OnlySidecars { .. }
                | PlanError::UnknownKeys { .. }
                | PlanError::ContainerName { .. }
                | PlanError::PatchTooLarge { .. }
                | PlanError::TooMany { .. } => None,
            });
            missing.collect::<Option<BTreeSet<SecretId>>>().map_or(Prospect::Hopeless, Prospect::Awaits)
        }
        Ok(Outcome::Skipped(_) | Outcome::Validated { .. } | Outcome::Prepared(_))
        | Err(AdmissionError::Annotations(_) | AdmissionError::Unreadable(_) | AdmissionError::PatchTooLong) => {
            Prospect::Hopeless
        }
        Ok(Outcome::Degraded(_)) | Err(AdmissionError::Backend(_)) => Prospect::Unknown,
    }
}

/// When an owner that has been told of some secrets is told of the same ones once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Never,
    /// When one of them has another version: a `StatefulSet` keeps its annotation when its template changes, so that it
    /// waited again, for another key of a secret which it was told of, shows only there.
    NewVersion,
    /// In any case: its next try was refused all the same.
    Always,
}

/// The annotation's new value, from the secrets' uids and versions; `None` when the owner has been told already.
pub(super) fn mark(known: Option<&str>, secrets: &[(String, String)], repeat: Repeat) -> Option<String> {
    let join = |parts: Vec<String>| parts.join(",");
    let uids = join(secrets.iter().map(|(uid, _)| uid.clone()).collect());
    let told = known.map(|known| join(known.split(',').map(|part| part.split('/').take(1).collect()).collect()));
    if told.as_ref() != Some(&uids) {
        return Some(uids);
    }
    let versions = join(secrets.iter().map(|(uid, version)| format!("{uid}/{version}")).collect());
    let is_known = known == Some(versions.as_str());
    match repeat {
        Repeat::NewVersion | Repeat::Always if !is_known => Some(versions),
        Repeat::Always => Some(uids),
        Repeat::Never | Repeat::NewVersion => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn owner(kind: OwnerKind) -> Owner {
        Owner { uid: "u".to_owned(), kind, namespace: "jobs".to_owned(), name: "load".to_owned() }
    }

    #[rstest::rstest]
    #[case(OwnerKind::ReplicaSet, json!({"replicas": 2}), json!({"replicas": 1}), Wants::Pods)]
    #[case(OwnerKind::ReplicaSet, json!({"replicas": 2}), json!({"replicas": 2}), Wants::Nothing)]
    #[case(OwnerKind::ReplicaSet, json!({"replicas": 0}), json!({}), Wants::Gone)]
    #[case(OwnerKind::StatefulSet, json!({}), json!({}), Wants::Pods)]
    #[case(OwnerKind::DaemonSet, json!({}), json!({}), Wants::Pods)]
    #[case(
        OwnerKind::DaemonSet, json!({}), json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 3}),
        Wants::Nothing
    )]
    #[case(
        OwnerKind::DaemonSet, json!({}), json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 1}), Wants::Pods
    )]
    #[case(OwnerKind::Job, json!({"parallelism": 1}), json!({}), Wants::Pods)]
    #[case(OwnerKind::Job, json!({"parallelism": 1}), json!({"active": 1}), Wants::Nothing)]
    #[case(OwnerKind::Job, json!({"parallelism": 0}), json!({}), Wants::Gone)]
    #[case(OwnerKind::Job, json!({"suspend": true}), json!({}), Wants::Gone)]
    #[case(OwnerKind::Job, json!({"completions": 1}), json!({"succeeded": 1}), Wants::Nothing)]
    #[case(OwnerKind::Job, json!({}), json!({"completionTime": "2026-01-01T00:00:00Z"}), Wants::Nothing)]
    #[case(OwnerKind::Job, json!({}), json!({"conditions": [{"type": "Failed", "status": "True"}]}), Wants::Gone)]
    fn who_has_its_pods_wants_none(
        #[case] kind: OwnerKind,
        #[case] spec: Value,
        #[case] status: Value,
        #[case] wants: Wants,
    ) {
        let read = |metadata: Value| {
            let object = json!({"metadata": metadata, "spec": spec, "status": status}).to_string();
            OwnerView::read(object.as_bytes()).unwrap().wants(&owner(kind))
        };
        assert_eq!(read(json!({"uid": "u"})), wants);
        assert_eq!(read(json!({"uid": "other"})), Wants::Gone, "another object of the same name");
        assert_eq!(read(json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"})), Wants::Gone);
    }

    #[test]
    fn a_view_has_the_mark_and_the_template() {
        let object = json!({
            "metadata": {"uid": "u", "annotations": {"x": "y", ANNOTATION: "a,b"}}, "spec": {"template": {"a": 1}},
        });
        let object = object.to_string();
        let view = OwnerView::read(object.as_bytes()).unwrap();
        assert_eq!((view.mark(), view.template().unwrap().get()), (Some("a,b"), r#"{"a":1}"#));
        assert!(OwnerView::read(b"<html>").is_none() && OwnerView::read(b"{}").unwrap().mark().is_none());
    }

    #[rstest::rstest]
    #[case(None, Repeat::Never, Some("a,b"))]
    #[case(Some("a"), Repeat::Never, Some("a,b"))]
    #[case(Some("a,b"), Repeat::Never, None)]
    #[case(Some("a/1,b/1"), Repeat::Never, None)]
    #[case(Some("a,b"), Repeat::NewVersion, Some("a/1,b/2"))]
    #[case(Some("a/1,b/1"), Repeat::NewVersion, Some("a/1,b/2"))]
    #[case(Some("a/1,b/2"), Repeat::NewVersion, None)]
    #[case(Some("a"), Repeat::Always, Some("a,b"))]
    #[case(Some("a,b"), Repeat::Always, Some("a/1,b/2"))]
    #[case(Some("a/1,b/1"), Repeat::Always, Some("a/1,b/2"))]
    #[case(Some("a/1,b/2"), Repeat::Always, Some("a,b"))]
    fn a_repeat_changes_nothing_unless_it_has_to(
        #[case] known: Option<&str>,
        #[case] repeat: Repeat,
        #[case] value: Option<&str>,
    ) {
        let secrets = [("a", "1"), ("b", "2")].map(|(uid, version)| (uid.to_owned(), version.to_owned()));
        assert_eq!(mark(known, &secrets, repeat).as_deref(), value);
    }

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(owner(OwnerKind::Job).path(), "/apis/batch/v1/namespaces/jobs/jobs/load");
        assert_eq!(owner(OwnerKind::ReplicaSet).path(), "/apis/apps/v1/namespaces/jobs/replicasets/load");
        let forged = Owner { name: "../secrets/x".to_owned(), ..owner(OwnerKind::Job) };
        assert!(!forged.is_sound() && owner(OwnerKind::Job).is_sound());
    }
}
