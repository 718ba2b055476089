//! What an admission decides about an object with a pod template.
//!
//! Nothing is refused here but what waiting cannot mend: malformed annotations, and a missing secret where the author
//! asks for that. Pods are where a missing secret is refused; refusing the workload would break the order in which
//! `helm install` and other tools create things.

use std::collections::BTreeMap;

use super::error::{AdmissionError, Unbound};
use super::mutator::{Mutator, Outcome, Preparation, Surface, Window, check_disclosure};
use super::response::sentences;
use super::review::{Operation, Request};
use crate::defaults::Governing;
use crate::injection::{
    self, Decision, InjectionRequest, PlanError, PlanInput, ReloadMode, Review, Scope, SecretId, SkipReason, Sources,
    Subject, Template, Warning, WorkloadKind, WorkloadView, restarting_secrets,
};

impl Mutator {
    /// Decides about a workload.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`] and [`AdmissionError::Plan`], and only about an object that is new or whose
    /// annotations of ours have changed.
    pub async fn admit_workload(
        &self,
        surface: Surface,
        request: &Request<'_, WorkloadView<'_>>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let (kind, object) = match self.gate_workload(request) {
            Ok(passed) => passed,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        let old = request.old_object.as_ref().filter(|_| request.operation == Operation::Update);
        let Some(review) = Review::of(kind, object, old) else {
            return Ok(Outcome::Skipped(SkipReason::NotThisKind));
        };
        self.prepare(surface, request.namespace(), kind, &review, window).await
    }

    fn gate_workload<'r, 'a>(
        &self,
        request: &'r Request<'a, WorkloadView<'a>>,
    ) -> Result<(WorkloadKind, &'r WorkloadView<'a>), SkipReason> {
        let kind = WorkloadKind::resources()
            .find_map(|(kind, group, resource)| request.is_resource(group, resource).then_some(kind))
            .ok_or(SkipReason::NotThisKind)?;
        let served = match request.operation {
            Operation::Create => true,
            // The template of a Job never changes.
            Operation::Update => kind != WorkloadKind::Job,
            Operation::Delete | Operation::Connect | Operation::Other => false,
        };
        let object = request.object.as_ref().filter(|_| served).ok_or(SkipReason::NotThisOperation)?;
        if self.policy.exempt_namespaces.contains(request.namespace()) {
            Err(SkipReason::ExemptNamespace)
        } else if object.is_being_deleted() {
            Err(SkipReason::BeingDeleted)
        } else {
            Ok((kind, object))
        }
    }

    async fn prepare(
        &self,
        surface: Surface,
        namespace: &str,
        kind: WorkloadKind,
        review: &Review<'_, '_>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let mut notes = Vec::new();
        let reading = self.read(surface, namespace, review, window).await;
        let (request, skip) = match reading {
            Ok(Decision::Inject(request)) => (Some(*request), None),
            Ok(Decision::Skip(reason)) => (Some(InjectionRequest::default()), Some(reason)),
            Err(error) if review.scope() == Scope::Annotations && is_the_authors(&error) => return Err(error),
            Err(error) => {
                notes.extend(sentences(&error));
                (None, None)
            }
        };
        let asked = request.as_ref().filter(|request| !request.is_empty());
        let into_template = asked.is_some_and(|request| self.injects_template(kind, request));
        let (bindings, unbound) = match (asked, review.scope()) {
            (Some(request), Scope::Annotations) => self.bind(namespace, request, window).await,
            (Some(request), Scope::Template) if into_template => self.bind(namespace, request, window).await,
            (Some(_) | None, _) => (BTreeMap::new(), Vec::new()),
        };
        let secrets = request.as_ref().map(|request| restarting_secrets(request, &bindings)).unwrap_or_default();
        let input = asked.map(|request| PlanInput {
            subject: Subject::Template,
            pod: review.pod(),
            namespace,
            request,
            bindings: &bindings,
            sidecars: &self.policy.sidecars,
            discloses: window.discloses,
        });
        let said = match &input {
            Some(input) if review.scope() == Scope::Annotations => check(input, &unbound)?,
            Some(_) | None => Vec::new(),
        };
        let template = match &input {
            _ if request.is_none() || !unbound.is_empty() => Template::Keep,
            Some(input) if into_template => Template::With(input),
            Some(_) | None => Template::Without,
        };
        let request = request.as_ref();
        let planned = review.plan(request, &secrets, template);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(errors) if review.scope() == Scope::Annotations => return Err(AdmissionError::Plan(errors)),
            Err(_) => review.plan(request, &secrets, Template::Keep).map_err(AdmissionError::Plan)?,
        };
        if review.scope() == Scope::Annotations {
            plan.warnings.extend(said);
            plan.warnings.sort();
            plan.warnings.dedup();
            notes.extend(unverified(unbound));
        } else {
            // Said when it was written; controllers and other tools would only be told again and again.
            plan.warnings.retain(|warning| matches!(warning, Warning::TakenBack { .. }));
            notes.clear();
        }
        if plan.is_empty() && plan.warnings.is_empty() && notes.is_empty() {
            let unchanged =
                if review.scope() == Scope::Neither { SkipReason::Unchanged } else { SkipReason::AlreadyInjected };
            return Ok(Outcome::Skipped(skip.unwrap_or(unchanged)));
        }
        let secrets: Vec<SecretId> = asked.map(asked_for).unwrap_or_default();
        Ok(Outcome::Prepared(Preparation { plan, secrets, notes }))
    }

