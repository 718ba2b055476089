//! Objects with a pod template: a partial view of their JSON that borrows from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::limits::{MAX_ANNOTATION_BYTES, MAX_VALUE_BYTES};
use crate::view::annotations::Annotations;
use crate::view::cow_str::CowStr;
use crate::view::metadata::{MetadataView, OwnerView};
use crate::view::pod::PodView;

/// Kinds with a pod template that the webhook handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// Of `apps`.
    Deployment,
    /// Of `apps`.
    StatefulSet,
    /// Of `apps`.
    DaemonSet,
    /// Of `batch`. Its template never changes after its creation.
    Job,
    /// Of `batch`.
    CronJob,
    /// Of `argoproj.io`, if Argo Rollouts is installed.
    Rollout,
}

impl WorkloadKind {
    /// All kinds, with API group, kind and resource.
    const ALL: [(Self, &'static str, &'static str, &'static str); 6] = [
        (Self::Deployment, "apps", "Deployment", "deployments"),
        (Self::StatefulSet, "apps", "StatefulSet", "statefulsets"),
        (Self::DaemonSet, "apps", "DaemonSet", "daemonsets"),
        (Self::Job, "batch", "Job", "jobs"),
        (Self::CronJob, "batch", "CronJob", "cronjobs"),
        (Self::Rollout, "argoproj.io", "Rollout", "rollouts"),
    ];

    /// All kinds, with API group and resource.
    pub fn resources() -> impl Iterator<Item = (Self, &'static str, &'static str)> {
        Self::ALL
            .into_iter()
            .map(|(kind, group, _, resource)| (kind, group, resource))
    }

    /// Kind by the `apiVersion` and `kind` of a manifest.
    #[must_use]
    pub fn of_manifest(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self::ALL
            .into_iter()
            .find_map(|(known, of, name, _)| (of == group && name == kind).then_some(known))
    }

    /// Path of the pod template.
    #[must_use]
    pub fn template(self) -> &'static [&'static str] {
        match self {
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job | Self::Rollout => {
                &["spec", "template"]
            }
        }
    }

    /// Whether a changed secret may restart it. The next run of a Job or `CronJob` reads the new value anyway, and
    /// Reloader would run finished Jobs again.
    #[must_use]
    pub fn is_restartable(self) -> bool {
        !matches!(self, Self::Job | Self::CronJob)
    }
}

/// An object with a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WorkloadView<'a> {
    /// Metadata of the workload itself.
    #[serde(borrow, default)]
    pub metadata: Option<WorkloadMetadataView<'a>>,
    /// Spec, with the template.
    #[serde(borrow, default)]
    pub spec: WorkloadSpecView<'a>,
}

/// A workload's metadata: the view, and the JSON, which has statements of authors.
#[derive(Clone)]
pub struct WorkloadMetadataView<'a> {
    view: MetadataView<'a>,
    /// The last applied configuration has literal values: never shown.
    raw: &'a RawValue,
}

impl<'a> std::ops::Deref for WorkloadMetadataView<'a> {
    type Target = MetadataView<'a>;

    fn deref(&self) -> &MetadataView<'a> {
        &self.view
    }
}

impl fmt::Debug for WorkloadMetadataView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadMetadataView")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WorkloadMetadataView<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        // The message of the parser may quote values.
        let view = serde_json::from_str(raw.get())
            .map_err(|_| D::Error::custom("metadata with a field of another type"))?;
        Ok(Self { view, raw })
    }
}

/// Fields of a workload's spec that the core reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpecView<'a> {
    /// Pod template. A Rollout may refer to a Deployment's instead.
    #[serde(borrow, default)]
    pub template: Option<TemplateView<'a>>,
    /// Template of the Jobs of a `CronJob`.
    #[serde(borrow, default)]
    pub job_template: Option<JobTemplateView<'a>>,
}

/// The template of a `CronJob`'s Jobs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobTemplateView<'a> {
    /// Metadata of the Jobs.
    #[serde(borrow, default)]
    pub metadata: Option<MetadataView<'a>>,
    /// Spec of the Jobs.
    #[serde(borrow, default)]
    pub spec: JobSpecView<'a>,
}

/// A Job's spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobSpecView<'a> {
    /// Pod template of the Job.
    #[serde(borrow, default)]
    pub template: Option<TemplateView<'a>>,
}

/// A pod template: the view, and the JSON, to compare it with another one.
#[derive(Clone)]
pub struct TemplateView<'a> {
    /// View of the template as a pod.
    pub pod: PodView<'a>,
    /// The template has literal values: compared, never shown.
    raw: &'a RawValue,
}

impl TemplateView<'_> {
    /// JSON of the template.
    pub(crate) fn json(&self) -> &str {
        self.raw.get()
    }

    /// Bytes of all annotations but one, names and values. An upper bound, if that is within the limit of an object
    /// anyway.
    pub(crate) fn annotation_bytes(&self, but: &str) -> usize {
        #[derive(Deserialize)]
        struct TemplateAnnotations<'a> {
            #[serde(borrow, default)]
            metadata: Option<AllAnnotations<'a>>,
        }
        #[derive(Deserialize)]
        struct AllAnnotations<'a> {
            #[serde(borrow, default)]
            annotations: Option<BTreeMap<CowStr<'a>, CowStr<'a>>>,
        }
        let raw = self.raw.get();
        if raw.len() <= MAX_ANNOTATION_BYTES - MAX_VALUE_BYTES - but.len() {
            return raw.len();
        }
        let annotations = serde_json::from_str::<TemplateAnnotations<'_>>(raw)
            .ok()
            .and_then(|t| t.metadata?.annotations);
        let others = annotations
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.as_str() != but);
        others
            .map(|(name, value)| name.as_str().len() + value.as_str().len())
            .sum()
    }
}

impl fmt::Debug for TemplateView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateView")
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TemplateView<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        // The message of the parser may quote values.
        let pod = serde_json::from_str(raw.get())
            .map_err(|_| D::Error::custom("a template with a field of another type"))?;
        Ok(Self { pod, raw })
    }
}

impl<'a> WorkloadView<'a> {
    /// Pod template; `None` if the object has none.
    #[must_use]
    pub fn template(&self, kind: WorkloadKind) -> Option<&TemplateView<'a>> {
        match kind {
            WorkloadKind::CronJob => self
                .spec
                .job_template
                .as_ref()
                .and_then(|job| job.spec.template.as_ref()),
            WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::Job
            | WorkloadKind::Rollout => self.spec.template.as_ref(),
        }
    }

    /// Annotations of the workload itself.
    #[must_use]
    pub fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.annotations.as_ref())
    }

    /// JSON of the metadata.
    pub(crate) fn metadata_json(&self) -> Option<&'a str> {
        self.metadata.as_ref().map(|metadata| metadata.raw.get())
    }

    /// Owners of the workload.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &OwnerView<'a>> {
        self.metadata
            .iter()
            .flat_map(|metadata| metadata.owner_references.iter().flatten())
    }

    /// Annotations beside the template, nearest to the pods first.
    pub(crate) fn beside_template(&self) -> [Option<&Annotations<'a>>; 2] {
        let job = self
            .spec
            .job_template
            .as_ref()
            .and_then(|job| job.metadata.as_ref());
        [
            job.and_then(|metadata| metadata.annotations.as_ref()),
            self.annotations(),
        ]
    }

    /// Whether the workload is being deleted.
    #[must_use]
    pub fn is_being_deleted(&self) -> bool {
        self.metadata
            .as_ref()
            .is_some_and(|metadata| metadata.deletion_timestamp.is_some())
    }
}
