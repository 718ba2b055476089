//! Scanner: lists metadata page by page, and reads only those objects in full whose metadata refer to secrets.
//!
//! Only the current page is kept, so that memory does not grow with the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::error::ScanError;
use super::evaluate::{self, Evaluation};
use super::finding::{Finding, FindingOwner, Progress, ScanFinding, Warned};
use super::namespaces::ServedNamespaces;
use super::objects::{job_has_ended, object_meta, pod_has_ended};
use super::resource::{PODS, ScannedResource, WORKLOADS};
use super::task::{Rules, Scope, Task};
use crate::admission::gate::check_pod;
use crate::defaults::{AppliedDefaults, Defaults, KubernetesDefaults};
use crate::kubernetes::{ApiErrorKind, ObjectApi, Representation};
use injection::{PodView, WorkloadKind, WorkloadView};

/// Limit of full objects that are read at the same time; each may be as large as the API server allows.
pub(super) const MAX_CONCURRENT_READS: usize = 4;

/// Time limit of reading the defaults of one pod.
const DEFAULTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Scans a cluster.
#[derive(Debug)]
pub struct Scanner {
    pub(super) api: ObjectApi,
    defaults: Defaults,
    pub(super) rules: Rules,
}

/// State of one scan.
#[derive(Clone, Copy)]
pub(super) struct Run<'r> {
    pub task: &'r Task,
    pub namespaces: &'r ServedNamespaces,
    pub progress: &'r Progress,
    pub found: &'r mpsc::Sender<ScanFinding>,
}

/// An object that refers to secrets, or to which defaults may apply.
struct ScanCandidate {
    namespace: String,
    name: String,
    uid: String,
    owner: Option<FindingOwner>,
    /// Whether warnings about the object are reported.
    is_new: bool,
    /// The full object, if the list included it.
    body: Option<Bytes>,
}

impl Scanner {
    /// Creates a scanner with the permissions of the client.
    #[must_use]
    pub fn new(api: ObjectApi, rules: Rules) -> Self {
        let defaults = Defaults::for_background_reads(Arc::new(KubernetesDefaults(api.client())));
        Self {
            api,
            defaults,
            rules,
        }
    }

    /// Scans everything in scope and sends the findings, at most one per object.
    ///
    /// # Errors
    /// [`ScanError`] if an object or a list could not be read. The findings are incomplete then.
    pub async fn scan(
        &self,
        task: &Task,
        progress: &Progress,
        found: &mpsc::Sender<ScanFinding>,
    ) -> Result<(), ScanError> {
        let namespaces =
            ServedNamespaces::read(&self.api, &task.scope, &self.rules.selected).await?;
        let run = Run {
            task,
            namespaces: &namespaces,
            progress,
            found,
        };
        if task.ineffective {
            self.find_idle_defaults(run).await?;
        }
        match &task.scope {
            Scope::All => self.scan_resources(None, run).await,
            Scope::Namespaces(names) => {
                for name in names.iter().filter(|name| namespaces.selects(name)) {
                    self.scan_resources(Some(name), run).await?;
                }
                Ok(())
            }
        }
    }

    /// Scans all resources in one namespace, or in all.
    async fn scan_resources(&self, namespace: Option<&str>, run: Run<'_>) -> Result<(), ScanError> {
        for resource in [PODS].into_iter().chain(WORKLOADS) {
            match self.scan_resource(resource, namespace, run).await {
                // Without permission to list Rollouts, the cluster is scanned as if it had none.
                Err(ScanError::Api(error))
                    if resource.is_optional()
                        && (error.kind == ApiErrorKind::NotFound || error.kind.is_denied()) => {}
                listed => listed?,
            }
        }
        if run.task.lost {
            self.find_lost_references(namespace, run).await?;
        }
        Ok(())
    }

