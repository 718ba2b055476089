//! What is done to each document and object.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::documents::{Document, Input};
use super::objects::{Addition, Object, dotted, objects, value_at};
use super::offline::{self, DefaultsManifest, ManifestStore};
use super::output::Changed;
use super::reporter::{Reporter, Status};
use super::request::Request;
use super::template_site::{Form, TemplateSite};
use super::templates::sites;
use super::unreadable::Unreadable;
use super::{explain, unread};
use crate::admission::error::sentences;
use crate::admission::error::{AdmissionError, BindFailure, Kind};
use crate::admission::gate::check_pod;
use crate::admission::outcome::{Outcome, PodMutation};
use crate::admission::pipeline::{Pipeline, RequestContext};
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy};
use crate::admission::sources::{Source, Sources};
use crate::admission::surface::Surface;
use crate::backend::ErrorKind;
use crate::defaults::{AppliedDefaults, Defaults, DefaultsReader};
use injection::{
    self, PlanError, PlanTarget, PodView, SecretName, SecretSource, Sidecar, SkipReason, Warning,
};

/// How long one object may take: a cluster that does not answer by then will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Injects into documents.
pub(super) struct Injector {
    pipeline: Pipeline,
    defaults: Arc<Defaults>,
    reader: Arc<dyn DefaultsReader>,
    known: Arc<ManifestStore>,
    namespace: String,
    sidecars: Vec<Sidecar>,
    explain: bool,
    allow_unknown: bool,
}

impl Injector {
    pub(super) fn new(
        source: Source,
        reader: Arc<dyn DefaultsReader>,
        known: Arc<ManifestStore>,
        namespace: String,
        request: &Request,
    ) -> Self {
        let sidecars = request.sidecars.clone();
        let defaults = Arc::new(Defaults::new(Arc::clone(&reader)));
        let exempt_namespaces = CLUSTER_NAMESPACES.map(str::to_owned).into();
        let policy = Policy {
            sidecars: sidecars.clone(),
            exempt_namespaces,
            ..Policy::default()
        };
        let sources = Sources::from([(SecretSource::Kubernetes, source)]);
        let pipeline = Pipeline::new(sources, Arc::clone(&defaults), policy);
        let Request {
            explain,
            allow_unknown,
            ..
        } = *request;
        Self {
            pipeline,
            defaults,
            reader,
            known,
            namespace,
            sidecars,
            explain,
            allow_unknown,
        }
    }

    /// Refuses malformed defaults, as the webhook would where they are written; explains whether others have an effect.
    pub(super) async fn check_source(
        &self,
        manifest: &DefaultsManifest,
        known: &ManifestStore,
        reporter: &mut Reporter<'_>,
    ) {
        let DefaultsManifest {
            place,
            namespace,
            service_account,
            source,
        } = manifest;
        if let Err(error) = self.pipeline.validate(Some(&source.annotations)) {
            self.refuse(place, &error, reporter);
            return;
        }
        if !self.explain || !source.annotations.say_anything() {
            return;
        }
        let live;
        let labelled = match (service_account, known.namespace_of(namespace)) {
            (None, _) => Some(source),
            (Some(_), Some(of_manifest)) => Some(of_manifest),
            (Some(_), None) => {
                live = self
                    .reader
                    .namespace(namespace, Instant::now() + PATIENCE)
                    .await
                    .unwrap_or_default();
                live.as_ref()
            }
        };
        if let Some(said) = explain::defaults(namespace, service_account.as_deref(), labelled) {
            reporter.note(format_args!("{place}: {said}"));
        }
    }

    /// Every document that changes, and whether any object asks for a secret.
    pub(super) async fn inject_all(
        &self,
        inputs: &[Input],
        reporter: &mut Reporter<'_>,
    ) -> (Changed, bool) {
        let mut changed = Changed::new();
        let mut asked = false;
        for (index, input) in inputs.iter().enumerate() {
            for document in &input.documents {
                let place = format!("{}: document {}", input.name, document.number);
                match self.document(input, document, &place, reporter).await {
                    Ok(injected) => {
                        asked |= injected.asked;
                        changed.extend(
                            injected
                                .value
                                .map(|value| ((index, document.number), value)),
                        );
                    }
                    Err(error) => reporter.error(Status::Unreadable, error),
                }
            }
        }
        (changed, asked)
    }

