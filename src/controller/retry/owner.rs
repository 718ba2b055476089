//! Owners of refused pods: identity, whether they still need pods, and which secrets those need.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admission::error::AdmissionError;
use crate::admission::outcome::Outcome;
use crate::backend::kubernetes::is_dns_label;
use injection::{PlanError, SecretId, SecretName};

/// Annotation that triggers the retry. It is outside of the prefix `secrets.floe.dev/`, where unknown annotations are
/// refused.
pub(super) const ANNOTATION: &str = "retry.floe.dev/requested-for";

/// Kinds whose built-in controllers create pods and retry refused ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OwnerKind {
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
}

impl OwnerKind {
    pub(super) fn read(kind: &str) -> Option<Self> {
        [
            Self::ReplicaSet,
            Self::StatefulSet,
            Self::DaemonSet,
            Self::Job,
        ]
        .into_iter()
        .find(|k| k.as_str() == kind)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// Name of its controller as a source of events.
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

/// One owner. Only its uid distinguishes it from an earlier owner of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub uid: String,
    pub kind: OwnerKind,
    pub namespace: String,
    pub name: String,
}

impl Owner {
    pub(super) fn path(&self) -> String {
        let (version, plural) = (
            self.kind.api_version(),
            self.kind.as_str().to_ascii_lowercase(),
        );
        format!(
            "/apis/{version}/namespaces/{}/{plural}s/{}",
            self.namespace, self.name
        )
    }

    /// Whether its names are valid in a URL path: anybody may write events.
    pub(super) fn is_sound(&self) -> bool {
        is_dns_label(&self.namespace)
            && self.name.parse::<SecretName>().is_ok()
            && !self.uid.is_empty()
    }
}

/// Fields of an owner that determine whether it needs pods, and which. They borrow from the response: owners may be as
/// large as the API server allows.
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
    annotations: Option<TriggerAnnotation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TriggerAnnotation {
    #[serde(rename = "retry.floe.dev/requested-for")]
    requested_for: Option<String>,
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

/// Omits the template, which has literal values.
impl fmt::Debug for Spec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("suspend", &self.suspend)
            .finish_non_exhaustive()
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

/// Whether an owner needs more pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodDemand {
    /// Some of its pods are missing.
    Missing,
    /// All of its pods exist.
    Satisfied,
    /// The owner was replaced, is being deleted, was suspended, or needs no pods.
    Gone,
}

impl<'a> OwnerView<'a> {
    /// Parses an owner; `None` if the body is not one.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Value of the trigger annotation.
    pub(super) fn requested_for(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.requested_for.as_deref()
    }

    pub(super) fn template(&self) -> Option<&'a RawValue> {
        self.spec.template
    }

    /// Compares the pods that the owner needs with those that exist.
    pub(super) fn demand(&self, owner: &Owner) -> PodDemand {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        if metadata.uid != owner.uid || metadata.deletion_timestamp.is_some() {
            return PodDemand::Gone;
        }
        let of = |wanted: i64, there: i64| match wanted {
            ..=0 => PodDemand::Gone,
            _ if there < wanted => PodDemand::Missing,
            _ => PodDemand::Satisfied,
        };
        match owner.kind {
            OwnerKind::ReplicaSet | OwnerKind::StatefulSet => {
                of(spec.replicas.unwrap_or(1), status.replicas)
            }
            // The controller has not computed its status yet.
            OwnerKind::DaemonSet if status.desired_number_scheduled == 0 => PodDemand::Missing,
            OwnerKind::DaemonSet => of(
                status.desired_number_scheduled,
                status.current_number_scheduled,
            ),
            OwnerKind::Job => {
                let failed = |c: &Condition| {
                    matches!(c.of.as_str(), "Failed" | "FailureTarget") && c.status == "True"
                };
                let left = spec
                    .completions
                    .map_or(i64::MAX, |all| all - status.succeeded);
                if status.conditions.iter().flatten().any(failed) || spec.suspend == Some(true) {
                    PodDemand::Gone
                } else if status.completion_time.is_some() || left <= 0 {
                    PodDemand::Satisfied
                } else {
                    of(spec.parallelism.unwrap_or(1).min(left), status.active)
                }
            }
        }
    }
}

