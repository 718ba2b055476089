//! Scan for lost references: lists the revisions of workloads, and reads in full only those with different annotations.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use super::error::ScanError;
use super::finding::{Finding, ScanFinding};
use super::lost::{Comparison, LostReferences};
use super::objects::{is_object_name, labels, object_meta};
use super::resource::{ScannedResource, WORKLOADS};
use super::revision::{Histories, RevisionCandidate};
use super::revision_store::RevisionStore;
use super::scanner::{MAX_CONCURRENT_READS, Run, Scanner};
use injection::{PodView, WorkloadUpdate, WorkloadView};

/// Bodies of a workload and of its two latest revisions.
struct RevisionBodies {
    workload: Bytes,
    previous: Bytes,
    latest: Bytes,
}

impl Scanner {
    /// Compares the two latest revisions of each workload, and sends findings about references that the latest one lost
    /// together with an annotation. Resources that the account may not read are noted and skipped.
    pub(super) async fn find_lost_references(
        &self,
        namespace: Option<&str>,
        run: Run<'_>,
    ) -> Result<(), ScanError> {
        for store in RevisionStore::ALL {
            let histories = self.histories(store, namespace, run).await?;
            if histories.truncated {
                run.progress.note(format!(
                    "there are too many {}s: not all of their workloads were looked at for lost references",
                    store.resource().kind
                ));
            }
            let comparisons = histories
                .candidates()
                .map(|candidate| self.compare_candidate(store, candidate, run));
            let mut comparisons = stream::iter(comparisons).buffer_unordered(MAX_CONCURRENT_READS);
            while let Some(finding) = comparisons.next().await {
                let Some(finding) = finding? else { continue };
                run.progress.count_lost();
                // A closed receiver needs no further findings.
                if run.found.send(ScanFinding::Lost(finding)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn histories(
        &self,
        store: RevisionStore,
        namespace: Option<&str>,
        run: Run<'_>,
    ) -> Result<Histories, ScanError> {
        let resource = store.resource();
        let mut histories = Histories::new(store);
        let path = resource.path(namespace);
        let mut pages = self
            .api
            .pages(&path, "", resource.representation, resource.page_size());
        loop {
            let page = match pages.next().await {
                Err(error) if error.kind.is_denied() => {
                    run.progress.note(denied_note(resource, "list"));
                    return Ok(Histories::new(store));
                }
                page => page?,
            };
            let Some(page) = page else { break };
            run.progress.count_listed(page.items.len());
            for item in page.items {
                histories.add(&item, |namespace| self.serves(namespace, run));
            }
        }
        for object in pages.skipped() {
            run.progress.skip(format!("{} {object}", resource.plural));
        }
        Ok(histories)
    }

    /// Compares the revisions of one workload; `None` if it lost no reference, or changed since it was listed.
    async fn compare_candidate(
        &self,
        store: RevisionStore,
        candidate: RevisionCandidate,
        run: Run<'_>,
    ) -> Result<Option<Finding>, ScanError> {
        let resource = WORKLOADS
            .into_iter()
            .find(|resource| resource.workload == Some(candidate.kind));
        let Some(resource) = resource else {
            return Ok(None);
        };
        let Some(bodies) = self.read_bodies(resource, store, &candidate, run).await? else {
            return Ok(None);
        };
        let Some(lost) = self.compare(store, &candidate, &bodies, run).await? else {
            return Ok(None);
        };
        let number = candidate.latest.number;
        let problems = vec![lost.sentence(resource.kind, &candidate.name, number)];
        let RevisionCandidate {
            namespace,
            name,
            uid,
            ..
        } = candidate;
        Ok(Some(Finding {
            namespace,
            api_version: resource.api_version,
            kind: resource.kind,
            name,
            uid,
            owner: None,
            problems,
        }))
    }

    /// Reads a workload and its two latest revisions; `None` if one of them is gone, or the webhook does not serve
    /// them.
    async fn read_bodies(
        &self,
        resource: ScannedResource,
        store: RevisionStore,
        candidate: &RevisionCandidate,
        run: Run<'_>,
    ) -> Result<Option<RevisionBodies>, ScanError> {
        let RevisionCandidate {
            namespace,
            name,
            uid,
            previous,
            latest,
            ..
        } = candidate;
        let Some(workload) = self.read_permitted(resource, namespace, name, run).await? else {
            return Ok(None);
        };
        if !self.is_current_and_selected(&workload, uid) {
            return Ok(None);
        }
        let revisions = store.resource();
        let mut bodies = Vec::new();
        for name in [&previous.name, &latest.name] {
            let revision = self.read_permitted(revisions, namespace, name, run).await?;
            // The list may be older than the revision that is read now.
            let Some(revision) = revision.filter(|revision| is_revision_of(revision, uid)) else {
                return Ok(None);
            };
            bodies.push(revision);
        }
        let bodies: Option<[Bytes; 2]> = bodies.try_into().ok();
        Ok(bodies.map(|[previous, latest]| RevisionBodies {
            workload,
            previous,
            latest,
        }))
    }

    async fn compare(
        &self,
        store: RevisionStore,
        candidate: &RevisionCandidate,
        bodies: &RevisionBodies,
        run: Run<'_>,
    ) -> Result<Option<LostReferences>, ScanError> {
        let workload = serde_json::from_slice::<WorkloadView<'_>>(&bodies.workload).ok();
        let update = workload
            .as_ref()
            .and_then(|workload| WorkloadUpdate::stored(candidate.kind, workload));
        let templates = store
            .template::<PodView<'_>>(&bodies.previous)
            .zip(store.template::<PodView<'_>>(&bodies.latest));
        let Some((update, (previous, latest))) = update.zip(templates) else {
            return Ok(None);
        };
        // The API server does not validate the template of a Rollout.
        let account = update.pod().service_account();
        if !is_object_name(account) {
            return Ok(None);
        }
        let namespace = candidate.namespace.as_str();
        let defaults = self.read_defaults(namespace, account, run).await?;
        let comparison = Comparison {
            namespace,
            previous: &previous,
            latest: &latest,
            template: update.pod(),
            authored: update.annotations(),
            defaults: defaults.layers(None, namespace, account),
            sidecars: &self.rules.sidecars,
        };
        Ok(comparison.lost())
    }

    /// Whether a workload still has this uid, is not being deleted, and is sent to the webhook.
    fn is_current_and_selected(&self, body: &[u8], uid: &str) -> bool {
        let is_current = object_meta(body)
            .is_some_and(|meta| meta.uid == uid && meta.deletion_timestamp.is_none());
        is_current && self.rules.objects.matches(&labels(body))
    }

    /// Reads a full object; `None` if it was deleted, is too large, or may not be read, which is noted.
    async fn read_permitted(
        &self,
        resource: ScannedResource,
        namespace: &str,
        name: &str,
        run: Run<'_>,
    ) -> Result<Option<Bytes>, ScanError> {
        match self.read_full(resource, namespace, name, run).await {
            Err(ScanError::Api(error)) if error.kind.is_denied() => {
                run.progress.note(denied_note(resource, "get"));
                Ok(None)
            }
            read => read,
        }
    }
}

/// Whether a revision belongs to the workload with this uid.
fn is_revision_of(revision: &[u8], uid: &str) -> bool {
    object_meta(revision)
        .and_then(|mut meta| meta.controller())
        .is_some_and(|owner| owner.uid == uid)
}

/// Note about a resource that the account may not read.
fn denied_note(resource: ScannedResource, verb: &str) -> String {
    format!(
        "{}s were not looked at for lost references: you may not {verb} them",
        resource.kind
    )
}
