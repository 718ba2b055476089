//! Admission of pods, and of templates instead of their pods.

use super::error::{AdmissionError, BindFailure};
use super::gate;
use super::outcome::{Outcome, PodMutation};
use super::pipeline::{Pipeline, RequestContext};
use super::policy::{OnUnavailable, Policy};
use super::review::AdmissionRequest;
use super::secret_names::NameViolations;
use super::surface::Surface;
use crate::defaults::AppliedDefaults;
use injection::{
    self, Decision, InjectionPlan, PlanError, PlanInput, PlanTarget, PodView, SkipReason,
};

impl Pipeline {
    /// Decides the review of a pod.
    ///
    /// # Errors
    /// [`AdmissionError`]; if the operator admits pods while backends are unavailable, that one is an
    /// [`Outcome::Degraded`] instead.
    pub async fn admit_pod(
        &self,
        surface: Surface,
        request: &AdmissionRequest<'_, PodView<'_>>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let policy = self.policy();
        let pod = match gate::pod(request, &policy.exempt_namespaces) {
            Ok(pod) => pod,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        let (target, namespace) = (PlanTarget::Pod, request.namespace());
        match self
            .decide_by(&policy, surface, target, namespace, pod, context)
            .await
        {
            Err(error)
                if error.is_unavailable() && policy.on_unavailable == OnUnavailable::Admit =>
            {
                Ok(Outcome::Degraded(error))
            }
            decided => decided,
        }
    }

    /// Decides about a pod that passed the gate, or about a template in the same way.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub async fn decide(
        &self,
        surface: Surface,
        target: PlanTarget,
        namespace: &str,
        pod: &PodView<'_>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        self.decide_by(&self.policy(), surface, target, namespace, pod, context)
            .await
    }

    /// Decides by this policy, whatever replaces it meanwhile.
    async fn decide_by(
        &self,
        policy: &Policy,
        surface: Surface,
        target: PlanTarget,
        namespace: &str,
        pod: &PodView<'_>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let (decision, defaults) = self
            .request(surface, namespace, pod.annotations(), pod, context)
            .await?;
        let request = match decision {
            Decision::Skip(reason) => return Ok(Outcome::Skipped(reason)),
            Decision::Inject(request) => request,
        };
        context.keep_requested(&request);
        self.authorize(namespace, pod.service_account(), &request, context)
            .await?;
        let (bindings, failures) = self.bind(namespace, &request, context).await;
        let input = PlanInput {
            target,
            pod,
            namespace,
            request: &request,
            bindings: &bindings,
            sidecars: &policy.sidecars,
            discloses: context.discloses,
        };
        let NameViolations { errors, warnings } = NameViolations::of(&request, policy);
        let mut plan = plan(&input, failures, errors)?;
        plan.warnings.extend(warnings);
        if plan.is_empty() && plan.warnings.is_empty() {
            return Ok(Outcome::Skipped(SkipReason::AlreadyInjected));
        }
        let notes = mountable_note(&defaults, pod, &plan);
        Ok(Outcome::Injected(PodMutation {
            plan,
            secrets: bindings.into_keys().collect(),
            notes,
        }))
    }
}

/// Plans the injection; `misnamed` are errors about names of secrets. If a backend failed for some secret, errors about
/// the others are returned first, because a retry does not fix them.
fn plan(
    input: &PlanInput<'_>,
    failures: Vec<BindFailure>,
    misnamed: Vec<PlanError>,
) -> Result<InjectionPlan, AdmissionError> {
    let planned = injection::plan(input);
    if failures.is_empty() && misnamed.is_empty() {
        return planned.map_err(AdmissionError::Plan);
    }
    let is_certain =
        |error: &PlanError| failures.is_empty() || !matches!(error, PlanError::UnknownKeys { .. });
    let certain: Vec<PlanError> = planned
        .err()
        .into_iter()
        .flatten()
        .filter(is_certain)
        .chain(misnamed)
        .collect();
    Err(if certain.is_empty() {
        AdmissionError::Backend(failures)
    } else {
        AdmissionError::Plan(certain)
    })
}