    /// Scans all objects of a resource, page by page.
    async fn scan_resource(
        &self,
        resource: ScannedResource,
        namespace: Option<&str>,
        run: Run<'_>,
    ) -> Result<(), ScanError> {
        let (path, query) = (resource.path(namespace), self.rules.objects.query());
        // A list that was restarted returns objects again; each is reported once.
        let (mut sent, mut names_sent) = (BTreeSet::new(), BTreeSet::new());
        let mut pages =
            self.api
                .pages(&path, &query, resource.representation, resource.page_size());
        while let Some(page) = pages.next().await? {
            run.progress.count_listed(page.items.len());
            if run.task.ineffective {
                self.find_ineffective_names(resource, &page.items, run, &mut names_sent)
                    .await;
            }
            let candidates: Vec<ScanCandidate> = page
                .items
                .into_iter()
                .filter_map(|item| self.candidate(resource, &item, run))
                .collect();
            let evaluations = candidates
                .into_iter()
                .map(|candidate| self.evaluate(resource, candidate, run));
            let mut evaluations = stream::iter(evaluations).buffer_unordered(MAX_CONCURRENT_READS);
            while let Some(evaluated) = evaluations.next().await {
                if let Some((uid, found)) = evaluated?
                    && sent.insert(uid)
                {
                    if matches!(found, ScanFinding::Drifted(_)) {
                        run.progress.count_found();
                    }
                    // A closed receiver needs no further findings.
                    if run.found.send(found).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        for object in pages.skipped() {
            run.progress.skip(format!("{} {object}", resource.plural));
        }
        Ok(())
    }

    /// Selects an object of a page for evaluation.
    fn candidate(
        &self,
        resource: ScannedResource,
        item: &Bytes,
        run: Run<'_>,
    ) -> Option<ScanCandidate> {
        let mut meta = object_meta(item)?;
        let namespace = meta.namespace.clone()?;
        let annotations = meta.annotations.take().unwrap_or_default();
        let is_exempt = check_pod(&namespace, Some(&annotations), &self.rules.exempt).is_err();
        if meta.deletion_timestamp.is_some() || is_exempt || !run.namespaces.selects(&namespace) {
            return None;
        }
        let is_pod = resource.workload.is_none();
        let has_defaults = is_pod && run.namespaces.enabled.contains(&namespace);
        // The annotations of a jobTemplate are only in the full object.
        let may_refer = annotations.has_requests() || has_defaults || resource.is_listed_in_full();
        let opted_out = is_pod && annotations.opts_out();
        if !may_refer || opted_out {
            return None;
        }
        // A Job of a CronJob inherits its annotations from there, and is reported there.
        let owner = meta.controller();
        if resource.workload == Some(WorkloadKind::Job)
            && owner.as_ref().is_some_and(|owner| owner.kind == "CronJob")
        {
            return None;
        }
        Some(ScanCandidate {
            namespace,
            owner,
            body: resource.is_listed_in_full().then(|| item.clone()),
            is_new: run
                .task
                .warned_since
                .is_some_and(|since| meta.is_since(since)),
            name: meta.name,
            uid: meta.uid,
        })
    }

    /// Evaluates an object and returns its finding with its uid.
    async fn evaluate(
        &self,
        resource: ScannedResource,
        mut candidate: ScanCandidate,
        run: Run<'_>,
    ) -> Result<Option<(String, ScanFinding)>, ScanError> {
        let (namespace, name) = (candidate.namespace.as_str(), candidate.name.as_str());
        let body = match candidate.body.take() {
            Some(body) => Some(body),
            None => self.read_full(resource, namespace, name, run).await?,
        };
        // The object was deleted after it was listed.
        let Some(body) = body else { return Ok(None) };
        let evaluation = match resource.workload {
            Some(kind) => evaluate_workload(kind, &body),
            None => self.evaluate_pod(namespace, &body, run).await?,
        };
        Ok(candidate.finding(resource, evaluation))
    }

    /// Whether the webhook serves a namespace.
    pub(super) fn serves(&self, namespace: &str, run: Run<'_>) -> bool {
        run.namespaces.selects(namespace) && !self.rules.exempt.contains(namespace)
    }

    /// Reads a full object; `None` if it was deleted or is too large.
    pub(super) async fn read_full(
        &self,
        resource: ScannedResource,
        namespace: &str,
        name: &str,
        run: Run<'_>,
    ) -> Result<Option<Bytes>, ScanError> {
        run.progress.count_read();
        let path = format!("{}/{name}", resource.path(Some(namespace)));
        match self.api.get(&path, Representation::Full).await {
            Err(error) if error.kind == ApiErrorKind::TooLong => {
                run.progress
                    .skip(format!("{} {namespace}/{name}", resource.plural));
                warn!(
                    path = resource.plural,
                    namespace, name, "object is too large to read; skipped"
                );
                Ok(None)
            }
            read => Ok(read?),
        }
    }

    async fn evaluate_pod(
        &self,
        namespace: &str,
        body: &[u8],
        run: Run<'_>,
    ) -> Result<Evaluation, ScanError> {
        let Some(pod) = serde_json::from_slice::<PodView<'_>>(body)
            .ok()
            .filter(|_| !pod_has_ended(body))
        else {
            return Ok(Evaluation::default());
        };
        let defaults = self
            .read_defaults(namespace, pod.service_account(), run)
            .await?;
        let layers = defaults.layers(pod.annotations(), namespace, pod.service_account());
        Ok(evaluate::pod(
            namespace,
            &pod,
            &layers,
            &self.rules.sidecars,
        ))
    }

    /// Reads the defaults that apply to pods of a service account.
    pub(super) async fn read_defaults(
        &self,
        namespace: &str,
        service_account: &str,
        run: Run<'_>,
    ) -> Result<AppliedDefaults, ScanError> {
        if !run.namespaces.enabled.contains(namespace) {
            return Ok(AppliedDefaults::default());
        }
        let now = Instant::now();
        let applied = self
            .defaults
            .applied(namespace, service_account, now, now + DEFAULTS_TIMEOUT)
            .await?;
        Ok(applied)
    }
}

impl ScanCandidate {
    /// Finding about the evaluated object, with its uid; `None` if there is nothing to report.
    fn finding(
        self,
        resource: ScannedResource,
        evaluation: Evaluation,
    ) -> Option<(String, ScanFinding)> {
        let Evaluation { problems, warnings } = evaluation;
        let Self {
            namespace,
            name,
            uid,
            owner,
            is_new,
            body: _,
        } = self;
        if !problems.is_empty() {
            let owner = owner.map(|owner| format!("{}/{}", owner.kind, owner.name));
            let finding = Finding {
                namespace,
                api_version: resource.api_version,
                kind: resource.kind,
                name,
                uid: uid.clone(),
                owner,
                problems,
            };
            return Some((uid, ScanFinding::Drifted(finding)));
        }
        // The creator of a pod without an owner received the warnings from the API server.
        let owner = owner.filter(|_| is_new && !warnings.is_empty())?;
        let warned = Warned {
            namespace,
            owner,
            warnings,
        };
        Some((uid, ScanFinding::Warned(warned)))
    }
}

fn evaluate_workload(kind: WorkloadKind, body: &[u8]) -> Evaluation {
    let workload = serde_json::from_slice::<WorkloadView<'_>>(body).ok();
    let workload = workload.filter(|_| kind != WorkloadKind::Job || !job_has_ended(body));
    let problems = workload
        .map(|workload| evaluate::workload(kind, &workload))
        .unwrap_or_default();
    Evaluation {
        problems,
        ..Evaluation::default()
    }
}
