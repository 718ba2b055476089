//! The IO of a scan: pages of metadata, and whole objects only where metadata ask for secrets.
//!
//! Nothing is kept but the page at hand, so that memory does not grow with the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::evaluate::{self, Evaluation};
use super::finding::{Finding, Found, Owner, Progress, Warned};
use super::objects::{job_has_ended, labels, meta, pod_has_ended};
use crate::admission::gate::check_pod;
use crate::backend::BackendError;
use crate::defaults::{AppliedDefaults, Defaults, ENABLED_LABEL, KubernetesDefaults};
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation, Selector};
use injection::{PodView, Sidecar, WorkloadKind, WorkloadView};

/// Objects in a page of metadata.
pub(super) const PAGE: usize = 500;

/// Objects in a page of whole objects.
pub(super) const WHOLE_PAGE: usize = 50;

/// Whole objects that are read at the same time; each may be as large as an object can be.
pub(super) const AT_ONCE: usize = 4;

/// How long the defaults of one pod may take to read.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Which objects are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of these namespaces, by rights in each of them.
    Namespaces(Vec<String>),
    /// Those of all, by rights on the cluster.
    All,
}

/// What the webhook's operator decided.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Containers that the unset selection leaves out.
    pub sidecars: Vec<Sidecar>,
    /// Namespaces that the webhook never touches.
    pub exempt: BTreeSet<String>,
    /// The labels of namespaces that the webhook serves.
    pub selected: Selector,
    /// The labels of pods and workloads that are sent to the webhook.
    pub objects: Selector,
}

/// Why a scan could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A list or an object could not be read.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The defaults of a namespace or service account could not be read.
    #[error(transparent)]
    Defaults(#[from] BackendError),
}

/// A kind that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub api_version: &'static str,
    pub name: &'static str,
    pub plural: &'static str,
    /// `None` for pods, revisions, and for what carries defaults.
    pub workload: Option<WorkloadKind>,
    form: Representation,
}

const PODS: Kind = Kind {
    api_version: "v1",
    name: "Pod",
    plural: "pods",
    workload: None,
    form: Representation::Metadata,
};

pub(super) const WORKLOADS: [Kind; 6] = [
    Kind::of(
        "apps/v1",
        "Deployment",
        "deployments",
        WorkloadKind::Deployment,
    ),
    Kind::of(
        "apps/v1",
        "StatefulSet",
        "statefulsets",
        WorkloadKind::StatefulSet,
    ),
    Kind::of(
        "apps/v1",
        "DaemonSet",
        "daemonsets",
        WorkloadKind::DaemonSet,
    ),
    Kind::of("batch/v1", "Job", "jobs", WorkloadKind::Job),
    Kind::of("batch/v1", "CronJob", "cronjobs", WorkloadKind::CronJob),
    Kind::of(
        "argoproj.io/v1alpha1",
        "Rollout",
        "rollouts",
        WorkloadKind::Rollout,
    ),
];

impl Kind {
    const fn of(
        api_version: &'static str,
        name: &'static str,
        plural: &'static str,
        workload: WorkloadKind,
    ) -> Self {
        // A CronJob's jobTemplate has metadata of its own, which a list of metadata does not show.
        let form = if matches!(workload, WorkloadKind::CronJob) {
            Representation::Full
        } else {
            Representation::Metadata
        };
        Self {
            api_version,
            name,
            plural,
            workload: Some(workload),
            form,
        }
    }

    /// A Namespace or ServiceAccount.
    pub(super) const fn of_defaults(name: &'static str, plural: &'static str) -> Self {
        Self {
            api_version: "v1",
            name,
            plural,
            workload: None,
            form: Representation::Metadata,
        }
    }

    /// A `ReplicaSet` or `ControllerRevision`.
    pub(super) const fn of_revisions(name: &'static str, plural: &'static str) -> Self {
        Self {
            api_version: "apps/v1",
            name,
            plural,
            workload: None,
            form: Representation::Full,
        }
    }

    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let root = if self.api_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        let Self {
            api_version,
            plural,
            ..
        } = self;
        match namespace {
            Some(namespace) => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{api_version}/{plural}"),
        }
    }

    /// A kind that a cluster need not have.
    fn is_optional(self) -> bool {
        self.workload == Some(WorkloadKind::Rollout)
    }
}

/// What one scan is to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where.
    pub scope: Scope,
    /// The warnings about pods that were created since are wanted too.
    pub warned_since: Option<jiff::Timestamp>,
    /// Annotations and labels without effect are wanted too.
    pub ineffective: bool,
    /// References that were lost together with an annotation are wanted too. Needs more rights than the rest.
    pub lost: bool,
}

/// Scans a cluster.
#[derive(Debug)]
pub struct Scanner {
    pub(super) api: ObjectApi,
    pub(super) defaults: Defaults,
    pub(super) rules: Rules,
}

/// One scan under way.
#[derive(Clone, Copy)]
pub(super) struct Run<'r> {
    pub task: &'r Task,
    pub namespaces: &'r Namespaces,
    pub progress: &'r Progress,
    pub found: &'r mpsc::Sender<Found>,
}

