//! The scan for lost references: lists the revisions of workloads, and reads whole only those whose annotations differ.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::finding::{Finding, Found};
use super::lost::Comparison;
use super::objects::{is_object_name, labels, meta};
use super::revision::{Candidate, Histories, Store};
use super::scanner::{AT_ONCE, Kind, PATIENCE, Run, ScanError, Scanner, WHOLE_PAGE, WORKLOADS};
use crate::defaults::AppliedDefaults;
use crate::kubernetes::Representation;
use injection::{PodView, WorkloadUpdate, WorkloadView};

impl Scanner {
    /// Compares the two latest revisions of each workload, and sends what the latest one lost together with an
    /// annotation. Resources that the account may not read are noted and left out.
    pub(super) async fn lost_references(
        &self,
        namespace: Option<&str>,
        run: Run<'_>,
    ) -> Result<(), ScanError> {
        for store in Store::ALL {
            let histories = self.histories(store, namespace, run).await?;
            if histories.truncated {
                run.progress.note(format!(
                    "there are too many {}s: not all of their workloads were looked at for lost references",
                    store.resource().name
                ));
            }
            let compared = histories
                .candidates()
                .map(|candidate| self.compare(store, candidate, run));
            let mut compared = stream::iter(compared).buffer_unordered(AT_ONCE);
            while let Some(finding) = compared.next().await {
                let Some(finding) = finding? else { continue };
                run.progress.lost();
                // Nobody listens any more: nobody needs the rest either.
                if run.found.send(Found::Lost(finding)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn histories(
        &self,
        store: Store,
        namespace: Option<&str>,
        run: Run<'_>,
    ) -> Result<Histories, ScanError> {
        let kind = store.resource();
        let mut histories = Histories::new(store);
        let path = kind.path(namespace);
        // Metadata have neither a template's annotations nor the number of a ControllerRevision.
        let mut pages = self.api.pages(&path, "", Representation::Full, WHOLE_PAGE);
        loop {
            let page = match pages.next().await {
                Err(error) if error.kind.is_denied() => {
                    run.progress.note(hidden(kind, "list"));
                    return Ok(Histories::new(store));
                }
                page => page?,
            };
            let Some(page) = page else { break };
            run.progress.listed(page.items.len());
            for item in page.items {
                histories.add(&item, |namespace| self.serves(namespace, run));
            }
        }
        for object in pages.skipped() {
            run.progress.skip(format!("{} {object}", kind.plural));
        }
        Ok(histories)
    }

    async fn compare(
        &self,
        store: Store,
        candidate: Candidate,
        run: Run<'_>,
    ) -> Result<Option<Finding>, ScanError> {
        let Candidate {
            namespace,
            kind,
            name,
            uid,
            previous,
            latest,
        } = candidate;
        let Some(of) = WORKLOADS.into_iter().find(|of| of.workload == Some(kind)) else {
            return Ok(None);
        };
        let revisions = store.resource();
        let Some(body) = self.readable(of, &namespace, &name, run).await? else {
            return Ok(None);
        };
        if !self.is_served(&body, &uid) {
            return Ok(None);
        }
        let mut bodies = Vec::new();
        for name in [&previous.name, &latest.name] {
            let revision = self.readable(revisions, &namespace, name, run).await?;
            // The list may be older than what is read now.
            let Some(revision) = revision.filter(|revision| is_of(revision, &uid)) else {
                return Ok(None);
            };
            bodies.push(revision);
        }
        let [before, now] = bodies.as_slice() else {
            return Ok(None);
        };
        let workload = serde_json::from_slice::<WorkloadView<'_>>(&body).ok();
        let review = workload
            .as_ref()
            .and_then(|workload| WorkloadUpdate::stored(kind, workload));
        let templates = store
            .template::<PodView<'_>>(before)
            .zip(store.template::<PodView<'_>>(now));
        let Some((review, (before, now))) = review.zip(templates) else {
            return Ok(None);
        };
        // The template of a Rollout is not validated.
        let account = review.pod().service_account();
        if !is_object_name(account) {
            return Ok(None);
        }
        let applied = if run.namespaces.enabled.contains(&namespace) {
            let now = Instant::now();
            self.defaults
                .applied(&namespace, account, now, now + PATIENCE)
                .await?
        } else {
            AppliedDefaults::default()
        };
        let comparison = Comparison {
            namespace: &namespace,
            previous: &before,
            latest: &now,
            template: review.pod(),
            authored: review.annotations(),
            defaults: applied.layers(None, &namespace, account),
            sidecars: &self.rules.sidecars,
        };
        let Some(lost) = comparison.lost() else {
            return Ok(None);
        };
        let problems = vec![lost.sentence(of.name, &name, latest.number)];
        let Kind {
            api_version,
            name: kind,
            ..
        } = of;
        Ok(Some(Finding {
            namespace,
            api_version,
            kind,
            name,
            uid,
            owner: None,
            problems,
        }))
    }

    /// Whether a workload is the one of that uid, is not being deleted, and is sent to the webhook.
    fn is_served(&self, body: &[u8], uid: &str) -> bool {
        let is_same =
            meta(body).is_some_and(|meta| meta.uid == uid && meta.deletion_timestamp.is_none());
        is_same && self.rules.objects.matches(&labels(body))
    }

    /// A whole object; `None` if it is gone, too large, or may not be read, which is noted.
    async fn readable(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        run: Run<'_>,
    ) -> Result<Option<Bytes>, ScanError> {
        match self.whole(kind, namespace, name, run).await {
            Err(ScanError::Api(error)) if error.kind.is_denied() => {
                run.progress.note(hidden(kind, "get"));
                Ok(None)
            }
            read => read,
        }
    }
}

/// Whether a revision belongs to the workload of that uid.
fn is_of(revision: &[u8], uid: &str) -> bool {
    meta(revision)
        .and_then(|mut meta| meta.controller())
        .is_some_and(|owner| owner.uid == uid)
}

/// The sentence about a resource that the account may not read.
fn hidden(kind: Kind, verb: &str) -> String {
    format!(
        "{}s were not looked at for lost references: you may not {verb} them",
        kind.name
    )
}
