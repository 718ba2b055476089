//! What a scan reads of objects: partial views, as admission has them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::judge;
use crate::defaults::ENABLED_LABEL;
use crate::injection::{Annotations, Text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta<'a> {
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub uid: String,
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<Text<'a>>,
    #[serde(default)]
    pub owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize)]
pub(super) struct OwnerReference {
    pub kind: String,
    pub name: String,
    #[serde(default)]
    pub controller: Option<bool>,
}

pub(super) fn meta(item: &RawValue) -> Option<Meta<'_>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: Meta<'a>,
    }
    serde_json::from_str::<Object<'_>>(item.get()).ok().map(|object| object.metadata)
}

pub(super) fn is_enabled(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Object {
        metadata: Labelled,
    }
    #[derive(Deserialize)]
    struct Labelled {
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
    }
    serde_json::from_slice::<Object>(body)
        .is_ok_and(|object| object.metadata.labels.get(ENABLED_LABEL.0).is_some_and(|value| value == ENABLED_LABEL.1))
}

/// A workload as far as annotations and its end go.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Workload<'a> {
    #[serde(borrow)]
    metadata: Annotated<'a>,
    #[serde(borrow)]
    spec: Option<WorkloadSpec<'a>>,
    #[serde(borrow)]
    status: Option<WorkloadStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotated<'a> {
    #[serde(borrow)]
    annotations: Option<Annotations<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec<'a> {
    #[serde(borrow)]
    template: Option<Template<'a>>,
    #[serde(borrow)]
    job_template: Option<Box<Workload<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template<'a> {
    #[serde(borrow)]
    metadata: Option<Annotated<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkloadStatus<'a> {
    #[serde(borrow)]
    conditions: Option<Vec<Condition<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    of: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
}

pub(super) fn judge_workload(body: &[u8]) -> Vec<String> {
    let Ok(workload) = serde_json::from_slice::<Workload<'_>>(body) else { return Vec::new() };
    let conditions = workload.status.iter().flat_map(|status| status.conditions.iter().flatten());
    // A Job that has ended makes no more pods.
    let ended = |condition: &Condition<'_>| {
        matches!(condition.of.as_str(), "Complete" | "Failed") && condition.status.as_str() == "True"
    };
    let Some(spec) = workload.spec.as_ref().filter(|_| !conditions.into_iter().any(ended)) else { return Vec::new() };
    let job = spec.job_template.as_deref();
    let own: Vec<&Annotations<'_>> = [Some(&workload.metadata), job.map(|job| &job.metadata)]
        .into_iter()
        .flatten()
        .filter_map(|m| m.annotations.as_ref())
        .collect();
    let template = match job {
        Some(job) => job.spec.as_ref().and_then(|spec| spec.template.as_ref()),
        None => spec.template.as_ref(),
    };
    let template = template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref());
    judge::workload(&own, template)
}