/// What the labels of namespaces say.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// Those whose defaults count.
    pub enabled: BTreeSet<String>,
    /// Those that the webhook serves; `None` when it serves all.
    selected: Option<BTreeSet<String>>,
}

impl Namespaces {
    pub fn selects(&self, namespace: &str) -> bool {
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(namespace))
    }
}

impl Scanner {
    /// A scanner with the rights of the client.
    #[must_use]
    pub fn new(api: ObjectApi, rules: Rules) -> Self {
        let defaults = Defaults::patient(Arc::new(KubernetesDefaults(api.client())));
        Self {
            api,
            defaults,
            rules,
        }
    }

    /// Looks at everything in scope and sends what it finds. An object is sent once.
    ///
    /// # Errors
    /// When something could not be read: then not everything was found.
    pub async fn scan(
        &self,
        task: &Task,
        progress: &Progress,
        found: &mpsc::Sender<Found>,
    ) -> Result<(), ScanError> {
        let namespaces = self.namespaces(&task.scope).await?;
        let run = Run {
            task,
            namespaces: &namespaces,
            progress,
            found,
        };
        if task.ineffective {
            self.defaults_without_effect(run).await?;
        }
        match &task.scope {
            Scope::All => self.lists(None, run).await,
            Scope::Namespaces(names) => {
                for name in names.iter().filter(|name| namespaces.selects(name)) {
                    self.lists(Some(name), run).await?;
                }
                Ok(())
            }
        }
    }

    /// All kinds, in one namespace or in all.
    async fn lists(&self, namespace: Option<&str>, run: Run<'_>) -> Result<(), ScanError> {
        for kind in [PODS].into_iter().chain(WORKLOADS) {
            match self.list(kind, namespace, run).await {
                Err(ScanError::Api(error))
                    if error.kind == ApiErrorKind::NotFound && kind.is_optional() => {}
                // Who cannot see Rollouts need not know whether there are any.
                Err(ScanError::Api(error)) if error.kind.is_denied() && kind.is_optional() => {}
                listed => listed?,
            }
        }
        if run.task.lost {
            self.lost_references(namespace, run).await?;
        }
        Ok(())
    }

    /// What the labels of the namespaces in scope say.
    async fn namespaces(&self, scope: &Scope) -> Result<Namespaces, ScanError> {
        let selector = &self.rules.selected;
        let label = (ENABLED_LABEL.0, ENABLED_LABEL.1);
        if let Scope::Namespaces(names) = scope {
            let mut namespaces = Namespaces {
                enabled: BTreeSet::new(),
                selected: Some(BTreeSet::new()),
            };
            for name in names {
                let body = self
                    .api
                    .get(
                        &format!("/api/v1/namespaces/{name}"),
                        Representation::Metadata,
                    )
                    .await?;
                let labels = body.map(|body| labels(&body)).unwrap_or_default();
                if labels.get(label.0).is_some_and(|value| value == label.1) {
                    namespaces.enabled.insert(name.clone());
                }
                if selector.matches(&labels) {
                    namespaces
                        .selected
                        .get_or_insert_default()
                        .insert(name.clone());
                }
            }
            return Ok(namespaces);
        }
        let enabled = format!(
            "labelSelector={}%3D{}",
            label.0.replace('/', "%2F"),
            label.1
        );
        let enabled = self.named(&enabled).await?;
        let selected = if selector.is_empty() {
            None
        } else {
            Some(self.named(&selector.query()).await?)
        };
        Ok(Namespaces { enabled, selected })
    }

    /// The names of the namespaces that a query gives.
    async fn named(&self, query: &str) -> Result<BTreeSet<String>, ScanError> {
        let mut names = BTreeSet::new();
        let mut pages = self
            .api
            .pages("/api/v1/namespaces", query, Representation::Metadata, PAGE);
        while let Some(page) = pages.next().await? {
            names.extend(page.items.iter().filter_map(|item| Some(meta(item)?.name)));
        }
        Ok(names)
    }

