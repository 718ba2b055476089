//! The IO of a scan: pages of metadata, and whole objects only where metadata ask for secrets.
//!
//! Nothing is kept but the page at hand, so that memory does not grow with the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::finding::{Finding, Progress};
use super::judge;
use super::objects::{is_enabled, judge_workload, meta};
use crate::api::{ApiError, ApiErrorKind, Form, ObjectApi};
use crate::backend::BackendError;
use crate::defaults::{Defaults, ENABLED_LABEL, Governing, KubernetesSources};
use crate::injection::{Pattern, PodView, Sources, Text};

/// Objects in a page of metadata.
const PAGE: usize = 500;

/// Objects in a page of whole objects.
const WHOLE_PAGE: usize = 50;

/// Whole objects that are read at the same time.
const AT_ONCE: usize = 8;

/// How often a list whose snapshot is gone is begun anew.
const RESTARTS: usize = 5;

/// How long the defaults of one pod may take to read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which objects are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of one namespace.
    Namespace(String),
    /// Those of all.
    All,
}

/// What the webhook's operator decided.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Containers that the unset selection leaves out.
    pub sidecars: Vec<Pattern>,
    /// Namespaces that the webhook never touches.
    pub exempt: BTreeSet<String>,
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
struct Kind {
    api_version: &'static str,
    name: &'static str,
    plural: &'static str,
    form: Form,
}

const PODS: Kind = Kind { api_version: "v1", name: "Pod", plural: "pods", form: Form::Metadata };

/// A CronJob's jobTemplate has metadata of its own, which a list of metadata does not show.
const WORKLOADS: [Kind; 6] = [
    Kind { api_version: "apps/v1", name: "Deployment", plural: "deployments", form: Form::Metadata },
    Kind { api_version: "apps/v1", name: "StatefulSet", plural: "statefulsets", form: Form::Metadata },
    Kind { api_version: "apps/v1", name: "DaemonSet", plural: "daemonsets", form: Form::Metadata },
    Kind { api_version: "batch/v1", name: "Job", plural: "jobs", form: Form::Metadata },
    Kind { api_version: "batch/v1", name: "CronJob", plural: "cronjobs", form: Form::Whole },
    Kind { api_version: "argoproj.io/v1alpha1", name: "Rollout", plural: "rollouts", form: Form::Metadata },
];

impl Kind {
    fn path(self, namespace: Option<&str>) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let Self { api_version, plural, .. } = self;
        match namespace {
            Some(namespace) => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{api_version}/{plural}"),
        }
    }

    /// A kind that a cluster need not have.
    fn is_optional(self) -> bool {
        self.name == "Rollout"
    }
}

/// Scans a cluster.
#[derive(Debug)]
pub struct Scanner {
    api: ObjectApi,
    defaults: Defaults,
    rules: Rules,
}

impl Scanner {
    /// A scanner with the rights of the client.
    #[must_use]
    pub fn new(api: ObjectApi, rules: Rules) -> Self {
        let defaults = Defaults::new(Arc::new(KubernetesSources(api.client())));
        Self { api, defaults, rules }
    }

    /// Looks at everything in scope and sends what it finds. An object is sent once.
    ///
    /// # Errors
    /// When something could not be read: then not everything was found.
    pub async fn scan(
        &self,
        scope: &Scope,
        progress: &Progress,
        found: &mpsc::Sender<Finding>,
    ) -> Result<(), ScanError> {
        let enabled = self.enabled(scope).await?;
        for kind in [PODS].into_iter().chain(WORKLOADS) {
            match self.list(kind, scope, &enabled, progress, found).await {
                Err(ScanError::Api(error)) if error.kind == ApiErrorKind::NotFound && kind.is_optional() => {}
                // Who cannot see Rollouts need not know whether there are any.
                Err(ScanError::Api(error)) if error.kind == ApiErrorKind::Forbidden && kind.is_optional() => {}
                listed => listed?,
            }
        }
        Ok(())
    }

    /// The namespaces whose defaults count.
    async fn enabled(&self, scope: &Scope) -> Result<BTreeSet<String>, ScanError> {
        let selector = format!("labelSelector={}%3D{}", ENABLED_LABEL.0.replace('/', "%2F"), ENABLED_LABEL.1);
        let mut enabled = BTreeSet::new();
        if let Scope::Namespace(name) = scope {
            let namespace = self.api.get(&format!("/api/v1/namespaces/{name}"), Form::Metadata).await?;
            if namespace.is_some_and(|body| is_enabled(&body)) {
                enabled.insert(name.clone());
            }
            return Ok(enabled);
        }
        let mut more: Option<String> = None;
        loop {
            let page = self.api.page("/api/v1/namespaces", &selector, Form::Metadata, PAGE, more.as_deref()).await?;
            enabled.extend(page.items.iter().filter_map(|item| Some(meta(item)?.name)));
            more = page.more;
            if more.is_none() {
                return Ok(enabled);
            }
        }
    }

