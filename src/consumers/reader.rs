//! Reader of consumers: pages through the pods and workloads of a namespace, with the caller's permissions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use injection::{AnnotationLayers, Annotations, WorkloadKind};
use tokio::time::Instant;

use super::error::ConsumersError;
use super::found::{ConsumerCounts, Consumers, Effect, PodConsumer, ValueAge, WorkloadConsumer};
use super::limits::{MAX_LISTED_PODS, MAX_LISTED_WORKLOADS, PAGE_SIZE};
use super::owners::{PodOwner, PodOwners};
use super::pod_object::PodObject;
use super::pod_use::{pod_consumer, pod_uses};
use super::progress::ReadProgress;
use super::secret_head::{DataChange, SecretHead};
use super::workload_use::{WorkloadObject, workload_consumer};
use crate::defaults::{AppliedDefaults, Defaults, KubernetesDefaults};
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};

/// Time limit of reading the defaults of one pod.
const DEFAULTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Kinds with a pod template, with their lists.
const KINDS: [(WorkloadKind, &str, &str); 6] = [
    (
        WorkloadKind::Deployment,
        "Deployment",
        "/apis/apps/v1/namespaces/{}/deployments",
    ),
    (
        WorkloadKind::StatefulSet,
        "StatefulSet",
        "/apis/apps/v1/namespaces/{}/statefulsets",
    ),
    (
        WorkloadKind::DaemonSet,
        "DaemonSet",
        "/apis/apps/v1/namespaces/{}/daemonsets",
    ),
    (
        WorkloadKind::Job,
        "Job",
        "/apis/batch/v1/namespaces/{}/jobs",
    ),
    (
        WorkloadKind::CronJob,
        "CronJob",
        "/apis/batch/v1/namespaces/{}/cronjobs",
    ),
    (
        WorkloadKind::Rollout,
        "Rollout",
        "/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts",
    ),
];

/// Reads the consumers of Secrets.
#[derive(Debug)]
pub struct ConsumerReader {
    api: ObjectApi,
    defaults: Defaults,
}

/// Results of one read so far.
struct NamespaceRead<'r> {
    namespace: &'r str,
    secret: &'r SecretHead,
    change: DataChange,
    progress: &'r ReadProgress,
    workloads: Vec<WorkloadConsumer>,
    pods: Vec<PodConsumer>,
    counts: ConsumerCounts,
    notes: Vec<String>,
    /// Consumers that were found, as `Kind/name`: a list that is restarted returns objects again.
    known: BTreeSet<String>,
    /// Whether the defaults could not be read. They are not requested again for every pod.
    has_unread_defaults: bool,
}

impl ConsumerReader {
    /// Creates a reader with the permissions of the client.
    #[must_use]
    pub fn new(api: ObjectApi) -> Self {
        let defaults = Defaults::for_background_reads(Arc::new(KubernetesDefaults(api.client())));
        Self { api, defaults }
    }

    /// Reads the consumers of a Secret. Workloads of kinds that cannot be listed are missing, with a note.
    ///
    /// # Errors
    /// The Secret's metadata or the pods could not be read.
    pub async fn read(
        &self,
        namespace: &str,
        name: &str,
        progress: &ReadProgress,
    ) -> Result<Consumers, ConsumersError> {
        progress.start();
        let secret = SecretHead::read(&self.api, namespace, name).await?;
        let secret = secret.ok_or_else(|| ConsumersError::NotFound {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        })?;
        let mut read = NamespaceRead::new(namespace, &secret, progress);
        for (kind, title, path) in KINDS {
            let path = path.replace("{}", namespace);
            match self.read_workloads((kind, title), &path, &mut read).await {
                // A cluster without Argo Rollouts, or a user who may not list them.
                Err(error)
                    if kind == WorkloadKind::Rollout
                        && (error.kind == ApiErrorKind::NotFound || error.kind.is_denied()) => {}
                Err(error) if error.kind.is_denied() => {
                    read.note(format!("{title}s were not read: {error}"));
                }
                listed => listed?,
            }
        }
        self.read_pods(&mut read).await?;
        let (workloads, pods, counts, notes) = read.finish();
        Ok(Consumers {
            namespace: namespace.to_owned(),
            secret,
            workloads,
            pods,
            counts,
            notes,
        })
    }

