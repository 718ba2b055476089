//! Explanation of a live pod.

use injection::{
    AnnotationLayers, Decision, InjectionRequest, PlanInput, PlanTarget, PodView, SkipReason,
    WorkloadView,
};

use super::containers::{PlannedAs, containers};
use super::error::ExplainError;
use super::head::ObjectHead;
use super::layers::{PodDefaults, deciding_lines, opts_out, refusal};
use super::output::Explanation;
use super::reader::Explainer;
use super::reasons::missing_reason;
use super::target::ExplainTarget;
use super::webhook_entry::EntryLookup;
use crate::admission::gate::check_pod;
use crate::consumers::{PodObject, PodOwner, PodOwners};
use crate::kubernetes::Representation;
use crate::scan::evaluate;

impl Explainer {
    pub(super) async fn explain_pod(
        &self,
        namespace: &str,
        target: &ExplainTarget,
        body: &[u8],
    ) -> Result<Explanation, ExplainError> {
        let unreadable = || target.unreadable(namespace);
        let pod: PodView<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let object: PodObject<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let head = ObjectHead::parse(body);
        let mut explained = target.explanation(namespace);
        if let Err(reason) = check_pod(namespace, pod.annotations(), &self.exempt) {
            explained.webhook.push(never_injected(reason, namespace));
            return Ok(explained);
        }
        let defaults = self.read_defaults(namespace, pod.service_account()).await?;
        let entry = self
            .find_entry(defaults.labels.as_ref(), &head.labels)
            .await?;
        explained.add_entry(&entry, namespace);
        let owner = self
            .explain_owner(namespace, &object, &mut explained)
            .await?;
        explained.annotations.extend(defaults.idle.iter().cloned());
        explained.notes.extend(defaults.notes.iter().cloned());
        let layers = defaults
            .applied
            .layers(pod.annotations(), namespace, pod.service_account());
        explained
            .annotations
            .extend(deciding_lines(&layers, "the pod itself"));
        let Some(request) = explained.request(&layers, &defaults) else {
            return Ok(explained);
        };
        self.explain_request(
            namespace,
            (&pod, &head),
            (&layers, &request),
            (&entry, &defaults),
            &mut explained,
        );
        let secrets = self.read_secrets(namespace, &request).await?;
        explained.secrets = secrets.lines;
        explained.problems.extend(secrets.missing);
        explained.notes.extend(secrets.notes);
        let owner = owner
            .as_ref()
            .map(|owner| (owner.kind.as_str(), owner.name.as_str()));
        explained.restart = self
            .restarts_of_owner(namespace, owner, &secrets.heads)
            .await?;
        Ok(explained)
    }

    /// Adds what containers have and lack, and why.
    fn explain_request(
        &self,
        namespace: &str,
        (pod, head): (&PodView<'_>, &ObjectHead<'_>),
        (layers, request): (&AnnotationLayers<'_>, &InjectionRequest),
        (entry, defaults): (&EntryLookup, &PodDefaults),
        explained: &mut Explanation,
    ) {
        let bindings = evaluate::assumed_bindings(pod, request);
        let input = PlanInput {
            target: PlanTarget::Pod,
            pod,
            namespace,
            request,
            bindings: &bindings,
            sidecars: &self.sidecars,
            discloses: true,
        };
        let plan = injection::plan(&input).ok();
        let is_lacking = plan.as_ref().is_some_and(|plan| !plan.is_empty());
        explained.containers = containers(
            request,
            pod,
            plan.as_ref(),
            PlannedAs::Missing,
            &self.sidecars,
        );
        let evaluation = evaluate::pod(namespace, pod, layers, &self.sidecars);
        explained.problems.extend(evaluation.problems);
        explained.annotations.extend(evaluation.warnings);
        if is_lacking {
            let reason = missing_reason(head, layers, entry, namespace, &defaults.written);
            explained.problems.push(reason);
        }
    }

    /// Finds the workload of a pod, and adds what its own annotations do not reach.
    async fn explain_owner(
        &self,
        namespace: &str,
        pod: &PodObject<'_>,
        explained: &mut Explanation,
    ) -> Result<Option<PodOwner>, ExplainError> {
        let Some(controller) = pod.controller() else {
            return Ok(None);
        };
        let mut owners = PodOwners::new(&self.api, namespace);
        let owner = owners.workload_of(controller).await.owner;
        explained.notes.extend(owners.note.take());
        let Some(target) = ExplainTarget::of_owner(&owner.kind, &owner.name) else {
            return Ok(Some(owner));
        };
        let read = self
            .api
            .get(&target.path(namespace), Representation::Full)
            .await;
        let body = match read {
            Err(error) if error.kind.is_denied() => {
                explained.notes.push(format!(
                    "the annotations of {} \"{}\" were not checked: {error}",
                    owner.kind, owner.name
                ));
                None
            }
            read => read?,
        };
        if let (Some(body), Some(kind)) = (body, target.workload())
            && let Ok(workload) = serde_json::from_slice::<WorkloadView<'_>>(&body)
        {
            let problems = evaluate::workload(kind, &workload).into_iter();
            explained.problems.extend(
                problems.map(|problem| format!("{} \"{}\": {problem}", owner.kind, owner.name)),
            );
        }
        Ok(Some(owner))
    }
}

impl Explanation {
    /// Adds the sentence about the webhook's entry.
    pub(super) fn add_entry(&mut self, entry: &EntryLookup, namespace: &str) {
        self.webhook.extend(entry.sentence(namespace));
        if let EntryLookup::Unknown(note) = entry {
            self.notes.push(note.clone());
        }
    }

    /// Request of the layers; `None` with a sentence if nothing is injected.
    pub(super) fn request(
        &mut self,
        layers: &AnnotationLayers<'_>,
        defaults: &PodDefaults,
    ) -> Option<Box<InjectionRequest>> {
        let decision = injection::parse(layers);
        let refusals = defaults.refusals(layers);
        if decision.is_ok() && !refusals.is_empty() {
            self.problems.extend(refusals);
            return None;
        }
        match decision {
            Ok(Decision::Inject(request)) => Some(request),
            Ok(Decision::Skip(_)) if opts_out(layers.object) => {
                let sentence =
                    "it opts out: secrets.floe.dev/inject is \"false\", so nothing is injected";
                self.annotations.push(sentence.to_owned());
                None
            }
            Ok(Decision::Skip(SkipReason::OptedOut)) => {
                let sentence = "secrets.floe.dev/inject is \"false\", so nothing is injected";
                self.annotations.push(sentence.to_owned());
                None
            }
            Ok(Decision::Skip(_)) => {
                self.annotations.push(defaults.no_request().to_owned());
                None
            }
            Err(mistakes) => {
                self.problems.extend(mistakes.iter().map(refusal));
                None
            }
        }
    }
}

/// Sentence about a pod that the webhook never mutates.
pub(super) fn never_injected(reason: SkipReason, namespace: &str) -> String {
    match reason {
        SkipReason::MirrorPod => {
            "it is the mirror pod of a static pod, which may not refer to Secrets, so nothing is injected".to_owned()
        }
        _ => format!(
            "namespace \"{namespace}\" is exempt: nothing is injected into its pods, whatever they ask for"
        ),
    }
}