/// Warning for a ServiceAccount that enforces its list of mountable Secrets (annotation
/// `kubernetes.io/enforce-mountable-secrets`). The API server refuses injected references to other Secrets, and its
/// message does not name the annotation that they come from.
fn mountable_note(
    defaults: &AppliedDefaults,
    pod: &PodView<'_>,
    plan: &InjectionPlan,
) -> Vec<String> {
    let enforced = defaults
        .service_account
        .as_deref()
        .is_some_and(|account| account.enforces_mountable_secrets);
    let note = || {
        format!(
            "service account \"{}\" enforces its list of mountable secrets: a pod that uses another one is refused by the API server",
            pod.service_account()
        )
    };
    if enforced && !plan.is_empty() {
        vec![note()]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use async_trait::async_trait;
    use injection::{SecretBinding, SecretSource, WorkloadView};
    use tokio::time::Instant;

    use super::*;
    use crate::admission::policy::{SecretNameMode, SecretNamePolicy, SharedPolicy};
    use crate::admission::review::decode;
    use crate::admission::sources::{Source, Sources};
    use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
    use crate::defaults::{Defaults, DefaultsObject, DefaultsReader};

    /// Binder that replaces the policy while an admission is decided.
    #[derive(Debug, Default)]
    struct PolicyReplacer(OnceLock<SharedPolicy>);

    #[async_trait]
    impl SecretBinder for PolicyReplacer {
        fn kind(&self) -> BackendKind {
            BackendKind::Kubernetes
        }

        async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
            let secret_names = SecretNamePolicy {
                convention: "floe".parse().unwrap(),
                mode: SecretNameMode::Deny,
            };
            self.0.get().unwrap().replace(Policy {
                sidecars: vec!["main".parse().unwrap()],
                secret_names: Some(secret_names),
                ..Policy::default()
            });
            Ok(SecretBinding {
                secret_name: query.secret.name.as_str().to_owned(),
                keys: None,
            })
        }
    }

    #[derive(Debug)]
    struct NoDefaults;

    #[async_trait]
    impl DefaultsReader for NoDefaults {
        async fn namespace(
            &self,
            _: &str,
            _: Instant,
        ) -> Result<Option<DefaultsObject>, BackendError> {
            Ok(None)
        }

        async fn service_account(
            &self,
            _: &str,
            _: &str,
            _: Instant,
        ) -> Result<Option<DefaultsObject>, BackendError> {
            Ok(None)
        }
    }

    fn pipeline() -> Pipeline {
        let binder = Arc::new(PolicyReplacer::default());
        let source = Source {
            binder: Arc::clone(&binder) as _,
            recent_names: None,
        };
        let sources = Sources::from([(SecretSource::Kubernetes, source)]);
        let defaults = Arc::new(Defaults::new(Arc::new(NoDefaults)));
        let policy = Policy {
            inject_template: true,
            ..Policy::default()
        };
        let pipeline = Pipeline::new(sources, defaults, policy);
        binder.0.set(pipeline.shared_policy()).unwrap();
        pipeline
    }

    fn review(group: &str, resource: &str, object: &str) -> String {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","resource":{{"group":"{group}","version":"v1","resource":"{resource}"}},"namespace":"jobs","operation":"CREATE","object":{object}}}}}"#
        )
    }

    const POD: &str = r#"{"metadata":{"annotations":{"secrets.floe.dev/env-from":"db"}},"spec":{"containers":[{"name":"main"}]}}"#;

    #[tokio::test]
    async fn admission_keeps_the_policy_that_it_began_with() {
        let now = Instant::now();
        let context = RequestContext::untraced(now, now + Duration::from_secs(5));
        let pod = review("", "pods", POD);
        let workload = review(
            "apps",
            "deployments",
            &format!(r#"{{"spec":{{"template":{POD}}}}}"#),
        );
        let (of_pods, of_workloads) = (pipeline(), pipeline());
        let admit_pod = async || {
            let request = decode::<PodView<'_>>(pod.as_bytes()).unwrap();
            of_pods.admit_pod(Surface::Pods, &request, context).await
        };
        let admit_workload = async || {
            let request = decode::<WorkloadView<'_>>(workload.as_bytes()).unwrap();
            let admitted = of_workloads.admit_workload(Surface::Workloads, &request, context);
            admitted.await
        };

        let Ok(Outcome::Injected(mutation)) = admit_pod().await else {
            panic!("the first policy has neither sidecars nor a convention");
        };
        assert!(!mutation.plan.is_empty() && mutation.plan.warnings.is_empty());
        let Ok(Outcome::Mutated(mutation)) = admit_workload().await else {
            panic!("the first policy has neither sidecars nor a convention");
        };
        assert!(!mutation.plan.is_empty() && mutation.plan.warnings.is_empty());
        for later in [admit_pod().await, admit_workload().await] {
            assert!(matches!(later, Err(AdmissionError::Plan(_))), "{later:?}");
        }
    }
}