/// What admission would decide about an owner's pods now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Refused because these are missing.
    Awaits(BTreeSet<SecretId>),
    /// Injected with these.
    Ready(BTreeSet<SecretId>),
    /// Refused for another reason, or nothing is injected.
    NotInjectable,
    /// A backend could not be read.
    Unknown,
}

impl Outlook {
    /// Attribute value in traces.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Awaits(_) => "awaits",
            Self::Ready(_) => "ready",
            Self::NotInjectable => "not_injectable",
            Self::Unknown => "unknown",
        }
    }
}

/// Classifies the decision about the owner's template.
pub(super) fn outlook(outcome: Result<Outcome, AdmissionError>) -> Outlook {
    match outcome {
        Ok(Outcome::Injected(injection)) => Outlook::Ready(injection.secrets.into_iter().collect()),
        Err(AdmissionError::Plan(errors)) => {
            let missing = errors.iter().map(|error| match error {
                PlanError::MissingSecret { secret, .. } | PlanError::MissingKey { secret, .. } => {
                    Some(secret.clone())
                }
                PlanError::Collision { .. }
                | PlanError::NoSuchContainer { .. }
                | PlanError::OnlySidecars { .. }
                | PlanError::UnknownKeys { .. }
                | PlanError::ContainerName { .. }
                | PlanError::PatchTooLarge { .. }
                | PlanError::TooMany { .. } => None,
            });
            missing
                .collect::<Option<BTreeSet<SecretId>>>()
                .map_or(Outlook::NotInjectable, Outlook::Awaits)
        }
        Ok(Outcome::Skipped(_) | Outcome::Validated { .. } | Outcome::Mutated(_))
        | Err(
            AdmissionError::Annotations(_)
            | AdmissionError::Forbidden(_)
            | AdmissionError::Unreadable(_)
            | AdmissionError::PatchTooLong,
        ) => Outlook::NotInjectable,
        Ok(Outcome::Degraded(_)) | Err(AdmissionError::Backend(_)) => Outlook::Unknown,
    }
}

/// When the annotation's value changes although it names the same secrets already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Never,
    /// When the version of one of them differs. A `StatefulSet` keeps its annotation when its template changes; if it then
    /// waits for another key of the same secret, only the secret's version shows that the key was added.
    NewVersion,
    /// In any case: the last retry was refused.
    Always,
}

