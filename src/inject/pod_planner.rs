//! Plans of pods, made by the admission pipeline of the webhook, and what is reported about them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::explain;
use super::manifest_store::{DefaultsManifest, ManifestStore};
use super::refusal::{hint, report_refusal};
use super::reporter::Reporter;
use super::request::InjectRequest;
use crate::admission::error::{AdmissionError, BindFailure};
use crate::admission::gate::check_pod;
use crate::admission::outcome::{Outcome, PodMutation};
use crate::admission::pipeline::{Pipeline, RequestContext};
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy};
use crate::admission::sources::{Source, Sources};
use crate::admission::surface::Surface;
use crate::backend::ErrorKind;
use crate::defaults::{AppliedDefaults, Defaults, DefaultsReader};
use injection::{PlanTarget, PodView, SecretName, SecretSource, Sidecar, SkipReason, Warning};

/// Time limit of one pod. A cluster that has not responded by then is not waited for.
const POD_TIMEOUT: Duration = Duration::from_secs(30);

/// A pod, or a pod of a template.
#[derive(Clone, Copy)]
pub(super) struct LocatedPod<'a> {
    /// Input, document, object and namespace, for messages.
    pub location: &'a str,
    pub namespace: &'a str,
    pub view: &'a PodView<'a>,
    pub target: PlanTarget,
}

/// Plans pods and reports warnings, notes and refusals.
pub(super) struct PodPlanner {
    pipeline: Pipeline,
    defaults: Arc<Defaults>,
    reader: Arc<dyn DefaultsReader>,
    manifests: Arc<ManifestStore>,
    sidecars: Vec<Sidecar>,
    explain: bool,
}

impl PodPlanner {
    pub(super) fn new(
        source: Source,
        reader: Arc<dyn DefaultsReader>,
        manifests: Arc<ManifestStore>,
        request: &InjectRequest,
    ) -> Self {
        let sidecars = request.sidecars.clone();
        let defaults = Arc::new(Defaults::new(Arc::clone(&reader)));
        let policy = Policy {
            sidecars: sidecars.clone(),
            exempt_namespaces: CLUSTER_NAMESPACES.map(str::to_owned).into(),
            ..Policy::default()
        };
        let sources = Sources::from([(SecretSource::Kubernetes, source)]);
        Self {
            pipeline: Pipeline::new(sources, Arc::clone(&defaults), policy),
            defaults,
            reader,
            manifests,
            sidecars,
            explain: request.explain,
        }
    }

    /// Refuses malformed defaults, as the webhook does on admission of a Namespace or ServiceAccount. With `--explain`,
    /// reports defaults that have no effect.
    pub(super) async fn check_defaults(
        &self,
        manifest: &DefaultsManifest,
        reporter: &mut Reporter<'_>,
    ) {
        let DefaultsManifest {
            location,
            namespace,
            service_account,
            defaults,
        } = manifest;
        if let Err(error) = self.pipeline.validate(Some(&defaults.annotations)) {
            report_refusal(location, &error, &self.manifests, reporter);
            return;
        }
        if !self.explain || !defaults.annotations.has_requests() {
            return;
        }
        let live;
        let labelled = match (service_account, self.manifests.namespace_named(namespace)) {
            (None, _) => Some(defaults),
            (Some(_), Some(of_manifest)) => Some(of_manifest),
            (Some(_), None) => {
                live = self
                    .reader
                    .namespace(namespace, Instant::now() + POD_TIMEOUT)
                    .await
                    .unwrap_or_default();
                live.as_ref()
            }
        };
        if let Some(note) = explain::defaults(namespace, service_account.as_deref(), labelled) {
            reporter.note(format_args!("{location}: {note}"));
        }
    }

