//! Reader of consumers: pages through the pods and workloads of a namespace, with the caller's permissions.

use std::sync::Arc;
use std::time::Duration;

use injection::{AnnotationLayers, Annotations, WorkloadKind};
use serde::Deserialize;
use tokio::time::Instant;

use super::error::ConsumersError;
use super::found::{Consumers, Effect};
use super::kinds::{WORKLOAD_LISTS, WorkloadList};
use super::limits::PAGE_SIZE;
use super::namespace_read::NamespaceRead;
use super::owners::PodOwners;
use super::pod_object::PodObject;
use super::pod_use::{pod_consumer, pod_uses};
use super::progress::ReadProgress;
use super::secret_head::SecretHead;
use super::workload_use::{WorkloadObject, workload_consumer};
use crate::defaults::{AppliedDefaults, Defaults, KubernetesDefaults};
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};

/// Time limit of reading the defaults of one pod.
const DEFAULTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Group of Argo Rollouts, which Argo Workflows belong to as well.
const ROLLOUTS_GROUP: &str = "/apis/argoproj.io/v1alpha1";

/// Reads the consumers of Secrets.
#[derive(Debug)]
pub struct ConsumerReader {
    api: ObjectApi,
    defaults: Defaults,
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
        for list in WORKLOAD_LISTS {
            match self.read_workloads(list, &mut read).await {
                // A cluster without Argo Rollouts has none, and denies their list to users without a role for them.
                Err(error)
                    if list.kind == WorkloadKind::Rollout
                        && (error.kind == ApiErrorKind::NotFound
                            || error.kind.is_denied() && !self.has_rollouts().await) => {}
                Err(error) if error.kind.is_denied() => {
                    read.kind_unread(list.title);
                    read.note(format!("{}s were not read: {error}", list.title));
                }
                listed => listed?,
            }
        }
        self.read_pods(&mut read).await?;
        Ok(read.finish())
    }

    /// Whether the API server has Rollouts, by its discovery, which every user may read.
    async fn has_rollouts(&self) -> bool {
        #[derive(Deserialize)]
        struct ServedKinds {
            resources: Vec<ServedKind>,
        }
        #[derive(Deserialize)]
        struct ServedKind {
            name: String,
        }
        match self.api.get(ROLLOUTS_GROUP, Representation::Full).await {
            Ok(None) => false,
            Ok(Some(body)) => serde_json::from_slice::<ServedKinds>(&body).map_or(true, |list| {
                let mut resources = list.resources.iter();
                resources.any(|resource| resource.name == "rollouts")
            }),
            Err(_) => true,
        }
    }

    async fn read_workloads(
        &self,
        list: WorkloadList,
        read: &mut NamespaceRead<'_>,
    ) -> Result<(), ApiError> {
        let path = list.path(read.namespace);
        let mut pages = self.api.pages(&path, "", Representation::Full, PAGE_SIZE);
        while let Some(page) = pages.next().await? {
            read.progress.count_read(page.items.len());
            for item in &page.items {
                let Ok(object) = serde_json::from_slice::<WorkloadObject<'_>>(item) else {
                    read.kind_unread(list.title);
                    read.counts.skipped += 1;
                    continue;
                };
                // A Job of a CronJob is listed there.
                let is_listed_elsewhere =
                    list.kind == WorkloadKind::Job && object.is_of_a_cron_job();
                let Some(template) = object.template().filter(|_| !is_listed_elsewhere) else {
                    continue;
                };
                let account = template.service_account();
                let defaults = self
                    .defaults_of(template.annotations(), account, read)
                    .await;
                let layers = defaults.layers(template.annotations(), read.namespace, account);
                let found = workload_consumer(list, &object, &template, &layers, read.secret);
                read.workload_found(found);
            }
        }
        let skipped = pages.skipped().len() as u64;
        if skipped > 0 {
            read.kind_unread(list.title);
        }
        read.counts.skipped += skipped;
        Ok(())
    }

    async fn read_pods(&self, read: &mut NamespaceRead<'_>) -> Result<(), ApiError> {
        let path = format!("/api/v1/namespaces/{}/pods", read.namespace);
        let mut owners = PodOwners::new(&self.api, read.namespace);
        let mut pages = self.api.pages(&path, "", Representation::Full, PAGE_SIZE);
        while let Some(page) = pages.next().await? {
            read.progress.count_read(page.items.len());
            for item in &page.items {
                let Ok(pod) = serde_json::from_slice::<PodObject<'_>>(item) else {
                    read.counts.skipped += 1;
                    continue;
                };
                if !pod.has_ended() {
                    self.read_pod(pod, &mut owners, read).await;
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
        let (owner, effect) = match pod.controller() {
            Some(controller) => {
                let found = owners.workload_of(controller).await;
                let name = format!("{}/{}", found.owner.kind, found.owner.name);
                (Some(name), read.effect_on_pods_of(&found))
            }
            None => (None, Effect::KeepsOldValue),
        };
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

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// Notes of a user who may not list Rollouts, on an API server whose group of them has these resources.
    async fn notes(group: Option<&'static [&'static str]>) -> Vec<String> {
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let path = request.uri().path();
            let (status, body) = if path == ROLLOUTS_GROUP {
                let names = group.unwrap_or_default().iter();
                let resources: Vec<Value> = names.map(|name| json!({"name": name})).collect();
                let found = group.map_or(StatusCode::NOT_FOUND, |_| StatusCode::OK);
                (found, json!({"resources": resources}))
            } else if path.ends_with("/rollouts") {
                (StatusCode::FORBIDDEN, json!({"kind": "Status"}))
            } else if path.ends_with("/secrets/db") {
                let head = json!({"kind": "PartialObjectMetadata", "metadata": {"name": "db"}});
                (StatusCode::OK, head)
            } else {
                (StatusCode::OK, json!({"metadata": {}, "items": []}))
            };
            let body = Body::from(body.to_string().into_bytes());
            let mut response = http::Response::new(body);
            *response.status_mut() = status;
            async move { Ok::<_, tower::BoxError>(response) }
        });
        let api = ObjectApi::new(kube::Client::new(service, "default"));
        let reader = ConsumerReader::new(api);
        let progress = ReadProgress::default();
        let read = reader.read("jobs", "db", &progress);
        read.await.unwrap().notes
    }

    #[tokio::test]
    async fn denied_rollouts_are_a_note_where_there_are_any() {
        let with_rollouts = notes(Some(&["workflows", "rollouts"])).await;
        assert_eq!(with_rollouts.len(), 1);
        assert!(with_rollouts[0].starts_with("Rollouts were not read"));
        assert_eq!(notes(Some(&["workflows"])).await, Vec::<String>::new());
        assert_eq!(notes(None).await, Vec::<String>::new());
    }
}