/// The annotation's new value from the secrets' uids and versions; `None` if the retry was triggered already.
pub(super) fn next_value(
    known: Option<&str>,
    secrets: &[(String, String)],
    repeat: Repeat,
) -> Option<String> {
    let join = |parts: Vec<String>| parts.join(",");
    let uids = join(secrets.iter().map(|(uid, _)| uid.clone()).collect());
    let known_uids = known.map(|known| {
        join(
            known
                .split(',')
                .map(|part| part.split('/').take(1).collect())
                .collect(),
        )
    });
    if known_uids.as_ref() != Some(&uids) {
        return Some(uids);
    }
    let versions = join(
        secrets
            .iter()
            .map(|(uid, version)| format!("{uid}/{version}"))
            .collect(),
    );
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
        Owner {
            uid: "u".to_owned(),
            kind,
            namespace: "jobs".to_owned(),
            name: "load".to_owned(),
        }
    }

    #[rstest::rstest]
    #[case(OwnerKind::ReplicaSet, json!({"replicas": 2}), json!({"replicas": 1}), PodDemand::Missing)]
    #[case(OwnerKind::ReplicaSet, json!({"replicas": 2}), json!({"replicas": 2}), PodDemand::Satisfied)]
    #[case(OwnerKind::ReplicaSet, json!({"replicas": 0}), json!({}), PodDemand::Gone)]
    #[case(OwnerKind::StatefulSet, json!({}), json!({}), PodDemand::Missing)]
    #[case(OwnerKind::DaemonSet, json!({}), json!({}), PodDemand::Missing)]
    #[case(
        OwnerKind::DaemonSet, json!({}), json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 3}),
        PodDemand::Satisfied
    )]
    #[case(
        OwnerKind::DaemonSet, json!({}), json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 1}), PodDemand::Missing
    )]
    #[case(OwnerKind::Job, json!({"parallelism": 1}), json!({}), PodDemand::Missing)]
    #[case(OwnerKind::Job, json!({"parallelism": 1}), json!({"active": 1}), PodDemand::Satisfied)]
    #[case(OwnerKind::Job, json!({"parallelism": 0}), json!({}), PodDemand::Gone)]
    #[case(OwnerKind::Job, json!({"suspend": true}), json!({}), PodDemand::Gone)]
    #[case(OwnerKind::Job, json!({"completions": 1}), json!({"succeeded": 1}), PodDemand::Satisfied)]
    #[case(OwnerKind::Job, json!({}), json!({"completionTime": "2026-01-01T00:00:00Z"}), PodDemand::Satisfied)]
    #[case(OwnerKind::Job, json!({}), json!({"conditions": [{"type": "Failed", "status": "True"}]}), PodDemand::Gone)]
    fn demand_compares_pods_with_replicas(
        #[case] kind: OwnerKind,
        #[case] spec: Value,
        #[case] status: Value,
        #[case] wants: PodDemand,
    ) {
        let read = |metadata: Value| {
            let object = json!({"metadata": metadata, "spec": spec, "status": status}).to_string();
            OwnerView::read(object.as_bytes())
                .unwrap()
                .demand(&owner(kind))
        };
        assert_eq!(read(json!({"uid": "u"})), wants);
        assert_eq!(
            read(json!({"uid": "other"})),
            PodDemand::Gone,
            "another object of the same name"
        );
        assert_eq!(
            read(json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"})),
            PodDemand::Gone
        );
    }

    #[test]
    fn view_reads_the_annotation_and_the_template() {
        let object = json!({
            "metadata": {"uid": "u", "annotations": {"x": "y", ANNOTATION: "a,b"}}, "spec": {"template": {"a": 1}},
        });
        let object = object.to_string();
        let view = OwnerView::read(object.as_bytes()).unwrap();
        assert_eq!(
            (view.requested_for(), view.template().unwrap().get()),
            (Some("a,b"), r#"{"a":1}"#)
        );
        assert!(
            OwnerView::read(b"<html>").is_none()
                && OwnerView::read(b"{}").unwrap().requested_for().is_none()
        );
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
    fn value_changes_only_for_other_secrets_or_on_repeat(
        #[case] known: Option<&str>,
        #[case] repeat: Repeat,
        #[case] value: Option<&str>,
    ) {
        let secrets =
            [("a", "1"), ("b", "2")].map(|(uid, version)| (uid.to_owned(), version.to_owned()));
        assert_eq!(next_value(known, &secrets, repeat).as_deref(), value);
    }

    #[test]
    fn owner_path_is_an_api_path() {
        assert_eq!(
            owner(OwnerKind::Job).path(),
            "/apis/batch/v1/namespaces/jobs/jobs/load"
        );
        assert_eq!(
            owner(OwnerKind::ReplicaSet).path(),
            "/apis/apps/v1/namespaces/jobs/replicasets/load"
        );
        let forged = Owner {
            name: "../secrets/x".to_owned(),
            ..owner(OwnerKind::Job)
        };
        assert!(!forged.is_sound() && owner(OwnerKind::Job).is_sound());
    }
}
