//! Reconciles one owner: whether its retry is triggered, awaits secrets, or is not needed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::history::{NextTrigger, TriggerHistory};
use super::messages::{arrived_message, awaiting_message, retried_message};
use super::owner::{ANNOTATION, Outlook, Owner, OwnerView, PodDemand, Repeat, next_value, outlook};
use super::pending::{ObjectVersion, PendingOwners};
use super::rate_limited::RateLimited;
use crate::admission::error::AdmissionError;
use crate::admission::pipeline::{Pipeline, RequestContext};
use crate::admission::policy::Policy;
use crate::admission::sources::{Source, Sources};
use crate::admission::surface::Surface;
use crate::backend::kubernetes::KubernetesBackend;
use crate::controller::metrics::{ControllerMetrics, RetryResult};
use crate::defaults::{Defaults, KubernetesDefaults};
use crate::kubernetes::events::{EventRecorder, InvolvedObject, Reason};
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, RateLimiter, Representation};
use crate::scan::{Rules, Scope};
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::traces::{Span, Traces};
use injection::{Decision, PlanTarget, PodView, SecretId, SecretSource};

/// GET requests per second, in total: namespaces take turns.
const READS_PER_SECOND: u32 = 50;

/// Limit of secrets that one owner's template may ask for, defaults included: planning reads all of them while the other
/// owners of the namespace wait. Admission has the same limit.
const MAX_SECRETS_PER_OWNER: usize = 64;

/// Time limit of planning for one owner: reads of all its secrets, while ten other namespaces take turns.
const EVALUATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Field manager of the annotation, in `managedFields`.
const FIELD_MANAGER: &str = "floe-secrets-controller";

/// Watches refused pods and awaited secrets, and triggers retries.
#[derive(Debug)]
pub struct RetryTrigger {
    /// Watches, lists, writes; not rate limited.
    pub(super) api: ObjectApi,
    /// Rate limited reads.
    pub(super) reader: ObjectApi,
    pub(super) pipeline: Pipeline,
    pub(super) defaults: Arc<Defaults>,
    pub(super) rules: Rules,
    pub(super) scope: Scope,
    pub(super) events: EventRecorder,
    pub(super) traces: Traces,
    pub(super) metrics: ControllerMetrics,
    pub(super) pending: Mutex<PendingOwners>,
    pub(super) history: Mutex<TriggerHistory>,
}

