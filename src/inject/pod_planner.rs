//! Plans of pods, made by the admission pipeline of the webhook, and what is reported about them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::explain;
use super::manifest_store::{DefaultsManifest, ManifestStore};
use super::refusal::{hint, report_refusal};
use super::reporter::Reporter;
use crate::admission::error::{AdmissionError, BindFailure};
use crate::admission::gate::check_pod;
use crate::admission::outcome::{Outcome, PodMutation};
use crate::admission::pipeline::{Pipeline, RequestContext};
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy, SecretNamePolicy};
use crate::admission::sources::{Source, Sources};
use crate::admission::surface::Surface;
use crate::backend::ErrorKind;
use crate::defaults::{AppliedDefaults, Defaults, DefaultsReader};
use injection::{
    Annotations, PlanTarget, PodView, SecretName, SecretSource, Sidecar, SkipReason, Warning,
};

/// Time limit of one pod. A cluster that has not responded by then is not waited for.
const POD_TIMEOUT: Duration = Duration::from_secs(30);

/// A pod, or a pod of a template.
#[derive(Clone, Copy)]
pub(crate) struct LocatedPod<'a> {
    /// Input, document, object and namespace, for messages.
    pub location: &'a str,
    pub namespace: &'a str,
    pub view: &'a PodView<'a>,
    pub target: PlanTarget,
}

/// Defaults that apply to the pods of a namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamespaceDefaults {
    /// Surface that receives the pods.
    pub surface: Surface,
    /// False if the namespace may not be read; its defaults are not applied then.
    pub is_known: bool,
}

impl Default for NamespaceDefaults {
    fn default() -> Self {
        Self {
            surface: Surface::of_pods_in(None),
            is_known: true,
        }
    }
}

/// Warning about a namespace that may not be read.
pub(crate) const UNKNOWN_DEFAULTS: &str =
    "the namespace could not be read; if defaults are set there, they are not applied";

/// Settings of the planner.
#[derive(Clone, Debug)]
pub(crate) struct PlannerSettings {
    /// Containers that get nothing unless an annotation names them.
    pub sidecars: Vec<Sidecar>,
    /// Convention for the names of secrets.
    pub secret_names: Option<SecretNamePolicy>,
    /// Whether to report what each container gets and why.
    pub explain: bool,
}

/// Plans pods and reports warnings, notes and refusals.
pub(crate) struct PodPlanner {
    pipeline: Pipeline,
    defaults: Arc<Defaults>,
    reader: Arc<dyn DefaultsReader>,
    manifests: Arc<ManifestStore>,
    sidecars: Vec<Sidecar>,
    explain: bool,
}

impl PodPlanner {
    pub(crate) fn new(
        source: Source,
        reader: Arc<dyn DefaultsReader>,
        manifests: Arc<ManifestStore>,
        settings: PlannerSettings,
    ) -> Self {
        let PlannerSettings {
            sidecars,
            secret_names,
            explain,
        } = settings;
        let defaults = Arc::new(Defaults::new(Arc::clone(&reader)));
        let policy = Policy {
            sidecars: sidecars.clone(),
            exempt_namespaces: CLUSTER_NAMESPACES.map(str::to_owned).into(),
            secret_names,
            ..Policy::default()
        };
        let sources = Sources::from([(SecretSource::Kubernetes, source)]);
        Self {
            pipeline: Pipeline::new(sources, Arc::clone(&defaults), policy),
            defaults,
            reader,
            manifests,
            sidecars,
            explain,
        }
    }

    /// Decision of the webhook about a Namespace or ServiceAccount.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub(crate) fn validate_defaults(
        &self,
        annotations: Option<&Annotations<'_>>,
    ) -> Result<Outcome, AdmissionError> {
        self.pipeline.validate(annotations)
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
        if let Err(error) = self.validate_defaults(Some(&defaults.annotations)) {
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
        let LocatedPod { location, view, .. } = pod;
        let decided = self.decide(pod).await;
        if let Ok((
            _,
            NamespaceDefaults {
                is_known: false, ..
            },
        )) = &decided
        {
            reporter.warning(format_args!("{location}: {UNKNOWN_DEFAULTS}"));
        }
        match decided {
            Ok((Outcome::Injected(injection), defaults)) => {
                self.report_mutation(pod, &injection, reporter);
                if self.explain {
                    self.explain_mutation(pod, defaults.surface, &injection, reporter)
                        .await;
                }
                Some(injection)
            }
            Ok((Outcome::Skipped(reason), _)) => {
                // Annotations in exempt namespaces are always reported, other skipped pods only with --explain.
                let is_annotated = view
                    .annotations()
                    .is_some_and(|annotations| !annotations.is_empty());
                if self.explain || (is_annotated && reason == SkipReason::ExemptNamespace) {
                    reporter.note(format_args!("{location}: {}", explain::skipped(reason)));
                }
                None
            }
            Ok((Outcome::Validated { .. } | Outcome::Mutated(_), _)) => None,
            Ok((Outcome::Degraded(error), _)) | Err(error) => {
                report_refusal(location, &error, &self.manifests, reporter);
                None
            }
        }
    }

    /// Decision of the webhook about a pod, and the surface that would receive it.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub(crate) async fn decide(
        &self,
        pod: LocatedPod<'_>,
    ) -> Result<(Outcome, NamespaceDefaults), AdmissionError> {
        let gate = check_pod(
            pod.namespace,
            pod.view.annotations(),
            &self.pipeline.policy().exempt_namespaces,
        );
        if let Err(reason) = gate {
            return Ok((Outcome::Skipped(reason), NamespaceDefaults::default()));
        }
        let arrived = Instant::now();
        let context = RequestContext::untraced(arrived, arrived + POD_TIMEOUT);
        let defaults = self.namespace_defaults(pod, context).await?;
        let outcome = self
            .pipeline
            .decide(
                defaults.surface,
                pod.target,
                pod.namespace,
                pod.view,
                context,
            )
            .await?;
        Ok((outcome, defaults))
    }

    /// Surface that receives the namespace's pods. If the namespace may not be read, defaults are not applied.
    ///
    /// # Errors
    /// The namespace could not be read for another reason: the plan could lack what the webhook would inject.
    async fn namespace_defaults(
        &self,
        pod: LocatedPod<'_>,
        context: RequestContext<'_>,
    ) -> Result<NamespaceDefaults, AdmissionError> {
        match self.reader.namespace(pod.namespace, context.deadline).await {
            Ok(namespace) => Ok(NamespaceDefaults {
                surface: Surface::of_pods_in(namespace.as_ref()),
                is_known: true,
            }),
            Err(error) if error.kind == ErrorKind::PermissionDenied => Ok(NamespaceDefaults {
                is_known: false,
                ..NamespaceDefaults::default()
            }),
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
