//! Explanation of a workload: what its pods get when they are created, and what its current pods lack.

use injection::{InjectionRequest, PlanInput, PlanTarget, PodView, WorkloadKind, WorkloadView};

use super::containers::{PlannedAs, containers};
use super::error::ExplainError;
use super::head::ObjectHead;
use super::layers::deciding_lines;
use super::output::Explanation;
use super::pod::never_injected;
use super::reader::Explainer;
use super::restarts::restarts;
use super::secrets::RequestedSecrets;
use super::target::ExplainTarget;
use crate::admission::error::{AdmissionError, sentences};
use crate::admission::gate::check_pod;
use crate::scan::evaluate;

impl Explainer {
    pub(super) async fn explain_workload(
        &self,
        namespace: &str,
        target: &ExplainTarget,
        kind: WorkloadKind,
        body: &[u8],
    ) -> Result<Explanation, ExplainError> {
        let view: WorkloadView<'_> =
            serde_json::from_slice(body).map_err(|_| target.unreadable(namespace))?;
        let template = view
            .template(kind)
            .ok_or_else(|| target.unreadable(namespace))?;
        let pod = &template.pod;
        let mut explained = target.explanation(namespace);
        if let Err(reason) = check_pod(namespace, None, &self.exempt) {
            explained.webhook.push(never_injected(reason, namespace));
            return Ok(explained);
        }
        let defaults = self.read_defaults(namespace, pod.service_account()).await?;
        let labels = template_labels(body, kind);
        let entry = self.find_entry(defaults.labels.as_ref(), &labels).await?;
        explained.add_entry(&entry, namespace);
        explained.problems.extend(evaluate::workload(kind, &view));
        explained.annotations.extend(defaults.idle.iter().cloned());
        explained.notes.extend(defaults.notes.iter().cloned());
        let layers = defaults
            .applied
            .layers(pod.annotations(), namespace, pod.service_account());
        explained
            .annotations
            .extend(deciding_lines(&layers, "its pod template"));
        if let Some(request) = explained.request(&layers, &defaults) {
            let secrets = self.read_secrets(namespace, &request).await?;
            explained.restart = restarts(target, kind, body, &secrets.heads);
            self.explain_template(namespace, pod, &request, secrets, &mut explained);
            if entry.is_not_sent() {
                explained.problems.extend(entry.sentence(namespace));
            }
        }
        let head = ObjectHead::parse(body);
        self.explain_pods_of(namespace, kind, &head.uid, &mut explained)
            .await?;
        Ok(explained)
    }

    /// Adds what the pods of a template get, or why they are refused.
    fn explain_template(
        &self,
        namespace: &str,
        pod: &PodView<'_>,
        request: &InjectionRequest,
        secrets: RequestedSecrets,
        explained: &mut Explanation,
    ) {
        let input = PlanInput {
            target: PlanTarget::Pod,
            pod,
            namespace,
            request,
            bindings: &secrets.bindings,
            sidecars: &self.sidecars,
            discloses: true,
        };
        let plan = match injection::plan(&input) {
            Ok(plan) => {
                let warnings = plan.warnings.iter().map(ToString::to_string);
                explained.annotations.extend(warnings);
                explained.problems.extend(secrets.missing);
                Some(plan)
            }
            Err(errors) => {
                let refused = sentences(&AdmissionError::Plan(errors));
                let refused = refused
                    .into_iter()
                    .map(|sentence| format!("its pods are refused: {sentence}"));
                explained.problems.extend(refused);
                None
            }
        };
        explained.containers = containers(
            request,
            pod,
            plan.as_ref(),
            PlannedAs::Future,
            &self.sidecars,
        );
        explained.secrets = secrets.lines;
        explained.notes.extend(secrets.notes);
    }
}

/// Labels of the pods that a workload creates.
fn template_labels(body: &[u8], kind: WorkloadKind) -> std::collections::BTreeMap<String, String> {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let template = kind
        .template()
        .iter()
        .try_fold(&value, |value, field| value.get(field));
    let labels = template.and_then(|template| template.pointer("/metadata/labels")?.as_object());
    let pairs = labels.into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