    async fn document(
        &self,
        input: &Input,
        document: &Document,
        place: &str,
        reporter: &mut Reporter<'_>,
    ) -> Result<Injected, Unreadable> {
        let mut injected = Injected::default();
        // A Secret passes through without being built.
        if let Some(secret) = offline::as_secret(input, document)? {
            if let Some(sentence) = unread::on_secret(&secret.annotations) {
                self.unacted(
                    &format!("{place}, Secret \"{}\"", secret.name),
                    &sentence,
                    reporter,
                );
            }
            return Ok(injected);
        }
        let value: Value = input.read(document)?;
        if value.is_null() {
            return Ok(injected);
        }
        let mut patches = Vec::new();
        for object in objects(&value).map_err(|problem| input.unreadable(document, problem))? {
            let title = object.title();
            match self
                .object(&object, &format!("{place}, {title}"), reporter)
                .await
            {
                Ok(None) => {}
                Ok(Some(patch)) => {
                    injected.asked = true;
                    patches.push(patch);
                }
                Err(problem) => {
                    reporter.error(
                        Status::Unreadable,
                        input.unreadable(document, format!("{title}: {problem}")),
                    );
                }
            }
        }
        if patches.iter().any(|patch| !patch.0.is_empty()) {
            let mut value = value;
            for patch in patches {
                json_patch::patch(&mut value, &patch).expect("the plan was made for this document");
            }
            injected.value = Some(value);
        }
        Ok(injected)
    }
}

/// What became of a document.
#[derive(Debug, Default)]
struct Injected {
    /// The document as it is now; `None` when nothing changed.
    value: Option<Value>,
    /// Whether an object of it asks for a secret.
    asked: bool,
}

// === one object ===

impl Injector {
    /// The patch of an object that asks for secrets; or why it cannot be read.
    async fn object(
        &self,
        object: &Object<'_>,
        place: &str,
        reporter: &mut Reporter<'_>,
    ) -> Result<Option<json_patch::Patch>, String> {
        let defaults = object.is_core("Namespace") || object.is_core("ServiceAccount");
        let sites = if defaults { Vec::new() } else { sites(object)? };
        let mut patch: Option<json_patch::Patch> = None;
        if defaults {
            object.own_metadata()?;
        }
        for site in &sites {
            if let Some(of_site) = self.site(object, site, place, reporter).await? {
                patch.get_or_insert_default().0.extend(of_site.0);
            }
        }
        let unread::Findings { unread, misnamed } = unread::find(object, &sites);
        for sentence in misnamed {
            reporter.warning(format_args!("{place}: {sentence}"));
        }
        for sentence in unread {
            self.unacted(place, &sentence, reporter);
        }
        Ok(patch)
    }

    /// Refuses what nobody acts on, or warns about it where that is allowed.
    fn unacted(&self, place: &str, sentence: &str, reporter: &mut Reporter<'_>) {
        if self.allow_unknown {
            reporter.warning(format_args!("{place}: {sentence}"));
        } else {
            reporter.error(Status::Refused, format_args!("{place}: {sentence}"));
        }
    }

