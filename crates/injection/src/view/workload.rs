//! What the planner looks at in an object that has a pod template: a partial, borrowing view of its JSON.

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

/// The kinds that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// `apps`.
    Deployment,
    /// `apps`.
    StatefulSet,
    /// `apps`.
    DaemonSet,
    /// `batch`; its template never changes after its creation.
    Job,
    /// `batch`.
    CronJob,
    /// `argoproj.io`, where Argo Rollouts is installed.
    Rollout,
}

impl WorkloadKind {
    /// Every kind: its API group, its name, its resource.
    const ALL: [(Self, &'static str, &'static str, &'static str); 6] = [
        (Self::Deployment, "apps", "Deployment", "deployments"),
        (Self::StatefulSet, "apps", "StatefulSet", "statefulsets"),
        (Self::DaemonSet, "apps", "DaemonSet", "daemonsets"),
        (Self::Job, "batch", "Job", "jobs"),
        (Self::CronJob, "batch", "CronJob", "cronjobs"),
        (Self::Rollout, "argoproj.io", "Rollout", "rollouts"),
    ];

    /// Of every kind, the API group and the resource.
    pub fn resources() -> impl Iterator<Item = (Self, &'static str, &'static str)> {
        Self::ALL
            .into_iter()
            .map(|(kind, group, _, resource)| (kind, group, resource))
    }

    /// By `apiVersion` and `kind`, as a manifest says them.
    #[must_use]
    pub fn of_manifest(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self::ALL
            .into_iter()
            .find_map(|(known, of, name, _)| (of == group && name == kind).then_some(known))
    }

    /// Where the pod template stands.
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
    pub fn restarts(self) -> bool {
        !matches!(self, Self::Job | Self::CronJob)
    }
}

/// An object with a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WorkloadView<'a> {
    /// Its own metadata.
    #[serde(borrow, default)]
    pub metadata: Option<WorkloadMetadataView<'a>>,
    /// Where the template is.
    #[serde(borrow, default)]
    pub spec: WorkloadSpecView<'a>,
}

/// A workload's metadata: what is looked at, and all of it, for what authors state in it.
#[derive(Clone)]
pub struct WorkloadMetadataView<'a> {
    view: MetadataView<'a>,
    /// Literal values stand in the configuration that was applied last: looked up, never shown.
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
        // The parser's own message may quote values.
        let view = serde_json::from_str(raw.get())
            .map_err(|_| D::Error::custom("metadata with a field of another type"))?;
        Ok(Self { view, raw })
    }
}

/// The part of a workload's spec that matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpecView<'a> {
    /// The pods' template; a Rollout may refer to a Deployment's instead.
    #[serde(borrow, default)]
    pub template: Option<TemplateView<'a>>,
    /// A `CronJob`'s.
    #[serde(borrow, default)]
    pub job_template: Option<JobTemplateView<'a>>,
}

/// The template of a `CronJob`'s Jobs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobTemplateView<'a> {
    /// The Jobs' metadata.
    #[serde(borrow, default)]
    pub metadata: Option<MetadataView<'a>>,
    /// Their spec.
    #[serde(borrow, default)]
    pub spec: JobSpecView<'a>,
}

/// A Job's spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobSpecView<'a> {
    /// The pods' template.
    #[serde(borrow, default)]
    pub template: Option<TemplateView<'a>>,
}

/// A pod template: what is looked at, and all of it, to see whether an update changes it.
#[derive(Clone)]
pub struct TemplateView<'a> {
    /// What the planner looks at.
    pub pod: PodView<'a>,
    /// Literal values stand in it: compared, never shown.
    raw: &'a RawValue,
}

impl TemplateView<'_> {
    /// Its JSON.
    pub(crate) fn json(&self) -> &str {
        self.raw.get()
    }

    /// Bytes of its annotations, names and values, but for one of them. An upper bound where that is within what an
    /// object may have anyway.
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
        // The parser's own message may quote values.
        let pod = serde_json::from_str(raw.get())
            .map_err(|_| D::Error::custom("a template with a field of another type"))?;
        Ok(Self { pod, raw })
    }
}

impl<'a> WorkloadView<'a> {
    /// The pods' template.
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

    /// Our annotations on its own metadata.
    #[must_use]
    pub fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.annotations.as_ref())
    }

    /// Its metadata as JSON.
    pub(crate) fn metadata_json(&self) -> Option<&'a str> {
        self.metadata.as_ref().map(|metadata| metadata.raw.get())
    }

    /// The owners that its metadata name.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &OwnerView<'a>> {
        self.metadata
            .iter()
            .flat_map(|metadata| metadata.owner_references.iter().flatten())
    }

    /// The annotations beside the template's, nearest to the pods first.
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

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_being_deleted(&self) -> bool {
        self.metadata
            .as_ref()
            .is_some_and(|metadata| metadata.deletion_timestamp.is_some())
    }
}