    async fn read_workloads(
        &self,
        kind: (WorkloadKind, &'static str),
        path: &str,
        read: &mut NamespaceRead<'_>,
    ) -> Result<(), ApiError> {
        let mut pages = self.api.pages(path, "", Representation::Full, PAGE_SIZE);
        while let Some(page) = pages.next().await? {
            read.progress.count_read(page.items.len());
            for item in &page.items {
                let Ok(object) = serde_json::from_slice::<WorkloadObject<'_>>(item) else {
                    read.counts.skipped += 1;
                    continue;
                };
                // A Job of a CronJob is listed there.
                let is_listed_elsewhere = kind.0 == WorkloadKind::Job && object.is_of_a_cron_job();
                let Some(template) = object.template().filter(|_| !is_listed_elsewhere) else {
                    continue;
                };
                let account = template.service_account();
                let defaults = self
                    .defaults_of(template.annotations(), account, read)
                    .await;
                let layers = defaults.layers(template.annotations(), read.namespace, account);
                let found = workload_consumer(kind, &object, &template, &layers, read.secret);
                read.workloads_found(found);
            }
        }
        read.counts.skipped += pages.skipped().len() as u64;
        Ok(())
    }

    async fn read_pods(&self, read: &mut NamespaceRead<'_>) -> Result<(), ApiError> {
        let path = format!("/api/v1/namespaces/{}/pods", read.namespace);
        let mut owners = PodOwners::new(&self.api, read.namespace);
        let effects = read.effects();
        let mut pages = self.api.pages(&path, "", Representation::Full, PAGE_SIZE);
        while let Some(page) = pages.next().await? {
            read.progress.count_read(page.items.len());
            for item in &page.items {
                let Ok(pod) = serde_json::from_slice::<PodObject<'_>>(item) else {
                    read.counts.skipped += 1;
                    continue;
                };
                if !pod.has_ended() {
                    self.read_pod(pod, &effects, &mut owners, read).await;
                }
            }
        }
        read.counts.skipped += pages.skipped().len() as u64;
        read.notes.extend(owners.note);
        Ok(())
    }

    async fn read_pod(
        &self,
        pod: PodObject<'_>,
        effects: &BTreeMap<PodOwner, Effect>,
        owners: &mut PodOwners<'_>,
        read: &mut NamespaceRead<'_>,
    ) {
        let uses = {
            let (annotations, account) = (
                pod.metadata.annotations.as_ref(),
                pod.spec.service_account(),
            );
            let defaults = self.defaults_of(annotations, account, read).await;
            let layers: AnnotationLayers<'_> =
                defaults.layers(annotations, read.namespace, account);
            pod_uses(&pod, &layers, &read.secret.name)
        };
        if uses.is_empty() {
            return;
        }
        let owner = match pod.controller() {
            Some(controller) => Some(owners.workload_of(controller).await),
            None => None,
        };
        let effect = owner
            .as_ref()
            .and_then(|owner| effects.get(owner))
            .copied()
            .unwrap_or_else(|| effect_without_workload(owner.as_ref()));
        let owner = owner.map(|owner| format!("{}/{}", owner.kind, owner.name));
        read.pod_found(pod_consumer(pod, uses, owner, effect, read.change));
    }

    /// Defaults that apply to pods of a service account; none if they cannot be read, with a note.
    async fn defaults_of(
        &self,
        annotations: Option<&Annotations<'_>>,
        service_account: &str,
        read: &mut NamespaceRead<'_>,
    ) -> AppliedDefaults {
        if read.has_unread_defaults || annotations.is_some_and(Annotations::opts_out) {
            return AppliedDefaults::default();
        }
        let now = Instant::now();
        let applied = self
            .defaults
            .applied(read.namespace, service_account, now, now + DEFAULTS_TIMEOUT)
            .await;
        applied.unwrap_or_else(|error| {
            read.has_unread_defaults = true;
            read.note(format!(
                "defaults of the namespace and its service accounts were not read: {error}"
            ));
            AppliedDefaults::default()
        })
    }
}

/// Effect on pods whose workload does not refer to the Secret, or is not known.
fn effect_without_workload(owner: Option<&PodOwner>) -> Effect {
    match owner.map(|owner| owner.kind.as_str()) {
        Some("Job" | "CronJob") => Effect::NextRun,
        _ => Effect::KeepsOldValue,
    }
}

