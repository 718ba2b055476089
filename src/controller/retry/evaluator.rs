//! Evaluates what admission would decide about an owner's pods now, with rate limited reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::outlook::Outlook;
use super::owner::Owner;
use super::owner_view::OwnerView;
use super::rate_limited::RateLimited;
use crate::admission::error::AdmissionError;
use crate::admission::pipeline::{Pipeline, RequestContext};
use crate::admission::policy::Policy;
use crate::admission::sources::{Source, Sources};
use crate::admission::surface::Surface;
use crate::backend::kubernetes::KubernetesBackend;
use crate::defaults::{Defaults, KubernetesDefaults};
use crate::kubernetes::{RateLimiter, Selector};
use crate::scan::Rules;
use crate::telemetry::span::Span;
use injection::{Decision, PlanTarget, PodView, SecretSource};

/// Limit of secrets that one owner's template may refer to, defaults included: planning reads all of them while the
/// other owners of the namespace wait. Admission has the same limit.
const MAX_SECRETS_PER_OWNER: usize = 64;

/// Time limit of planning for one owner: reads of all its secrets, while ten other namespaces take turns.
const EVALUATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Plans the pods of owners with the webhook's rules.
#[derive(Debug)]
pub(super) struct Evaluator {
    pipeline: Pipeline,
    defaults: Arc<Defaults>,
    /// Labels of the pods that are sent to the webhook.
    objects: Selector,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LabelledTemplate {
    metadata: TemplateLabels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateLabels {
    labels: Option<BTreeMap<String, String>>,
}

impl Evaluator {
    pub(super) fn new(client: &Client, limiter: &Arc<RateLimiter>, rules: &Rules) -> Self {
        let binder = RateLimited {
            inner: KubernetesBackend::new(client.clone(), None),
            limiter: Arc::clone(limiter),
        };
        let defaults = RateLimited {
            inner: KubernetesDefaults(client.clone()),
            limiter: Arc::clone(limiter),
        };
        let defaults = Arc::new(Defaults::for_background_reads(Arc::new(defaults)));
        let sources = Sources::from([(
            SecretSource::Kubernetes,
            Source {
                binder: Arc::new(binder),
                recent_names: None,
            },
        )]);
        let policy = Policy {
            sidecars: rules.sidecars.clone(),
            ..Policy::default()
        };
        Self {
            pipeline: Pipeline::new(sources, Arc::clone(&defaults), policy),
            defaults,
            objects: rules.objects.clone(),
        }
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
        clear_variables(&mut pod);
        let arrived = Instant::now();
        let context = RequestContext {
            requested: None,
            arrived,
            deadline: arrived + EVALUATION_TIMEOUT,
            span,
            discloses: true,
        };
        match self.plan(&owner.namespace, &pod, context).await {
            Ok(outlook) | Err(outlook) => outlook,
        }
    }

    /// Plans a pod; the outlook of a pod that cannot be planned is an `Err`.
    async fn plan(
        &self,
        namespace: &str,
        pod: &PodView<'_>,
        context: RequestContext<'_>,
    ) -> Result<Outlook, Outlook> {
        let surface = self.surface(namespace, context).await?;
        let requested = self
            .pipeline
            .request(surface, namespace, pod.annotations(), pod, context)
            .await;
        match requested {
            Ok((Decision::Inject(request), _))
                if request.key_queries().len() > MAX_SECRETS_PER_OWNER =>
            {
                return Err(Outlook::NotInjectable);
            }
            Err(AdmissionError::Backend(_)) => return Err(Outlook::Unknown),
            Ok(_) | Err(_) => {}
        }
        let outcome =
            Box::pin(
                self.pipeline
                    .decide(surface, PlanTarget::Manifest, namespace, pod, context),
            )
            .await;
        Ok(Outlook::from(outcome))
    }

    /// Surface that receives the pods of a namespace.
    async fn surface(
        &self,
        namespace: &str,
        context: RequestContext<'_>,
    ) -> Result<Surface, Outlook> {
        let read = self
            .defaults
            .namespace(namespace, context.arrived, context.deadline)
            .await;
        match read {
            Ok(Some(namespace)) => Ok(Surface::of_pods_in(Some(&*namespace))),
            Ok(None) => Err(Outlook::NotInjectable),
            Err(_) => Err(Outlook::Unknown),
        }
    }

    /// Whether the labels of this template's pods match the webhook's object selector.
    fn selects(&self, template: &RawValue) -> bool {
        self.objects.is_empty()
            || serde_json::from_str::<LabelledTemplate>(template.get()).is_ok_and(|template| {
                self.objects
                    .matches(&template.metadata.labels.unwrap_or_default())
            })
    }
}

/// Removes the variables of a template: references that it has already are awaited, too, and would leave the plan
/// empty.
fn clear_variables(pod: &mut PodView<'_>) {
    let containers = [&mut pod.spec.containers, &mut pod.spec.init_containers];
    for container in containers.into_iter().flatten().flatten() {
        (container.env, container.env_from) = (None, None);
    }
}