    /// The patch of one pod or template of an object.
    async fn site(
        &self,
        object: &Object<'_>,
        site: &TemplateSite,
        place: &str,
        reporter: &mut Reporter<'_>,
    ) -> Result<Option<json_patch::Patch>, String> {
        let carried = object.carried(site)?;
        let mut value = Cow::Borrowed(object.value());
        if !carried.is_empty() {
            json_patch::patch(value.to_mut(), &additions(&[], &carried))
                .expect("the additions were made for this object");
        }
        let object = &object.with(&value);
        let pod = object.pod(site)?;
        let namespace = object.namespace().unwrap_or(&self.namespace);
        let within = if object.is_only_template(site) {
            String::new()
        } else {
            format!(", {}", titled(object, site))
        };
        let place = &format!("{place}{within} in namespace \"{namespace}\"");
        let outcome = match check_pod(
            namespace,
            pod.annotations(),
            self.pipeline.exempt_namespaces(),
        ) {
            Err(reason) => Ok(Outcome::Skipped(reason)),
            Ok(()) => {
                self.decide(
                    namespace,
                    place,
                    &pod,
                    matches!(site.form, Form::Pod),
                    reporter,
                )
                .await
            }
        };
        match outcome {
            Ok(Outcome::Injected(injection)) => {
                let mut patch = additions(&object.pointer(&[""; 0]), &carried);
                patch
                    .0
                    .extend(self.rendered(object, site, &injection, place, reporter).0);
                Ok(Some(patch))
            }
            Ok(Outcome::Skipped(reason)) => {
                // Whoever asks and gets nothing should hear it; whoever did not ask, only when they want to know.
                let asks = pod
                    .annotations()
                    .is_some_and(|annotations| !annotations.is_empty());
                if self.explain || (asks && reason == SkipReason::ExemptNamespace) {
                    reporter.note(format_args!("{place}: {}", explain::skipped(reason)));
                }
                Ok(None)
            }
            Ok(Outcome::Validated { .. } | Outcome::Mutated(_)) => Ok(None),
            Ok(Outcome::Degraded(error)) | Err(error) => {
                self.refuse(place, &error, reporter);
                Ok(None)
            }
        }
    }

    /// A plan as a patch of the document; what cannot be written where the object has it is refused.
    fn rendered(
        &self,
        object: &Object<'_>,
        site: &TemplateSite,
        injection: &PodMutation,
        place: &str,
        reporter: &mut Reporter<'_>,
    ) -> json_patch::Patch {
        if let Some(obstacle) = site
            .obstacle
            .as_ref()
            .filter(|_| !injection.plan.is_empty())
        {
            let sentence = format!(
                "nothing can be injected here: {obstacle}, or pass --allow-unknown to leave it out."
            );
            self.unacted(place, &sentence, reporter);
            return json_patch::Patch(Vec::new());
        }
        let root = object.pointer(&site.path);
        match &site.form {
            Form::Pod | Form::Template => injection::render(&injection.plan, &root).into(),
            Form::Argo(template) => template.patch(object.at(&site.path), &injection.plan, &root),
        }
    }

    /// What the webhook would say of a pod, or of a pod of a template, and what there is to tell about it.
    async fn decide(
        &self,
        namespace: &str,
        place: &str,
        pod: &PodView<'_>,
        is_pod: bool,
        reporter: &mut Reporter<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let arrived = Instant::now();
        let context = RequestContext::untraced(arrived, arrived + PATIENCE);
        let surface = self.surface(namespace, place, context, reporter).await?;
        let target = if is_pod {
            PlanTarget::Pod
        } else {
            PlanTarget::Manifest
        };
        let outcome = self
            .pipeline
            .decide(surface, target, namespace, pod, context)
            .await?;
        if let Outcome::Injected(injection) = &outcome {
            self.tell(place, surface, namespace, pod, injection, reporter)
                .await;
        }
        Ok(outcome)
    }

    /// Whether defaults apply in the namespace: where its label may not be read, they do not.
    ///
    /// # Errors
    /// When nobody knows: injecting less than the webhook would is no answer.
    async fn surface(
        &self,
        namespace: &str,
        place: &str,
        context: RequestContext<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Result<Surface, AdmissionError> {
        match self.reader.namespace(namespace, context.deadline).await {
            Ok(Some(source)) if source.enabled => Ok(Surface::DefaultsPods),
            Ok(_) => Ok(Surface::Pods),
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                reporter.warning(format_args!(
                    "{place}: the namespace could not be read; if defaults are set there, they are not applied"
                ));
                Ok(Surface::Pods)
            }
            Err(error) => Err(AdmissionError::Backend(vec![BindFailure {
                error,
                site: None,
            }])),
        }
    }

