//! Admission of pods, and of templates instead of their pods.

use super::error::{AdmissionError, BindFailure};
use super::gate;
use super::outcome::{Outcome, PodMutation};
use super::pipeline::{Pipeline, RequestContext};
use super::policy::OnUnavailable;
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
        match self
            .decide(surface, PlanTarget::Pod, request.namespace(), pod, context)
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
        let (decision, defaults) = self
            .request(surface, namespace, pod.annotations(), pod, context)
            .await?;
        let request = match decision {
            Decision::Skip(reason) => return Ok(Outcome::Skipped(reason)),
            Decision::Inject(request) => request,
        };
        self.authorize(namespace, pod.service_account(), &request, context)
            .await?;
        let (bindings, failures) = self.bind(namespace, &request, context).await;
        let policy = self.policy();
        let input = PlanInput {
            target,
            pod,
            namespace,
            request: &request,
            bindings: &bindings,
            sidecars: &policy.sidecars,
            discloses: context.discloses,
        };
        let NameViolations { errors, warnings } = self.name_violations(&request);
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
