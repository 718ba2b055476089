//! Checks of pods and pod templates, by the plan that admission would make.

use serde_json::Value;

use super::annotations::{self, PodProblem};
use super::manifests::{ManifestLinter, ObjectContext};
use super::profile::RequiredVariable;
use super::report::Report;
use super::variables::{ContainerVariables, secret_title};
use crate::admission::error::AdmissionError;
use crate::admission::outcome::{Outcome, PodMutation};
use crate::finding::{FindingSeverity, Rule};
use crate::inject::argo;
use crate::inject::objects::{ManifestObject, is_request_annotation};
use crate::inject::pod_planner::{LocatedPod, UNKNOWN_DEFAULTS};
use crate::inject::propagation::{Propagated, site_title, target_of};
use crate::inject::refusal::hint;
use crate::inject::template_site::{TemplateForm, TemplateSite, obstacle_sentence};
use injection::{AnnotationOwner, AnnotationRef, Annotations, SkipReason};

impl ManifestLinter {
    /// Checks one pod or template of an object.
    ///
    /// # Errors
    /// Sentence about a part of the pod that cannot be read.
    pub(super) async fn site(
        &self,
        context: ObjectContext<'_>,
        site: &TemplateSite,
        report: &mut Report,
    ) -> Result<(), String> {
        let written = context.object;
        let propagated = Propagated::of(written, site)?;
        let object = written.with_value(&propagated.value);
        let pod = object.pod(site)?;
        report.has_pods = true;
        let namespace = object.namespace().unwrap_or(&self.namespace);
        let title = format!(
            "{}{} in namespace \"{namespace}\"",
            context.title,
            site_title(&object, site)
        );
        let context = ObjectContext {
            title: &title,
            ..context
        };
        let located = LocatedPod {
            location: &title,
            namespace,
            view: &pod,
            target: target_of(site),
        };
        match self.planner.decide(located).await {
            Ok((outcome, defaults)) => {
                if !defaults.is_known {
                    report.note(format!("namespace \"{namespace}\": {UNKNOWN_DEFAULTS}"));
                }
                let has_requests = pod.annotations().is_some_and(Annotations::has_requests);
                self.outcome(context, site, (&outcome, has_requests), report);
                if self.profile.is_some() {
                    let planned = PlannedPod::new(&object, site, &outcome, namespace);
                    self.profile_variables(context, site, &planned, report)
                        .await;
                }
            }
            Err(error) => {
                self.error(context, site, &error, report);
                if let Some(secrets) = annotations::secrets_of_unknown_keys(&error)
                    && self.profile.is_some()
                    && let Ok((outcome, _)) = self.named_keys_planner.decide(located).await
                {
                    let planned = PlannedPod {
                        unknown: secrets.iter().map(|name| secret_title(name)).collect(),
                        ..PlannedPod::new(&object, site, &outcome, namespace)
                    };
                    self.profile_variables(context, site, &planned, report)
                        .await;
                }
            }
        }
        Ok(())
    }

    /// Reports a pod that admission would refuse.
    fn error(
        &self,
        context: ObjectContext<'_>,
        site: &TemplateSite,
        error: &AdmissionError,
        report: &mut Report,
    ) {
        let found = annotations::of_error(error, &self.store);
        report.has_requests = true;
        for problem in found.problems {
            report_problem(context, site, &problem, report);
        }
        let title = context.title;
        for sentence in found.unchecked {
            report.note(format!("{title}: {sentence}"));
        }
        for failure in found.failures {
            report.failure(format!("{title}: {failure}"));
        }
    }