impl RetryTrigger {
    /// Creates it without tracing; `rules` and `scope` must be those of the webhook.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        rules: Rules,
        scope: Scope,
        metrics: ControllerMetrics,
        now: fn() -> jiff::Timestamp,
    ) -> Self {
        let limiter = RateLimiter::per_second(READS_PER_SECOND);
        let backend = KubernetesBackend::new(api.client(), None);
        let binder = Arc::new(RateLimited {
            inner: backend,
            limiter: Arc::clone(&limiter),
        });
        let defaults = RateLimited {
            inner: KubernetesDefaults(api.client()),
            limiter: Arc::clone(&limiter),
        };
        let defaults = Arc::new(Defaults::patient(Arc::new(defaults)));
        let sources = Sources::from([(
            SecretSource::Kubernetes,
            Source {
                binder,
                recent_names: None,
            },
        )]);
        let policy = Policy {
            sidecars: rules.sidecars.clone(),
            ..Policy::default()
        };
        Self {
            api: api.clone(),
            reader: api.rate_limited(&limiter),
            pipeline: Pipeline::new(sources, Arc::clone(&defaults), policy),
            defaults,
            rules,
            scope,
            events: EventRecorder::new(api.clone(), now),
            traces: Traces::off(),
            metrics,
            pending: Mutex::default(),
            history: Mutex::default(),
        }
    }

    /// Enables tracing.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self {
            traces: traces.clone(),
            ..self
        }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, PendingOwners> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn history(&self) -> MutexGuard<'_, TriggerHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the owner, and decides whether its retry is triggered, awaits secrets, or is not needed.
    pub(super) async fn reconcile(&self, owner: Owner) {
        let mut span = self.traces.root_span("retry");
        span.set_static("kind", owner.kind.as_str());
        span.set_str("namespace", &owner.namespace);
        span.set_str("name", &owner.name);
        let body = match self.reader.get(&owner.path(), Representation::Full).await {
            Ok(body) => body.unwrap_or_default(),
            Err(error) => {
                span.set_error("unread");
                debug!(error = %ErrorChain(&error), "cannot read an owner");
                return if error.kind == ApiErrorKind::TooLong {
                    self.drop_owner(&owner);
                } else {
                    self.postpone(owner);
                };
            }
        };
        let Some(object) = OwnerView::read(&body) else {
            span.set_static("result", "gone");
            return self.drop_owner(&owner);
        };
        match object.demand(&owner) {
            PodDemand::Missing => self.reconcile_pending(owner, &object, span).await,
            PodDemand::Satisfied if self.pending().awaits_secrets(&owner) => {
                self.report_satisfied(owner, &object, span).await;
            }
            PodDemand::Satisfied | PodDemand::Gone => {
                span.set_static("result", "gone");
                self.drop_owner(&owner);
            }
        }
    }

    /// Reconciles an owner with missing pods.
    pub(super) async fn reconcile_pending(
        &self,
        owner: Owner,
        object: &OwnerView<'_>,
        mut span: Span,
    ) {
        let next = self.history().next(&owner);
        if next == NextTrigger::TooEarly {
            span.set_static("result", "triggered_before");
            return self.postpone(owner);
        }
        let outlook = self.evaluate(&owner, object, &span).await;
        span.set_static("result", outlook.as_str());
        match outlook {
            Outlook::Awaits(awaits) => {
                if self.pending().has_expired(&owner) {
                    return self.give_up(&owner);
                }
                let message = awaiting_message(&awaits);
                self.history().remove(&owner);
                let changed = self.pending().set_awaited(owner.clone(), awaits);
                if changed {
                    self.publish_event(&owner, Reason::AwaitingSecrets, &message)
                        .await;
                }
            }
            Outlook::Ready(secrets) => {
                if self.trigger(&owner, object, &secrets, next).await {
                    self.pending().remove(&owner);
                } else {
                    self.postpone(owner);
                }
            }
            Outlook::NotInjectable => self.drop_owner(&owner),
            Outlook::Unknown => self.postpone(owner),
        }
    }

    /// Reports that an owner no longer waits because its controller retried by itself, for those who read the event that it
    /// waits.
    pub(super) async fn report_satisfied(
        &self,
        owner: Owner,
        object: &OwnerView<'_>,
        mut span: Span,
    ) {
        let outlook = self.evaluate(&owner, object, &span).await;
        span.set_static("result", outlook.as_str());
        match outlook {
            Outlook::Ready(secrets) => {
                self.drop_owner(&owner);
                self.publish_event(&owner, Reason::SecretsArrived, &retried_message(&secrets))
                    .await;
            }
            // It was scaled down.
            Outlook::Awaits(_) | Outlook::NotInjectable => self.drop_owner(&owner),
            Outlook::Unknown => self.postpone(owner),
        }
    }

    pub(super) fn drop_owner(&self, owner: &Owner) {
        if self.pending().remove(owner) {
            self.metrics.wait_ended(RetryResult::Gone);
        }
    }

    pub(super) fn postpone(&self, owner: Owner) {
        let expired = self.pending().has_expired(&owner);
        if expired {
            self.give_up(&owner);
        } else {
            self.pending().requeue(owner);
        }
    }

    pub(super) fn give_up(&self, owner: &Owner) {
        let Owner {
            kind,
            namespace,
            name,
            ..
        } = owner;
        info!(
            kind = kind.as_str(),
            namespace, name, "gave up waiting for secrets"
        );
        self.pending().give_up(owner);
        self.metrics.wait_ended(RetryResult::GaveUp);
    }

    /// Evaluates what admission would decide about a pod of this owner.
    pub(super) async fn evaluate(
        &self,
        owner: &Owner,
        object: &OwnerView<'_>,
        span: &Span,
    ) -> Outlook {
        let Some(template) = object.template() else {
            return Outlook::NotInjectable;
        };
        let Ok(mut pod) = serde_json::from_str::<PodView<'_>>(template.get()) else {
            return Outlook::NotInjectable;
        };
        if !self.selects(template) {
            return Outlook::NotInjectable;
        }
        // References that the template has already are awaited, too, and must not leave the plan empty.
        for container in [&mut pod.spec.containers, &mut pod.spec.init_containers]
            .into_iter()
            .flatten()
            .flatten()
        {
            (container.env, container.env_from) = (None, None);
        }
        let arrived = Instant::now();
        let context = RequestContext {
            arrived,
            deadline: arrived + EVALUATION_TIMEOUT,
            span,
            discloses: true,
        };
        let namespace = owner.namespace.as_str();
        let surface = match self
            .defaults
            .namespace(namespace, context.arrived, context.deadline)
            .await
        {
            Ok(Some(object)) if object.enabled => Surface::DefaultsPods,
            Ok(Some(_)) => Surface::Pods,
            Ok(None) => return Outlook::NotInjectable,
            Err(_) => return Outlook::Unknown,
        };
        match self
            .pipeline
            .request(surface, namespace, pod.annotations(), &pod, context)
            .await
        {
            Ok((Decision::Inject(request), _))
                if request.key_queries().len() > MAX_SECRETS_PER_OWNER =>
            {
                return Outlook::NotInjectable;
            }
            Err(AdmissionError::Backend(_)) => return Outlook::Unknown,
            Ok(_) | Err(_) => {}
        }
        outlook(
            Box::pin(
                self.pipeline
                    .decide(surface, PlanTarget::Manifest, namespace, &pod, context),
            )
            .await,
        )
    }

    /// Whether the labels of this template's pods match the webhook's object selector.
    pub(super) fn selects(&self, template: &RawValue) -> bool {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Template {
            metadata: Labelled,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Labelled {
            labels: Option<std::collections::BTreeMap<String, String>>,
        }
        self.rules.objects.is_empty()
            || serde_json::from_str::<Template>(template.get()).is_ok_and(|template| {
                self.rules
                    .objects
                    .matches(&template.metadata.labels.unwrap_or_default())
            })
    }

    /// Writes the annotation, unless the retry was triggered before. `false` if the owner has to be reconciled again.
    pub(super) async fn trigger(
        &self,
        owner: &Owner,
        object: &OwnerView<'_>,
        secrets: &BTreeSet<SecretId>,
        next: NextTrigger,
    ) -> bool {
        let repeat = match next {
            NextTrigger::Repeat => Repeat::Always,
            _ if self.pending().awaits_secrets(owner) => Repeat::NewVersion,
            _ => Repeat::Never,
        };
        let Some(versions) = self.versions(&owner.namespace, secrets).await else {
            return false;
        };
        let changed = || next_value(object.requested_for(), &versions, repeat);
        let value = if next == NextTrigger::Exhausted {
            None
        } else {
            changed()
        };
        let Some(value) = value else {
            self.metrics.wait_ended(RetryResult::Unchanged);
            return true;
        };
        self.write(owner, &value, secrets, next == NextTrigger::Repeat)
            .await
    }

    /// Uids and versions of Secrets; `None` if one was deleted again or could not be read.
    pub(super) async fn versions(
        &self,
        namespace: &str,
        secrets: &BTreeSet<SecretId>,
    ) -> Option<Vec<(String, String)>> {
        let mut versions = Vec::new();
        for secret in secrets {
            let known = self
                .pending()
                .known_version(&(namespace.to_owned(), secret.clone()))
                .cloned();
            let version = match known {
                Some(version) => Some(version),
                None => self.object_version(namespace, secret).await.ok()?,
            };
            let ObjectVersion {
                uid,
                resource_version,
            } = version?;
            versions.push((uid, resource_version));
        }
        Some(versions)
    }

    /// Writes the annotation with this value. `false` if the API server is unavailable.
    pub(super) async fn write(
        &self,
        owner: &Owner,
        value: &str,
        secrets: &BTreeSet<SecretId>,
        repeated: bool,
    ) -> bool {
        let patch = json!({"metadata": {"uid": owner.uid, "annotations": {ANNOTATION: value}}});
        let url = format!("{}?fieldManager={FIELD_MANAGER}", owner.path());
        let Owner {
            kind,
            namespace,
            name,
            ..
        } = owner;
        let kind = kind.as_str();
        match self.api.merge(&url, &patch).await {
            Ok(()) => {
                self.metrics.wait_ended(RetryResult::Triggered);
                self.history().record(owner);
                info!(kind, namespace, name, repeated, "triggered a retry");
                self.publish_event(owner, Reason::SecretsArrived, &arrived_message(secrets))
                    .await;
            }
            // It was deleted or replaced.
            Err(error) if matches!(error.kind, ApiErrorKind::NotFound | ApiErrorKind::Conflict) => {
                self.metrics.wait_ended(RetryResult::Gone);
            }
            Err(error) if error.kind.is_transient() => return false,
            Err(error) => {
                self.metrics.wait_ended(RetryResult::Failed);
                warn!(error = %ErrorChain(&error), kind, namespace, name, "cannot trigger a retry");
            }
        }
        true
    }

    pub(super) async fn publish_event(&self, owner: &Owner, reason: Reason, message: &str) {
        let Owner {
            uid,
            kind,
            namespace,
            name,
        } = owner;
        let about = InvolvedObject {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace,
            name,
            uid,
        };
        if let Err(error) = self.events.publish(&about, reason, message).await {
            debug!(error = %ErrorChain(&error), "cannot write an event");
        }
    }

    /// Reads a Secret's uid and version, from its metadata only.
    pub(super) async fn object_version(
        &self,
        namespace: &str,
        secret: &SecretId,
    ) -> Result<Option<ObjectVersion>, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", secret.name);
        let body = self.reader.get(&path, Representation::Metadata).await?;
        Ok(body
            .and_then(|body| serde_json::from_slice::<Object>(&body).ok())
            .map(|object| object.metadata))
    }
}

#[derive(Deserialize)]
pub(super) struct Object {
    metadata: ObjectVersion,
}

#[cfg(test)]
mod tests;