impl<'r> NamespaceRead<'r> {
    fn new(namespace: &'r str, secret: &'r SecretHead, progress: &'r ReadProgress) -> Self {
        // Without a time of the last change, every container that keeps a value may have an older one.
        let unknown = DataChange {
            earliest: jiff::Timestamp::UNIX_EPOCH,
            latest: jiff::Timestamp::MAX,
        };
        Self {
            namespace,
            secret,
            change: secret.changed.unwrap_or(unknown),
            progress,
            workloads: Vec::new(),
            pods: Vec::new(),
            counts: ConsumerCounts::default(),
            notes: Vec::new(),
            known: BTreeSet::new(),
            has_unread_defaults: false,
        }
    }

    /// Adds a sentence, unless it is the last one already.
    fn note(&mut self, sentence: String) {
        if !self.notes.contains(&sentence) && self.notes.len() < KINDS.len() + 2 {
            self.notes.push(sentence);
        }
    }

    fn workloads_found(&mut self, found: Option<WorkloadConsumer>) {
        let Some(workload) = found else { return };
        if !self
            .known
            .insert(format!("{}/{}", workload.kind, workload.name))
        {
            return;
        }
        self.counts.workloads += 1;
        if self.workloads.len() < MAX_LISTED_WORKLOADS {
            self.workloads.push(workload);
        }
    }

    fn pod_found(&mut self, pod: PodConsumer) {
        if !self.known.insert(format!("Pod/{}", pod.name)) {
            return;
        }
        self.counts.pods += 1;
        self.counts.old += u64::from(pod.value == Some(ValueAge::Old));
        self.counts.possibly_old += u64::from(pod.value == Some(ValueAge::PossiblyOld));
        if pod.is_stale() {
            self.progress.count_stale();
        }
        if self.pods.len() < MAX_LISTED_PODS {
            self.pods.push(pod);
        } else if pod.is_stale() {
            // Pods with an older value are listed first.
            if let Some(other) = self.pods.iter_mut().rev().find(|pod| !pod.is_stale()) {
                *other = pod;
            }
        }
    }

    /// Effects on the workloads that were found.
    fn effects(&self) -> BTreeMap<PodOwner, Effect> {
        let effect = |workload: &WorkloadConsumer| {
            let owner = PodOwner {
                kind: workload.kind.to_owned(),
                name: workload.name.clone(),
            };
            (owner, workload.effect)
        };
        self.workloads.iter().map(effect).collect()
    }

    fn finish(
        mut self,
    ) -> (
        Vec<WorkloadConsumer>,
        Vec<PodConsumer>,
        ConsumerCounts,
        Vec<String>,
    ) {
        self.workloads
            .sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        self.pods.sort_by(|one, other| {
            let rank = |pod: &PodConsumer| pod.value.unwrap_or(ValueAge::Current);
            (rank(one), &one.name).cmp(&(rank(other), &other.name))
        });
        (self.workloads, self.pods, self.counts, self.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, value: ValueAge) -> PodConsumer {
        PodConsumer {
            name: name.to_owned(),
            owner: None,
            uses: Vec::new(),
            effect: Effect::KeepsOldValue,
            containers: Vec::new(),
            value: Some(value),
            being_deleted: false,
        }
    }

    #[test]
    fn pods_beyond_the_limit_are_counted_and_old_ones_are_listed() {
        let secret = SecretHead {
            name: "db".to_owned(),
            created: None,
            keys: Some(BTreeSet::new()),
            changed: None,
            annotations: Annotations::default(),
        };
        let progress = ReadProgress::default();
        let mut read = NamespaceRead::new("jobs", &secret, &progress);
        for number in 0..=MAX_LISTED_PODS {
            read.pod_found(pod(&format!("current-{number}"), ValueAge::Current));
        }
        read.pod_found(pod("old", ValueAge::Old));
        let (_, pods, counts, _) = read.finish();
        assert_eq!(pods.len(), MAX_LISTED_PODS);
        assert_eq!(counts.pods, MAX_LISTED_PODS as u64 + 2);
        assert_eq!((pods[0].name.as_str(), counts.stale()), ("old", 1));
    }
}
