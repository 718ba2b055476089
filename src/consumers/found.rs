//! Results: consumers of a Secret, and the effect of a change on each.

use jiff::Timestamp;
use serde::Serialize;

use super::secret_head::SecretHead;

/// Way in which a container or pod uses a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UseKind {
    /// `env` with `secretKeyRef`.
    Env,
    /// `envFrom` with `secretRef`.
    EnvFrom,
    /// A volume, also a projected one. The kubelet updates it.
    Volume,
    /// One file of a volume, mounted by `subPath`. The kubelet does not update it while the container runs.
    SubPath,
    /// A volume whose driver reads the Secret when it mounts.
    VolumeDriver,
    /// `imagePullSecrets`.
    ImagePull,
    /// A requesting annotation.
    Annotation,
}

impl UseKind {
    /// Whether a running container keeps the value that the Secret had at its start.
    #[must_use]
    pub fn keeps_value(self) -> bool {
        matches!(self, Self::Env | Self::EnvFrom | Self::SubPath)
    }

    /// Name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::EnvFrom => "envFrom",
            Self::Volume => "volume",
            Self::SubPath => "volume (subPath)",
            Self::VolumeDriver => "volume driver",
            Self::ImagePull => "imagePullSecrets",
            Self::Annotation => "annotation",
        }
    }
}

/// One use of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerUse {
    #[serde(rename = "by")]
    pub kind: UseKind,
    /// `None` for a use by the whole pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Annotation that requests the Secret, and the object that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
}

impl ConsumerUse {
    pub(super) fn of_pod(kind: UseKind) -> Self {
        Self {
            kind,
            container: None,
            annotation: None,
        }
    }
}

/// Consequence of a change of the Secret for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "change")]
pub enum Effect {
    /// A program restarts it.
    Restarts {
        /// `reloader` or `infisical`.
        by: &'static str,
        /// Annotation that makes the program do so.
        annotation: &'static str,
        /// Whether an entry of that annotation is a regular expression which was not compared.
        possibly: bool,
    },
    /// The next run reads the new value; a current one keeps the old.
    NextRun,
    /// It keeps the old value until somebody restarts it.
    KeepsOldValue,
    /// It is updated while it runs.
    Follows,
    /// Its workload could not be read, or is of a kind that is not read.
    Unknown,
}

/// A workload that uses the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadConsumer {
    /// For example `Deployment`.
    pub kind: &'static str,
    pub name: String,
    pub uses: Vec<ConsumerUse>,
    #[serde(flatten)]
    pub effect: Effect,
}

/// Age of the value that a running container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueAge {
    /// It started before the last change.
    Old,
    /// It started before the latest possible time of the last change, in the same second, or so soon after it that the
    /// kubelet may have read the value before.
    PossiblyOld,
    /// It started after the last change, or is updated while it runs.
    Current,
}

/// A running container that uses the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUse {
    pub name: String,
    pub started: Timestamp,
    pub value: ValueAge,
}

/// A pod that uses the Secret, and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodConsumer {
    pub name: String,
    /// `Kind/name` of the workload that the pod belongs to, or of its direct owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub uses: Vec<ConsumerUse>,
    #[serde(flatten)]
    pub effect: Effect,
    /// Running containers that keep a value, those with an old one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerUse>,
    /// Oldest value of its containers; `None` if no running container keeps a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueAge>,
    /// Whether the pod is being deleted. It still runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub being_deleted: bool,
}

impl PodConsumer {
    /// Whether a container runs, or may run, with an older value.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self.value, Some(ValueAge::Old | ValueAge::PossiblyOld))
    }
}

/// Numbers of consumers. Those that are not listed are counted too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerCounts {
    pub workloads: u64,
    pub pods: u64,
    /// Pods with an older value.
    pub old: u64,
    /// Pods that may have an older value.
    pub possibly_old: u64,
    /// Pods and workloads that are too large to be read.
    pub skipped: u64,
}

impl ConsumerCounts {
    /// Pods that run, or may run, with an older value.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.old + self.possibly_old
    }
}

/// All consumers of a Secret.
#[derive(Clone, Debug)]
pub struct Consumers {
    pub namespace: String,
    pub secret: SecretHead,
    /// By kind and name.
    pub workloads: Vec<WorkloadConsumer>,
    /// Pods with an older value first, then by name.
    pub pods: Vec<PodConsumer>,
    pub counts: ConsumerCounts,
    /// Sentences about objects that were not read, and why.
    pub notes: Vec<String>,
}