    /// All objects of a kind, page by page.
    async fn list(
        &self,
        kind: Kind,
        scope: &Scope,
        enabled: &BTreeSet<String>,
        progress: &Progress,
        found: &mpsc::Sender<Finding>,
    ) -> Result<(), ScanError> {
        let path = kind.path(match scope {
            Scope::Namespace(name) => Some(name),
            Scope::All => None,
        });
        let limit = if kind.form == Form::Whole { WHOLE_PAGE } else { PAGE };
        let mut sent = BTreeSet::new();
        let (mut more, mut restarts): (Option<String>, _) = (None, 0);
        loop {
            let page = match self.api.page(&path, "", kind.form, limit, more.as_deref()).await {
                // The snapshot behind the token is gone: from the start, without saying anything twice.
                Err(error) if error.kind == ApiErrorKind::Gone && restarts < RESTARTS => {
                    (more, restarts) = (None, restarts + 1);
                    continue;
                }
                page => page?,
            };
            progress.listed(page.items.len());
            let mut candidates = Vec::new();
            for item in page.items {
                candidates.extend(self.candidate(kind, &item, enabled));
            }
            let judged = candidates.into_iter().map(|candidate| self.judge(kind, candidate, enabled, progress));
            let mut judged = stream::iter(judged).buffer_unordered(AT_ONCE);
            while let Some(finding) = judged.next().await {
                if let Some(finding) = finding?
                    && sent.insert(finding.uid.clone())
                {
                    progress.found();
                    // Nobody listens any more: nobody needs the rest either.
                    if found.send(finding).await.is_err() {
                        return Ok(());
                    }
                }
            }
            more = page.more;
            if more.is_none() {
                return Ok(());
            }
        }
    }

    /// What of a page has to be looked at closely.
    fn candidate(&self, kind: Kind, item: &RawValue, enabled: &BTreeSet<String>) -> Option<Candidate> {
        let meta = meta(item)?;
        let namespace = meta.namespace.as_deref()?;
        if meta.deletion_timestamp.is_some() || self.rules.exempt.contains(namespace) {
            return None;
        }
        let annotations = meta.annotations.clone().unwrap_or_default();
        let governed = kind.name == "Pod" && enabled.contains(namespace);
        // What stands in a jobTemplate shows only in the whole object.
        let may_ask = judge::asks(&annotations) || governed || kind.form == Form::Whole;
        if !may_ask || annotations.mirror || annotations.get("inject") == Some("false") {
            return None;
        }
        // A Job of a CronJob has its annotations from there, and is mended there.
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if kind.name == "Job" && owner.is_some_and(|owner| owner.kind == "CronJob") {
            return None;
        }
        Some(Candidate {
            namespace: namespace.to_owned(),
            owner: owner.map(|owner| format!("{}/{}", owner.kind, owner.name)),
            name: meta.name,
            uid: meta.uid,
            whole: (kind.form == Form::Whole).then(|| Bytes::copy_from_slice(item.get().as_bytes())),
        })
    }

    async fn judge(
        &self,
        kind: Kind,
        candidate: Candidate,
        enabled: &BTreeSet<String>,
        progress: &Progress,
    ) -> Result<Option<Finding>, ScanError> {
        let Candidate { namespace, name, uid, owner, whole } = candidate;
        let body = if whole.is_some() {
            whole
        } else {
            progress.read();
            self.api.get(&format!("{}/{name}", kind.path(Some(&namespace))), Form::Whole).await?
        };
        // Gone in between.
        let Some(body) = body else { return Ok(None) };
        let problems = if kind.name == "Pod" {
            self.judge_pod(&namespace, &body, enabled.contains(&namespace)).await?
        } else {
            judge_workload(&body)
        };
        let finding = Finding { namespace, api_version: kind.api_version, kind: kind.name, name, uid, owner, problems };
        Ok((!finding.problems.is_empty()).then_some(finding))
    }

    async fn judge_pod(&self, namespace: &str, body: &[u8], governed: bool) -> Result<Vec<String>, ScanError> {
        #[derive(Deserialize)]
        struct Running<'a> {
            #[serde(borrow, default)]
            status: Phase<'a>,
        }
        #[derive(Default, Deserialize)]
        struct Phase<'a> {
            #[serde(borrow, default)]
            phase: Text<'a>,
        }
        let ended = serde_json::from_slice::<Running<'_>>(body)
            .is_ok_and(|pod| matches!(pod.status.phase.as_str(), "Succeeded" | "Failed"));
        let Some(pod) = serde_json::from_slice::<PodView<'_>>(body).ok().filter(|_| !ended) else {
            return Ok(Vec::new());
        };
        let governing = if governed {
            {
                let now = Instant::now();
                self.defaults.governing(namespace, pod.service_account(), now, now + PATIENCE).await?
            }
        } else {
            Governing::default()
        };
        let sources = Sources {
            object: pod.annotations(),
            service_account: governing.service_account.as_deref().map(|a| (pod.service_account(), &a.annotations)),
            namespace: governing.namespace.as_deref().map(|a| (namespace, &a.annotations)),
        };
        Ok(judge::pod(namespace, &pod, &sources, &self.rules.sidecars))
    }
}

/// An object that asks for secrets, or may be governed by defaults.
struct Candidate {
    namespace: String,
    name: String,
    uid: String,
    owner: Option<String>,
    whole: Option<Bytes>,
}
