//! Admission of objects with a pod template.
//!
//! A workload is refused only for what a retry does not fix: malformed annotations, and a missing secret if its author
//! asks for that. A missing secret otherwise refuses the pods; refusing the workload would break the order in which
//! `helm install` and other tools create objects.

use super::error::{AdmissionError, BindFailure, sentences};
use super::gate;
use super::outcome::{Outcome, WorkloadMutation};
use super::pipeline::{Bindings, Pipeline, RequestContext};
use super::review::{Operation, Request};
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
        request: &Request<'_, WorkloadView<'_>>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let (kind, object) = match gate::workload(request, &self.policy.exempt_namespaces) {
            Ok(passed) => passed,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        let old = request
            .old_object
            .as_ref()
            .filter(|_| request.operation == Operation::Update);
        let Some(review) = WorkloadUpdate::of(kind, object, old) else {
            return Ok(Outcome::Skipped(SkipReason::NotThisKind));
        };
        self.mutate_workload(surface, request.namespace(), kind, &review, context)
            .await
    }

    async fn mutate_workload(
        &self,
        surface: Surface,
        namespace: &str,
        kind: WorkloadKind,
        review: &WorkloadUpdate<'_, '_>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let annotations_changed = review.scope() == ChangeScope::Annotations;
        let parsed = self
            .workload_request(surface, namespace, review, context)
            .await;
        let Parsed {
            request,
            skip,
            mut notes,
        } = Parsed::new(parsed, annotations_changed)?;
        let requested = request.as_ref().filter(|request| !request.is_empty());
        let into_template = requested.is_some_and(|request| self.injects_template(kind, request));
        let needs_bindings =
            annotations_changed || review.scope() == ChangeScope::Template && into_template;
        let (bindings, failures) = match requested {
            Some(request) if needs_bindings => self.bind(namespace, request, context).await,
            Some(_) | None => Bindings::default(),
        };
        let secrets = request
            .as_ref()
            .map(|request| restarting_secrets(request, &bindings))
            .unwrap_or_default();
        let input = requested.map(|request| PlanInput {
            target: PlanTarget::Template,
            pod: review.pod(),
            namespace,
            request,
            bindings: &bindings,
            sidecars: &self.policy.sidecars,
            discloses: context.discloses,
        });
        let warnings = match &input {
            Some(input) if annotations_changed => pod_warnings(input, &failures)?,
            Some(_) | None => Vec::new(),
        };
        let template = match &input {
            _ if request.is_none() || !failures.is_empty() => TemplatePolicy::Preserve,
            Some(input) if into_template => TemplatePolicy::Inject(input),
            Some(_) | None => TemplatePolicy::Remove,
        };
        let mut plan = plan(review, request.as_ref(), &secrets, template)?;
        if annotations_changed {
            plan.warnings.extend(warnings);
            plan.warnings.sort();
            plan.warnings.dedup();
            notes.extend(unverified(failures));
        } else {
            // The others were returned when the annotation was written; controllers would only get them repeatedly.
            plan.warnings
                .retain(|warning| matches!(warning, Warning::TakenBack { .. }));
            notes.clear();
        }
        if plan.is_empty() && plan.warnings.is_empty() && notes.is_empty() {
            return Ok(Outcome::Skipped(skip.unwrap_or(unchanged(review))));
        }
        let secrets = requested.map(requested_secrets).unwrap_or_default();
        Ok(Outcome::Mutated(WorkloadMutation {
            plan,
            secrets,
            notes,
        }))
    }

    /// The request of the workload's future pods.
    async fn workload_request(
        &self,
        surface: Surface,
        namespace: &str,
        review: &WorkloadUpdate<'_, '_>,
        context: RequestContext<'_>,
    ) -> Result<Decision, AdmissionError> {
        let (annotations, pod) = (review.annotations(), review.pod());
        let parsed = self
            .request(surface, namespace, Some(annotations), pod, context)
            .await;
        let mut decision = match (parsed, review.check_inherited()) {
            (parsed, Ok(())) => parsed?.0,
            (Err(AdmissionError::Annotations(mut mistakes)), Err(mistake)) => {
                mistakes.push(mistake);
                return Err(AdmissionError::Annotations(mistakes));
            }
            (Ok(_), Err(mistake)) => return Err(AdmissionError::Annotations(vec![mistake])),
            (Err(error), Err(_)) => return Err(error),
        };
        if let Decision::Inject(request) = &mut decision {
            self.authorize(namespace, pod.service_account(), request, context)
                .await?;
            // Only the author of the workload may ask to refuse it, and only for annotations that are written now.
            let by_author = annotations.get("on-missing").is_some()
                && review.scope() == ChangeScope::Annotations;
            if !by_author && request.on_missing == Some(injection::OnMissing::Deny) {
                request.on_missing = None;
            }
        }
        Ok(decision)
    }

    /// Whether the template is injected into: the Infisical operator sees only what the template refers to.
    fn injects_template(&self, kind: WorkloadKind, request: &InjectionRequest) -> bool {
        let for_restart = kind.restarts() && request.reload == ReloadMode::Infisical;
        self.policy.inject_template || for_restart
    }
}

