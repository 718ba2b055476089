//! Admission of objects with a pod template.
//!
//! A workload is refused only for mistakes that a retry does not fix: malformed annotations, and a missing secret if
//! the author has requested that. Otherwise a missing secret refuses the pods: refusing the workload would break the
//! order in which `helm install` and other tools create objects.

use super::error::{AdmissionError, BindFailure, sentences};
use super::gate;
use super::outcome::{Outcome, WorkloadMutation};
use super::pipeline::{Bindings, Pipeline, RequestContext};
use super::policy::Policy;
use super::review::{AdmissionRequest, Operation};
use super::secret_names::NameViolations;
use super::surface::Surface;
use injection::{
    self, ChangeScope, Decision, InjectionRequest, PlanError, PlanInput, PlanTarget, ReloadMode,
    SecretId, SkipReason, TemplatePolicy, Warning, WorkloadKind, WorkloadPlan, WorkloadUpdate,
    WorkloadView, restarting_secrets,
};

impl Pipeline {
    /// Decides the review of a workload.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`] and [`AdmissionError::Plan`], and only about an object that is new or whose
    /// annotations under our prefix have changed.
    pub async fn admit_workload(
        &self,
        surface: Surface,
        request: &AdmissionRequest<'_, WorkloadView<'_>>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let policy = self.policy();
        let (kind, object) = match gate::workload(request, &policy.exempt_namespaces) {
            Ok(passed) => passed,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        let old = request
            .old_object
            .as_ref()
            .filter(|_| request.operation == Operation::Update);
        let Some(update) = WorkloadUpdate::of(kind, object, old) else {
            return Ok(Outcome::Skipped(SkipReason::NotThisKind));
        };
        let namespace = request.namespace();
        let outcome = self
            .mutate_workload(&policy, surface, namespace, kind, &update, context)
            .await;
        if old.is_some() && update.scope() == ChangeScope::Annotations {
            // A record without secrets ends the requests of earlier ones.
            context.keep_none_known();
        }
        outcome
    }

    async fn mutate_workload(
        &self,
        policy: &Policy,
        surface: Surface,
        namespace: &str,
        kind: WorkloadKind,
        update: &WorkloadUpdate<'_, '_>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let annotations_changed = update.scope() == ChangeScope::Annotations;
        let parsed = self.workload_request(surface, namespace, update, context);
        let parsed = WorkloadRequest::new(parsed.await, annotations_changed)?;
        let (request, mut notes) = (parsed.request, parsed.notes);
        let requested = request.as_ref().filter(|request| !request.is_empty());
        let into_template =
            requested.is_some_and(|request| injects_template(policy, kind, request));
        let needed = needs_bindings(update, into_template);
        let (bindings, failures) = match requested {
            Some(request) if needed => self.bind(namespace, request, context).await,
            Some(_) | None => Bindings::default(),
        };
        let secrets = request
            .as_ref()
            .map(|request| restarting_secrets(request, &bindings))
            .unwrap_or_default();
        let input = requested.map(|request| PlanInput {
            target: PlanTarget::Template,
            pod: update.pod(),
            namespace,
            request,
            bindings: &bindings,
            sidecars: &policy.sidecars,
            discloses: context.discloses,
        });
        let warnings = match &input {
            Some(input) if annotations_changed => pod_warnings(policy, input, &failures)?,
            Some(_) | None => Vec::new(),
        };
        let template = match &input {
            _ if request.is_none() || !failures.is_empty() => TemplatePolicy::Preserve,
            Some(input) if into_template => TemplatePolicy::Inject(input),
            Some(_) | None => TemplatePolicy::Remove,
        };
        let mut plan = plan(update, request.as_ref(), &secrets, template)?;
        if annotations_changed {
            add_warnings(&mut plan, warnings);
            notes.extend(unverified(failures));
        } else {
            retain_repeated_warnings(&mut plan);
            notes.clear();
        }
        if plan.is_empty() && plan.warnings.is_empty() && notes.is_empty() {
            return Ok(Outcome::Skipped(parsed.skip.unwrap_or(unchanged(update))));
        }
        Ok(Outcome::Mutated(WorkloadMutation {
            plan,
            secrets: requested.map(requested_secrets).unwrap_or_default(),
            notes,
        }))
    }

    /// Request of the workload's future pods.
    async fn workload_request(
        &self,
        surface: Surface,
        namespace: &str,
        update: &WorkloadUpdate<'_, '_>,
        context: RequestContext<'_>,
    ) -> Result<Decision, AdmissionError> {
        let (annotations, pod) = (update.annotations(), update.pod());
        let parsed = self
            .request(surface, namespace, Some(annotations), pod, context)
            .await;
        // Other updates leave the annotations alone, so that their authors request nothing.
        let is_recorded = update.scope() == ChangeScope::Annotations;
        if is_recorded && parsed.is_err() {
            context.keep_none_known();
        }
        let mut decision = match (parsed, update.check_inherited()) {
            (parsed, Ok(())) => parsed?.0,
            (Err(AdmissionError::Annotations(mut mistakes)), Err(mistake)) => {
                mistakes.push(mistake);
                return Err(AdmissionError::Annotations(mistakes));
            }
            (Ok(_), Err(mistake)) => return Err(AdmissionError::Annotations(vec![mistake])),
            (Err(error), Err(_)) => return Err(error),
        };
        if let Decision::Inject(request) = &mut decision {
            if is_recorded {
                context.keep_requested(request);
            }
            self.authorize(namespace, pod.service_account(), request, context)
                .await?;
            // Only the author of the workload can have it refused, and only by annotations that are written now.
            let by_author = annotations.get("on-missing").is_some()
                && update.scope() == ChangeScope::Annotations;
            if !by_author && request.on_missing == Some(injection::OnMissing::Deny) {
                request.on_missing = None;
            }
        }
        Ok(decision)
    }
}

/// Plans the workload's pods and returns the warnings that they will get.
fn pod_warnings(
    policy: &Policy,
    input: &PlanInput<'_>,
    failures: &[BindFailure],
) -> Result<Vec<Warning>, AdmissionError> {
    let names = NameViolations::of(input.request, policy).tolerating_defaults();
    let (mut warnings, errors) = match injection::plan(input) {
        Ok(plan) => (plan.warnings, Vec::new()),
        Err(errors) => (Vec::new(), errors),
    };
    // Keys that could not be read are not the author's mistake.
    let certain: Vec<PlanError> = errors
        .into_iter()
        .filter(|error| failures.is_empty() || !matches!(error, PlanError::UnknownKeys { .. }))
        .chain(names.errors)
        .collect();
    if certain.is_empty() {
        warnings.extend(names.warnings);
        Ok(warnings)
    } else {
        Err(AdmissionError::Plan(certain))
    }
}

/// Whether the template is injected into: the Infisical operator sees only what the template refers to.
fn injects_template(policy: &Policy, kind: WorkloadKind, request: &InjectionRequest) -> bool {
    let for_restart = kind.is_restartable() && request.reload == ReloadMode::Infisical;
    policy.inject_template || for_restart
}

/// Request of a workload, as far as it is known.
struct WorkloadRequest {
    /// `None` if an error that does not refuse the workload occurred.
    request: Option<InjectionRequest>,
    /// Set if nothing is requested.
    skip: Option<SkipReason>,
    /// Sentences of the error.
    notes: Vec<String>,
}

impl WorkloadRequest {
    /// Converts the result of parsing. Errors that the author can fix refuse the workload if its annotations have
    /// changed.
    fn new(
        parsed: Result<Decision, AdmissionError>,
        annotations_changed: bool,
    ) -> Result<Self, AdmissionError> {
        let (request, skip, notes) = match parsed {
            Ok(Decision::Inject(request)) => (Some(*request), None, Vec::new()),
            Ok(Decision::Skip(reason)) => {
                (Some(InjectionRequest::default()), Some(reason), Vec::new())
            }
            Err(error) if annotations_changed && is_fixed_by_author(&error) => return Err(error),
            Err(error) => (None, None, sentences(&error)),
        };
        Ok(Self {
            request,
            skip,
            notes,
        })
    }
}

/// Whether the update uses bindings: for warnings about the pods, or to inject into the template.
fn needs_bindings(update: &WorkloadUpdate<'_, '_>, into_template: bool) -> bool {
    match update.scope() {
        ChangeScope::Annotations => true,
        ChangeScope::Template => into_template,
        ChangeScope::Unchanged => false,
    }
}

/// Reason to skip an update that changes nothing.
fn unchanged(update: &WorkloadUpdate<'_, '_>) -> SkipReason {
    if update.scope() == ChangeScope::Unchanged {
        SkipReason::Unchanged
    } else {
        SkipReason::AlreadyInjected
    }
}

/// Plans the update. The template is preserved if it cannot be injected into and the annotations have not changed.
fn plan(
    update: &WorkloadUpdate<'_, '_>,
    request: Option<&InjectionRequest>,
    secrets: &[String],
    template: TemplatePolicy<'_>,
) -> Result<WorkloadPlan, AdmissionError> {
    match update.plan(request, secrets, template) {
        Ok(plan) => Ok(plan),
        Err(errors) if update.scope() == ChangeScope::Annotations => {
            Err(AdmissionError::Plan(errors))
        }
        Err(_) => update
            .plan(request, secrets, TemplatePolicy::Preserve)
            .map_err(AdmissionError::Plan),
    }
}

/// Whether the author of the workload can fix the error, unlike a mistake in defaults or an outage.
fn is_fixed_by_author(error: &AdmissionError) -> bool {
    match error {
        AdmissionError::Annotations(mistakes) => mistakes
            .iter()
            .any(|mistake| !mistake.site.origin.is_default()),
        AdmissionError::Plan(_) | AdmissionError::Forbidden(_) | AdmissionError::PatchTooLong => {
            true
        }
        AdmissionError::Backend(_)
        | AdmissionError::Unreadable(_)
        | AdmissionError::NotRecorded => false,
    }
}

/// Adds warnings to those of the plan, each once.
fn add_warnings(plan: &mut WorkloadPlan, warnings: Vec<Warning>) {
    plan.warnings.extend(warnings);
    plan.warnings.sort();
    plan.warnings.dedup();
}

/// Retains the warnings that are returned for each update. The others were returned when the annotation was written;
/// controllers would only get them repeatedly.
fn retain_repeated_warnings(plan: &mut WorkloadPlan) {
    plan.warnings
        .retain(|warning| matches!(warning, Warning::EntriesRemoved { .. }));
}

/// Warnings for secrets that could not be checked.
fn unverified(failures: Vec<BindFailure>) -> Vec<String> {
    if failures.is_empty() {
        Vec::new()
    } else {
        sentences(&AdmissionError::Backend(failures))
    }
}

fn requested_secrets(request: &InjectionRequest) -> Vec<SecretId> {
    request.secret_sites().into_keys().cloned().collect()
}