    /// What the workload's pods will ask for.
    async fn read(
        &self,
        surface: Surface,
        namespace: &str,
        review: &Review<'_, '_>,
        window: Window<'_>,
    ) -> Result<Decision, AdmissionError> {
        let governing = match surface {
            Surface::DefaultsPods | Surface::DefaultsWorkloads => self.govern(namespace, review.pod(), window).await?,
            Surface::Pods | Surface::Workloads | Surface::Sources => Governing::default(),
        };
        let account = review.pod().service_account();
        let sources = Sources {
            object: Some(review.annotations()),
            service_account: governing.service_account.as_deref().map(|source| (account, &source.annotations)),
            namespace: governing.namespace.as_deref().map(|source| (namespace, &source.annotations)),
        };
        let read = self.request(&governing, &sources);
        let mut decision = match (read, review.check_inherited()) {
            (read, Ok(())) => read?,
            (Err(AdmissionError::Annotations(mut mistakes)), Err(mistake)) => {
                mistakes.push(mistake);
                return Err(AdmissionError::Annotations(mistakes));
            }
            (Ok(_), Err(mistake)) => return Err(AdmissionError::Annotations(vec![mistake])),
            (Err(error), Err(_)) => return Err(error),
        };
        if let Decision::Inject(request) = &mut decision {
            check_disclosure(request, window)?;
            // Refusing a workload is for its author to ask, and only about what they write now.
            let theirs = review.annotations().get("on-missing").is_some() && review.scope() == Scope::Annotations;
            if !theirs && request.on_missing == Some(injection::OnMissing::Deny) {
                request.on_missing = None;
            }
        }
        Ok(decision)
    }

    /// The Infisical operator sees only what the template refers to.
    fn injects_template(&self, kind: WorkloadKind, request: &InjectionRequest) -> bool {
        let for_restart = kind.restarts() && request.reload == ReloadMode::Infisical;
        self.policy.inject_template || for_restart
    }
}

/// Whether an author can mend it: not a default's mistake, nor an outage.
fn is_the_authors(error: &AdmissionError) -> bool {
    match error {
        AdmissionError::Annotations(mistakes) => mistakes.iter().any(|mistake| !mistake.site.origin.is_default()),
        AdmissionError::Plan(_) | AdmissionError::PatchTooLong => true,
        AdmissionError::Backend(_) | AdmissionError::Unreadable(_) => false,
    }
}

/// What is to be said about the pods that will come, or stands against them.
fn check(input: &PlanInput<'_>, unbound: &[Unbound]) -> Result<Vec<Warning>, AdmissionError> {
    match injection::plan(input) {
        Ok(plan) => Ok(plan.warnings),
        Err(errors) => {
            // Keys that could not be asked for are not the author's mistake.
            let certain: Vec<PlanError> = errors
                .into_iter()
                .filter(|error| unbound.is_empty() || !matches!(error, PlanError::UnknownKeys { .. }))
                .collect();
            if certain.is_empty() { Ok(Vec::new()) } else { Err(AdmissionError::Plan(certain)) }
        }
    }
}

/// That nobody could be asked.
fn unverified(unbound: Vec<Unbound>) -> Vec<String> {
    if unbound.is_empty() { Vec::new() } else { sentences(&AdmissionError::Backend(unbound)) }
}

fn asked_for(request: &InjectionRequest) -> Vec<SecretId> {
    request.needs().into_keys().cloned().collect()
}