/// The request of a workload, as far as it is known.
struct Parsed {
    /// `None` if an error that does not refuse the workload occurred.
    request: Option<InjectionRequest>,
    /// Set if nothing is requested.
    skip: Option<SkipReason>,
    /// Sentences of the error.
    notes: Vec<String>,
}

impl Parsed {
    /// Errors that the author can fix refuse the workload if its annotations have changed.
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

/// Reason to skip an update that changes nothing.
fn unchanged(review: &WorkloadUpdate<'_, '_>) -> SkipReason {
    if review.scope() == ChangeScope::Neither {
        SkipReason::Unchanged
    } else {
        SkipReason::AlreadyInjected
    }
}

/// Plans the update. If the template cannot be injected into and the annotations have not changed, it is kept as it is.
fn plan(
    review: &WorkloadUpdate<'_, '_>,
    request: Option<&InjectionRequest>,
    secrets: &[String],
    template: TemplatePolicy<'_>,
) -> Result<WorkloadPlan, AdmissionError> {
    match review.plan(request, secrets, template) {
        Ok(plan) => Ok(plan),
        Err(errors) if review.scope() == ChangeScope::Annotations => {
            Err(AdmissionError::Plan(errors))
        }
        Err(_) => review
            .plan(request, secrets, TemplatePolicy::Preserve)
            .map_err(AdmissionError::Plan),
    }
}

/// Whether the author of the workload can fix it: not a mistake in defaults, and not an outage.
fn is_fixed_by_author(error: &AdmissionError) -> bool {
    match error {
        AdmissionError::Annotations(mistakes) => mistakes
            .iter()
            .any(|mistake| !mistake.site.origin.is_default()),
        AdmissionError::Plan(_) | AdmissionError::Forbidden(_) | AdmissionError::PatchTooLong => {
            true
        }
        AdmissionError::Backend(_) | AdmissionError::Unreadable(_) => false,
    }
}

/// Plans the workload's pods and returns the warnings that they will get.
fn pod_warnings(
    input: &PlanInput<'_>,
    failures: &[BindFailure],
) -> Result<Vec<Warning>, AdmissionError> {
    match injection::plan(input) {
        Ok(plan) => Ok(plan.warnings),
        Err(errors) => {
            // Keys that could not be read are not the author's mistake.
            let certain: Vec<PlanError> = errors
                .into_iter()
                .filter(|error| {
                    failures.is_empty() || !matches!(error, PlanError::UnknownKeys { .. })
                })
                .collect();
            if certain.is_empty() {
                Ok(Vec::new())
            } else {
                Err(AdmissionError::Plan(certain))
            }
        }
    }
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
    request.key_queries().into_keys().cloned().collect()
}
