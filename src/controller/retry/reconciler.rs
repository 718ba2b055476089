//! Reconciles one owner: whether its retry is triggered, awaits secrets, or is not needed.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{debug, info, warn};

use super::annotation::{Repeat, next_value};
use super::cluster::RetryCluster;
use super::evaluator::Evaluator;
use super::history::{NextTrigger, TriggerHistory};
use super::messages::{arrived_message, awaiting_message, retried_message};
use super::outlook::Outlook;
use super::owner::Owner;
use super::owner_view::{OwnerView, PodDemand};
use super::pending::PendingOwners;
use super::secret_state::ObjectVersion;
use crate::clock::Clock;
use crate::controller::metrics::{ControllerMetrics, RetryResult};
use crate::kubernetes::events::EventReason;
use crate::kubernetes::{ApiErrorKind, ObjectApi, RateLimiter};
use crate::scan::{Rules, Scope};
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::span::Span;
use crate::telemetry::traces::Traces;
use injection::SecretId;

/// GET requests per second, in total: namespaces take turns.
const READS_PER_SECOND: u32 = 50;

/// Watches refused pods and awaited secrets, and triggers retries.
#[derive(Debug)]
pub struct RetryTrigger {
    pub(super) cluster: RetryCluster,
    evaluator: Evaluator,
    pub(super) rules: Rules,
    pub(super) scope: Scope,
    traces: Traces,
    pub(super) metrics: ControllerMetrics,
    pending: Mutex<PendingOwners>,
    history: Mutex<TriggerHistory>,
}

impl RetryTrigger {
    /// Creates it without tracing; `rules` and `scope` must be those of the webhook.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        rules: Rules,
        scope: Scope,
        metrics: ControllerMetrics,
        clock: Clock,
    ) -> Self {
        let limiter = RateLimiter::per_second(READS_PER_SECOND);
        Self {
            cluster: RetryCluster::new(api, &limiter, clock),
            evaluator: Evaluator::new(&api.client(), &limiter, &rules),
            rules,
            scope,
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
        let body = match self.cluster.owner(&owner).await {
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
        let Some(object) = OwnerView::parse(&body) else {
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

    /// Evaluates an owner with missing pods, and triggers its retry if all of its secrets exist.
    async fn reconcile_pending(&self, owner: Owner, object: &OwnerView<'_>, mut span: Span) {
        let next = self.history().next(&owner);
        if next == NextTrigger::TooEarly {
            span.set_static("result", "triggered_before");
            return self.postpone(owner);
        }
        let outlook = self.evaluator.evaluate(&owner, object, &span).await;
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
                    self.cluster
                        .publish_event(&owner, EventReason::AwaitingSecrets, &message)
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

    /// Reports that an owner no longer waits because its controller retried by itself. Without this event, the earlier
    /// event would still claim that it waits.
    async fn report_satisfied(&self, owner: Owner, object: &OwnerView<'_>, mut span: Span) {
        let outlook = self.evaluator.evaluate(&owner, object, &span).await;
        span.set_static("result", outlook.as_str());
        match outlook {
            Outlook::Ready(secrets) => {
                self.drop_owner(&owner);
                self.cluster
                    .publish_event(
                        &owner,
                        EventReason::SecretsArrived,
                        &retried_message(&secrets),
                    )
                    .await;
            }
            // The owner was scaled down.
            Outlook::Awaits(_) | Outlook::NotInjectable => self.drop_owner(&owner),
            Outlook::Unknown => self.postpone(owner),
        }
    }

    fn drop_owner(&self, owner: &Owner) {
        if self.pending().remove(owner) {
            self.metrics.wait_ended(RetryResult::Gone);
        }
    }

    fn postpone(&self, owner: Owner) {
        let expired = self.pending().has_expired(&owner);
        if expired {
            self.give_up(&owner);
        } else {
            self.pending().requeue(owner);
        }
    }

    fn give_up(&self, owner: &Owner) {
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

    /// Writes the annotation, unless the retry was triggered before. `false` if the owner has to be reconciled again.
    async fn trigger(
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
        let value = if next == NextTrigger::Exhausted {
            None
        } else {
            next_value(object.requested_for(), &versions, repeat)
        };
        let Some(value) = value else {
            self.metrics.wait_ended(RetryResult::Unchanged);
            return true;
        };
        self.write(owner, &value, secrets, next == NextTrigger::Repeat)
            .await
    }

    /// Uids and versions of Secrets; `None` if one was deleted again or could not be read.
    async fn versions(
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
                None => self.cluster.object_version(namespace, secret).await.ok()?,
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
    async fn write(
        &self,
        owner: &Owner,
        value: &str,
        secrets: &BTreeSet<SecretId>,
        repeated: bool,
    ) -> bool {
        let Owner {
            kind,
            namespace,
            name,
            ..
        } = owner;
        let kind = kind.as_str();
        match self.cluster.annotate(owner, value).await {
            Ok(()) => {
                self.metrics.wait_ended(RetryResult::Triggered);
                self.history().record(owner);
                info!(kind, namespace, name, repeated, "triggered a retry");
                let message = arrived_message(secrets);
                self.cluster
                    .publish_event(owner, EventReason::SecretsArrived, &message)
                    .await;
            }
            // The owner was deleted or replaced.
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
}

#[cfg(test)]
mod tests;