    /// All objects of a kind, page by page.
    async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        run: Run<'_>,
    ) -> Result<(), ScanError> {
        let (path, query) = (kind.path(namespace), self.rules.objects.query());
        let most = if kind.form == Representation::Full {
            WHOLE_PAGE
        } else {
            PAGE
        };
        // A list that had to begin anew gives objects twice: nothing is said twice.
        let (mut sent, mut names_sent) = (BTreeSet::new(), BTreeSet::new());
        let mut pages = self.api.pages(&path, &query, kind.form, most);
        while let Some(page) = pages.next().await? {
            run.progress.listed(page.items.len());
            if run.task.ineffective {
                self.names_without_effect(kind, &page.items, run, &mut names_sent)
                    .await;
            }
            let candidates: Vec<Candidate> = page
                .items
                .into_iter()
                .filter_map(|item| self.candidate(kind, &item, run))
                .collect();
            let judged = candidates
                .into_iter()
                .map(|candidate| self.evaluate(kind, candidate, run));
            let mut judged = stream::iter(judged).buffer_unordered(AT_ONCE);
            while let Some(judged) = judged.next().await {
                if let Some((uid, found)) = judged?
                    && sent.insert(uid)
                {
                    if matches!(found, Found::Drifted(_)) {
                        run.progress.found();
                    }
                    // Nobody listens any more: nobody needs the rest either.
                    if run.found.send(found).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        for object in pages.skipped() {
            run.progress.skip(format!("{} {object}", kind.plural));
        }
        Ok(())
    }

    /// What of a page has to be looked at closely.
    fn candidate(&self, kind: Kind, item: &Bytes, run: Run<'_>) -> Option<Candidate> {
        let mut meta = meta(item)?;
        let namespace = meta.namespace.clone()?;
        let annotations = meta.annotations.take().unwrap_or_default();
        let is_exempt = check_pod(&namespace, Some(&annotations), &self.rules.exempt).is_err();
        if meta.deletion_timestamp.is_some() || is_exempt || !run.namespaces.selects(&namespace) {
            return None;
        }
        let governed = kind.workload.is_none() && run.namespaces.enabled.contains(&namespace);
        // What stands in a jobTemplate shows only in the whole object.
        let may_ask = annotations.say_anything() || governed || kind.form == Representation::Full;
        let opted_out = kind.workload.is_none() && annotations.opts_out();
        if !may_ask || opted_out {
            return None;
        }
        // A Job of a CronJob has its annotations from there, and is mended there.
        let owner = meta.controller();
        if kind.workload == Some(WorkloadKind::Job)
            && owner.as_ref().is_some_and(|owner| owner.kind == "CronJob")
        {
            return None;
        }
        Some(Candidate {
            namespace,
            owner,
            whole: (kind.form == Representation::Full).then(|| item.clone()),
            is_new: run
                .task
                .warned_since
                .is_some_and(|since| meta.is_since(since)),
            name: meta.name,
            uid: meta.uid,
        })
    }

    /// What has to be said about an object, and its uid.
    async fn evaluate(
        &self,
        kind: Kind,
        candidate: Candidate,
        run: Run<'_>,
    ) -> Result<Option<(String, Found)>, ScanError> {
        let Candidate {
            namespace,
            name,
            uid,
            owner,
            is_new,
            whole,
        } = candidate;
        let body = if whole.is_some() {
            whole
        } else {
            self.whole(kind, &namespace, &name, run).await?
        };
        // Gone in between.
        let Some(body) = body else { return Ok(None) };
        let Evaluation { problems, warnings } = match kind.workload {
            None => {
                self.evaluate_pod(
                    &namespace,
                    &body,
                    run.namespaces.enabled.contains(&namespace),
                )
                .await?
            }
            Some(kind) => evaluate_workload(kind, &body),
        };
        if !problems.is_empty() {
            let owner = owner.map(|owner| format!("{}/{}", owner.kind, owner.name));
            let Kind {
                api_version,
                name: kind,
                ..
            } = kind;
            let finding = Finding {
                namespace,
                api_version,
                kind,
                name,
                uid: uid.clone(),
                owner,
                problems,
            };
            return Ok(Some((uid, Found::Drifted(finding))));
        }
        // Who makes a pod by hand was told.
        let warned = owner.filter(|_| is_new && !warnings.is_empty());
        Ok(warned.map(|owner| {
            (
                uid,
                Found::Warned(Warned {
                    namespace,
                    owner,
                    warnings,
                }),
            )
        }))
    }

    /// Whether the webhook serves a namespace.
    pub(super) fn serves(&self, namespace: &str, run: Run<'_>) -> bool {
        run.namespaces.selects(namespace) && !self.rules.exempt.contains(namespace)
    }

    /// A whole object; `None` if it is gone or too large.
    pub(super) async fn whole(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        run: Run<'_>,
    ) -> Result<Option<Bytes>, ScanError> {
        run.progress.read();
        match self
            .api
            .get(
                &format!("{}/{name}", kind.path(Some(namespace))),
                Representation::Full,
            )
            .await
        {
            Err(error) if error.kind == ApiErrorKind::TooLong => {
                run.progress
                    .skip(format!("{} {namespace}/{name}", kind.plural));
                warn!(
                    path = kind.plural,
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
        governed: bool,
    ) -> Result<Evaluation, ScanError> {
        let Some(pod) = serde_json::from_slice::<PodView<'_>>(body)
            .ok()
            .filter(|_| !pod_has_ended(body))
        else {
            return Ok(Evaluation::default());
        };
        let applied = if governed {
            let now = Instant::now();
            self.defaults
                .applied(namespace, pod.service_account(), now, now + PATIENCE)
                .await?
        } else {
            AppliedDefaults::default()
        };
        let layers = applied.layers(pod.annotations(), namespace, pod.service_account());
        Ok(evaluate::pod(
            namespace,
            &pod,
            &layers,
            &self.rules.sidecars,
        ))
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

/// An object that asks for secrets, or may be governed by defaults.
struct Candidate {
    namespace: String,
    name: String,
    uid: String,
    owner: Option<Owner>,
    is_new: bool,
    whole: Option<Bytes>,
}