    async fn tell(
        &self,
        place: &str,
        surface: Surface,
        namespace: &str,
        pod: &PodView<'_>,
        injection: &PodMutation,
        reporter: &mut Reporter<'_>,
    ) {
        for warning in &injection.plan.warnings {
            match warning {
                Warning::Missing(error) => {
                    let hint = self
                        .hint(error)
                        .map(|hint| format!(". {hint}"))
                        .unwrap_or_default();
                    reporter.warning(format_args!("{place}: {warning}{hint}"));
                }
                warning => reporter.warning(format_args!("{place}: {warning}")),
            }
        }
        for secret in &injection.secrets {
            if let Some(generated) = self.known.generated(namespace, secret.name.as_str()) {
                reporter.note(format_args!(
                    "{place}: secret \"{secret}\" is \"{generated}\", as kustomize named it in these manifests"
                ));
            }
        }
        for note in &injection.notes {
            reporter.warning(format_args!("{place}: {note}"));
        }
        if !self.explain {
            return;
        }
        let applied = match surface {
            // Read a moment ago, and kept.
            Surface::DefaultsPods | Surface::DefaultsWorkloads => self
                .defaults
                .applied(
                    namespace,
                    pod.service_account(),
                    Instant::now(),
                    Instant::now() + PATIENCE,
                )
                .await
                .unwrap_or_default(),
            Surface::Pods | Surface::Workloads | Surface::Sources => AppliedDefaults::default(),
        };
        let layers = applied.layers(pod.annotations(), namespace, pod.service_account());
        let is_name_of = |name: &str, written: &SecretName| {
            name == self
                .known
                .generated(namespace, written.as_str())
                .unwrap_or(written.as_str())
        };
        for line in explain::injected(&layers, pod, &injection.plan, &self.sidecars, &is_name_of) {
            reporter.note(format_args!("{place}: {line}"));
        }
    }
}

/// What a workload's template gets from its own annotations, for a workload that stands at `root`.
fn additions(root: &[&str], carried: &[Addition]) -> json_patch::Patch {
    let add = |Addition { path, name, value }: &Addition| {
        let tokens = root
            .iter()
            .copied()
            .chain(path.iter().copied())
            .chain([name.as_str()]);
        let path = json_patch::jsonptr::PointerBuf::from_tokens(tokens);
        json_patch::PatchOperation::Add(json_patch::AddOperation {
            path,
            value: value.clone(),
        })
    };
    json_patch::Patch(carried.iter().map(add).collect())
}

/// What a sentence calls a template: its place, and its name where it has one.
fn titled(object: &Object<'_>, site: &TemplateSite) -> String {
    let name = match &site.form {
        Form::Pod | Form::Template => None,
        Form::Argo(_) => object
            .at(&site.path)
            .and_then(|template| value_at(template, &["name"])?.as_str()),
    };
    let path = dotted(&site.path);
    name.map_or_else(|| path.clone(), |name| format!("{path} \"{name}\""))
}

impl Injector {
    /// What helps about a missing secret, beside its own sentence.
    fn hint(&self, error: &PlanError) -> Option<String> {
        match error {
            PlanError::MissingSecret {
                secret, namespace, ..
            } => self.known.hint(namespace, secret),
            PlanError::MissingKey { .. }
            | PlanError::Collision { .. }
            | PlanError::NoSuchContainer { .. }
            | PlanError::ContainerName { .. }
            | PlanError::OnlySidecars { .. }
            | PlanError::TooMany { .. }
            | PlanError::PatchTooLarge { .. }
            | PlanError::UnknownKeys { .. } => None,
        }
    }

    fn refuse(&self, place: &str, error: &AdmissionError, reporter: &mut Reporter<'_>) {
        let hints: Vec<Option<String>> = match error {
            AdmissionError::Plan(errors) => errors.iter().map(|error| self.hint(error)).collect(),
            AdmissionError::Annotations(_)
            | AdmissionError::Backend(_)
            | AdmissionError::Forbidden(_)
            | AdmissionError::Unreadable(_)
            | AdmissionError::PatchTooLong => Vec::new(),
        };
        // One sentence for each error, in their order; of too many, the last sentence says how many more there are.
        let sentences = sentences(error);
        let hinted = if sentences.len() < hints.len() {
            sentences.len() - 1
        } else {
            sentences.len()
        };
        for (index, sentence) in sentences.into_iter().enumerate() {
            let hint = hints
                .get(index)
                .filter(|_| index < hinted)
                .cloned()
                .flatten()
                .map(|hint| format!(" {hint}"))
                .unwrap_or_default();
            reporter.error(Status::Refused, format_args!("{place}: {sentence}{hint}"));
        }
        if error.kind() == Kind::PermissionDenied {
            reporter.note(format_args!(
                "{place}: the cluster was asked with your own rights, not with the webhook's"
            ));
        }
    }
}