    fn outcome(
        &self,
        context: ObjectContext<'_>,
        site: &TemplateSite,
        (outcome, has_requests): (&Outcome, bool),
        report: &mut Report,
    ) {
        match outcome {
            Outcome::Injected(mutation) => self.mutation(context, site, mutation, report),
            Outcome::Skipped(SkipReason::ExemptNamespace) => {
                let sentence = "the webhook injects nothing in this namespace, so the annotations have no effect";
                if has_requests {
                    let rule = Rule::AnnotationIneffective;
                    let path = requests_path(context.object, site);
                    context.report(rule, FindingSeverity::Warning, &path, sentence, report);
                }
            }
            Outcome::Skipped(_)
            | Outcome::Mutated(_)
            | Outcome::Validated { .. }
            | Outcome::Degraded(_) => {}
        }
    }

    fn mutation(
        &self,
        context: ObjectContext<'_>,
        site: &TemplateSite,
        mutation: &PodMutation,
        report: &mut Report,
    ) {
        report.has_requests = true;
        let obstacle = site.obstacle.as_ref().filter(|_| !mutation.plan.is_empty());
        if let Some(obstacle) = obstacle {
            let sentence = obstacle_sentence(obstacle);
            let path = site.annotations_path();
            let rule = Rule::AnnotationIneffective;
            context.report(rule, self.ignored(), &path, &sentence, report);
        }
        for warning in &mutation.plan.warnings {
            let mut problem = annotations::of_warning(warning);
            if let injection::Warning::Missing(error) = warning
                && let Some(hint) = hint(error, &self.store)
            {
                problem.sentence = format!("{}. {hint}", problem.sentence);
            }
            report_problem(context, site, &problem, report);
        }
        for note in &mutation.notes {
            let path = site.annotations_path();
            context.report(
                Rule::Annotation,
                FindingSeverity::Warning,
                &path,
                note,
                report,
            );
        }
    }

    /// Reports variables of the profile that no container gets. The container that lacks the fewest counts: others may
    /// be sidecars.
    async fn profile_variables(
        &self,
        context: ObjectContext<'_>,
        site: &TemplateSite,
        planned: &PlannedPod<'_>,
        report: &mut Report,
    ) {
        let Some(profile) = &self.profile else {
            return;
        };
        let PlannedPod {
            namespace,
            pod,
            unknown,
        } = planned;
        let mut containers = self.key_sources.of_pod(namespace, pod, report).await;
        for container in &mut containers {
            container.unknown_sources.extend(unknown.iter().cloned());
        }
        let missing = |container: &ContainerVariables| -> Vec<RequiredVariable> {
            let variables = profile.variables.iter();
            variables
                .filter(|variable| !container.names.contains(&variable.name))
                .cloned()
                .collect()
        };
        let fewest = containers
            .iter()
            .enumerate()
            .map(|(index, container)| (index, container, missing(container)))
            .min_by_key(|(_, _, missing)| missing.len());
        let Some((index, container, missing)) = fewest else {
            return;
        };
        let path = match site.form {
            TemplateForm::Argo(_) => site.path.clone(),
            TemplateForm::Pod | TemplateForm::Template => {
                let index = index.to_string();
                let below = ["spec", "containers", &index, "name"].map(str::to_owned);
                site.path.iter().cloned().chain(below).collect()
            }
        };
        for variable in missing {
            let severity = if container.unknown_sources.is_empty() {
                FindingSeverity::Error
            } else {
                FindingSeverity::Warning
            };
            let sentence = missing_variable(container, &profile.target, &variable);
            context.report(Rule::ProfileVariable, severity, &path, &sentence, report);
        }
    }
}

/// A pod as it is after the injection.
struct PlannedPod<'n> {
    namespace: &'n str,
    pod: Value,
    /// Secrets whose keys are not known, and whose variables the pod therefore lacks.
    unknown: Vec<String>,
}

impl<'n> PlannedPod<'n> {
    fn new(
        object: &ManifestObject<'_>,
        site: &TemplateSite,
        outcome: &Outcome,
        namespace: &'n str,
    ) -> Self {
        Self {
            namespace,
            pod: pod_after(object, site, outcome),
            unknown: Vec::new(),
        }
    }
}

