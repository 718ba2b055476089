//! Parsed owners: whether they still need pods, and their template.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::owner::{Owner, OwnerKind};

/// Fields of an owner that determine whether it needs pods, and which ones. They borrow from the response, because an
/// owner may be as large as the API server allows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnerView<'a> {
    metadata: OwnerMetadata,
    #[serde(borrow)]
    spec: OwnerSpec<'a>,
    status: OwnerStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerMetadata {
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
struct OwnerSpec<'a> {
    replicas: Option<i64>,
    parallelism: Option<i64>,
    completions: Option<i64>,
    suspend: Option<bool>,
    #[serde(borrow)]
    template: Option<&'a RawValue>,
}

/// Omits the template: its variables may have literal secret values.
impl fmt::Debug for OwnerSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerSpec")
            .field("suspend", &self.suspend)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerStatus {
    replicas: i64,
    desired_number_scheduled: i64,
    current_number_scheduled: i64,
    active: i64,
    succeeded: i64,
    completion_time: Option<String>,
    conditions: Option<Vec<JobCondition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobCondition {
    #[serde(rename = "type")]
    condition_type: String,
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
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
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
        let compare = |desired: i64, existing: i64| match desired {
            ..=0 => PodDemand::Gone,
            _ if existing < desired => PodDemand::Missing,
            _ => PodDemand::Satisfied,
        };
        match owner.kind {
            OwnerKind::ReplicaSet | OwnerKind::StatefulSet => {
                compare(spec.replicas.unwrap_or(1), status.replicas)
            }
            // The controller has not computed its status yet.
            OwnerKind::DaemonSet if status.desired_number_scheduled == 0 => PodDemand::Missing,
            OwnerKind::DaemonSet => compare(
                status.desired_number_scheduled,
                status.current_number_scheduled,
            ),
            OwnerKind::Job => {
                let failed = |condition: &JobCondition| {
                    matches!(
                        condition.condition_type.as_str(),
                        "Failed" | "FailureTarget"
                    ) && condition.status == "True"
                };
                let left = spec
                    .completions
                    .map_or(i64::MAX, |all| all - status.succeeded);
                if status.conditions.iter().flatten().any(failed) || spec.suspend == Some(true) {
                    PodDemand::Gone
                } else if status.completion_time.is_some() || left <= 0 {
                    PodDemand::Satisfied
                } else {
                    compare(spec.parallelism.unwrap_or(1).min(left), status.active)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::annotation::ANNOTATION;
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
        #[case] expected: PodDemand,
    ) {
        let demand = |metadata: Value| {
            let object = json!({"metadata": metadata, "spec": spec, "status": status}).to_string();
            OwnerView::parse(object.as_bytes())
                .unwrap()
                .demand(&owner(kind))
        };
        assert_eq!(demand(json!({"uid": "u"})), expected);
        assert_eq!(
            demand(json!({"uid": "other"})),
            PodDemand::Gone,
            "another object of the same name"
        );
        assert_eq!(
            demand(json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"})),
            PodDemand::Gone
        );
    }

    #[test]
    fn view_reads_the_annotation_and_the_template() {
        let object = json!({
            "metadata": {"uid": "u", "annotations": {"x": "y", ANNOTATION: "a,b"}}, "spec": {"template": {"a": 1}},
        });
        let object = object.to_string();
        let view = OwnerView::parse(object.as_bytes()).unwrap();
        assert_eq!(
            (view.requested_for(), view.template().unwrap().get()),
            (Some("a,b"), r#"{"a":1}"#)
        );
        assert!(
            OwnerView::parse(b"<html>").is_none()
                && OwnerView::parse(b"{}").unwrap().requested_for().is_none()
        );
    }
}