    /// Plans a pod and reports about it; `None` if nothing is injected.
    pub(super) async fn plan(
        &self,
        pod: LocatedPod<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<PodMutation> {
        let LocatedPod {
            location,
            namespace,
            view,
            ..
        } = pod;
        let gate = check_pod(
            namespace,
            view.annotations(),
            self.pipeline.exempt_namespaces(),
        );
        let outcome = match gate {
            Err(reason) => Ok(Outcome::Skipped(reason)),
            Ok(()) => self.decide(pod, reporter).await,
        };
        match outcome {
            Ok(Outcome::Injected(injection)) => Some(injection),
            Ok(Outcome::Skipped(reason)) => {
                // Annotations in exempt namespaces are always reported, other skipped pods only with --explain.
                let is_annotated = view
                    .annotations()
                    .is_some_and(|annotations| !annotations.is_empty());
                if self.explain || (is_annotated && reason == SkipReason::ExemptNamespace) {
                    reporter.note(format_args!("{location}: {}", explain::skipped(reason)));
                }
                None
            }
            Ok(Outcome::Validated { .. } | Outcome::Mutated(_)) => None,
            Ok(Outcome::Degraded(error)) | Err(error) => {
                report_refusal(location, &error, &self.manifests, reporter);
                None
            }
        }
    }

    /// Decision of the webhook about a pod.
    async fn decide(
        &self,
        pod: LocatedPod<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let arrived = Instant::now();
        let context = RequestContext::untraced(arrived, arrived + POD_TIMEOUT);
        let surface = self.surface(pod, context, reporter).await?;
        let outcome = self
            .pipeline
            .decide(surface, pod.target, pod.namespace, pod.view, context)
            .await?;
        if let Outcome::Injected(injection) = &outcome {
            self.report_mutation(pod, injection, reporter);
            if self.explain {
                self.explain_mutation(pod, surface, injection, reporter)
                    .await;
            }
        }
        Ok(outcome)
    }

    /// Surface that receives the namespace's pods. If the namespace may not be read, defaults are not applied.
    ///
    /// # Errors
    /// The namespace could not be read for another reason: the plan could lack what the webhook would inject.
    async fn surface(
        &self,
        pod: LocatedPod<'_>,
        context: RequestContext<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Result<Surface, AdmissionError> {
        match self.reader.namespace(pod.namespace, context.deadline).await {
            Ok(namespace) => Ok(Surface::of_pods_in(namespace.as_ref())),
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                reporter.warning(format_args!(
                    "{}: the namespace could not be read; if defaults are set there, they are not applied",
                    pod.location
                ));
                Ok(Surface::of_pods_in(None))
            }
            Err(error) => Err(AdmissionError::Backend(vec![BindFailure {
                error,
                site: None,
            }])),
        }
    }

    /// Reports a mutation's warnings, and the names that kustomize generated.
    fn report_mutation(
        &self,
        pod: LocatedPod<'_>,
        injection: &PodMutation,
        reporter: &mut Reporter<'_>,
    ) {
        let location = pod.location;
        for warning in &injection.plan.warnings {
            match warning {
                Warning::Missing(error) => {
                    let hint = hint(error, &self.manifests)
                        .map(|hint| format!(". {hint}"))
                        .unwrap_or_default();
                    reporter.warning(format_args!("{location}: {warning}{hint}"));
                }
                warning => reporter.warning(format_args!("{location}: {warning}")),
            }
        }
        for secret in &injection.secrets {
            let generated = self
                .manifests
                .generated_name(pod.namespace, secret.name.as_str());
            if let Some(generated) = generated {
                reporter.note(format_args!(
                    "{location}: secret \"{secret}\" is \"{generated}\", as kustomize named it in these manifests"
                ));
            }
        }
        for note in &injection.notes {
            reporter.warning(format_args!("{location}: {note}"));
        }
    }

    /// Reports what each container gets, and why.
    async fn explain_mutation(
        &self,
        pod: LocatedPod<'_>,
        surface: Surface,
        injection: &PodMutation,
        reporter: &mut Reporter<'_>,
    ) {
        let LocatedPod {
            location,
            namespace,
            view,
            ..
        } = pod;
        let applied = if surface.applies_defaults() {
            // Cached by the decision.
            self.defaults
                .applied(
                    namespace,
                    view.service_account(),
                    Instant::now(),
                    Instant::now() + POD_TIMEOUT,
                )
                .await
                .unwrap_or_default()
        } else {
            AppliedDefaults::default()
        };
        let layers = applied.layers(view.annotations(), namespace, view.service_account());
        let is_name_of = |name: &str, written: &SecretName| {
            name == self
                .manifests
                .generated_name(namespace, written.as_str())
                .unwrap_or(written.as_str())
        };
        let plan = &injection.plan;
        for line in explain::injected(&layers, view, plan, &self.sidecars, &is_name_of) {
            reporter.note(format_args!("{location}: {line}"));
        }
    }
}