/// Paths at which a workload has the annotations that its template inherits.
fn workload_paths() -> [Vec<String>; 2] {
    let fields = |path: &[&str]| path.iter().map(|field| (*field).to_owned()).collect();
    [
        fields(&["spec", "jobTemplate", "metadata", "annotations"]),
        fields(&["metadata", "annotations"]),
    ]
}

/// Path of the annotations with requests: those of the template, or of the workload.
fn requests_path(object: &ManifestObject<'_>, site: &TemplateSite) -> Vec<String> {
    let own = site.annotations_path();
    let has_requests = |path: &&Vec<String>| {
        let annotations = object.at(path).and_then(Value::as_object);
        annotations.is_some_and(|map| map.keys().any(|name| is_request_annotation(name)))
    };
    let of_workload = workload_paths();
    let found = std::iter::once(&own).chain(&of_workload).find(has_requests);
    found.unwrap_or(&own).clone()
}

/// Reports a problem at its annotation.
fn report_problem(
    context: ObjectContext<'_>,
    site: &TemplateSite,
    problem: &PodProblem,
    report: &mut Report,
) {
    let path = match &problem.site {
        Some(annotation) => annotation_path(context, site, annotation),
        None => site.annotations_path(),
    };
    let PodProblem {
        rule,
        severity,
        sentence,
        ..
    } = problem;
    context.report(*rule, *severity, &path, sentence, report);
}

/// Sentence about a variable that a container does not get, or may not get.
fn missing_variable(
    container: &ContainerVariables,
    target: &str,
    variable: &RequiredVariable,
) -> String {
    let RequiredVariable { name, place } = variable;
    let ContainerVariables {
        container,
        unknown_sources,
        ..
    } = container;
    let unknown: Vec<&str> = unknown_sources.iter().map(String::as_str).collect();
    if unknown_sources.is_empty() {
        format!(
            "container \"{container}\" does not get variable \"{name}\", which target \"{target}\" of the profile reads ({place}). Request it by annotation secrets.floe.dev/env.{name}, or set it in env."
        )
    } else {
        format!(
            "container \"{container}\" may not get variable \"{name}\", which target \"{target}\" of the profile reads ({place}): the keys of {} are not known. Give them with --secrets, or in the files.",
            unknown.join(", ")
        )
    }
}

/// The pod as it is after the injection.
fn pod_after(object: &ManifestObject<'_>, site: &TemplateSite, outcome: &Outcome) -> Value {
    let mut pod = match &site.form {
        TemplateForm::Pod | TemplateForm::Template => {
            object.at(&site.path).cloned().unwrap_or_default()
        }
        TemplateForm::Argo(template) => template.pod.clone(),
    };
    if let Outcome::Injected(mutation) = outcome
        && site.obstacle.is_none()
    {
        let patch: json_patch::Patch = injection::render(&mutation.plan, &[]).into();
        json_patch::patch(&mut pod, &patch).expect("the plan was made for this pod");
    }
    pod
}

/// Path of an annotation in the object; for a default, and for an annotation whose name is cut, that of the annotations.
fn annotation_path(
    context: ObjectContext<'_>,
    site: &TemplateSite,
    annotation: &AnnotationRef,
) -> Vec<String> {
    let own = site.annotations_path();
    let candidates: Vec<Vec<String>> = match annotation.origin {
        AnnotationOwner::Object => {
            let of_argo = argo::pod_metadata(context.object).map(|(path, _)| path);
            std::iter::once(own.clone()).chain(of_argo).collect()
        }
        AnnotationOwner::Workload => workload_paths().into(),
        AnnotationOwner::ServiceAccount(_) | AnnotationOwner::Namespace(_) => Vec::new(),
    };
    let name = annotation.annotation();
    candidates
        .into_iter()
        .map(|mut path| {
            path.push(name.clone());
            path
        })
        .find(|path| context.object.at(path).is_some())
        .unwrap_or(own)
}
