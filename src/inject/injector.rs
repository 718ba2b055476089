//! Injection into documents and their objects.

use serde_json::Value;

use super::documents::Document;
use super::ineffective::{self, IneffectiveName, IneffectiveNames};
use super::input::Input;
use super::manifest_store;
use super::objects::{ManifestObject, objects};
use super::output::PatchedDocuments;
use super::pod_planner::{LocatedPod, PodPlanner};
use super::propagation::{Propagated, propagation_patch, site_title, target_of};
use super::reporter::{InjectExitStatus, Reporter};
use super::template_site::{TemplateForm, TemplateSite, obstacle_sentence};
use super::templates::sites;
use super::unreadable::UnreadableInput;
use crate::admission::outcome::PodMutation;

/// Injects into documents.
pub(super) struct Injector {
    planner: PodPlanner,
    /// Namespace of objects that name none.
    namespace: String,
    allow_unknown: bool,
}

/// Result for one document.
#[derive(Debug, Default)]
struct InjectedDocument {
    /// The patched document; `None` if nothing changed.
    value: Option<Value>,
    /// Whether one of its objects requests a secret.
    requested: bool,
}

impl Injector {
    pub(super) fn new(planner: PodPlanner, namespace: String, allow_unknown: bool) -> Self {
        Self {
            planner,
            namespace,
            allow_unknown,
        }
    }

    /// Returns the documents that change, and whether any object requests a secret.
    pub(super) async fn inject_all(
        &self,
        inputs: &[Input],
        reporter: &mut Reporter<'_>,
    ) -> (PatchedDocuments, bool) {
        let mut patched = PatchedDocuments::new();
        let mut requested = false;
        for (index, input) in inputs.iter().enumerate() {
            for document in &input.documents {
                match self.document(input, document, reporter).await {
                    Ok(injected) => {
                        requested |= injected.requested;
                        patched.extend(
                            injected
                                .value
                                .map(|value| ((index, document.number), value)),
                        );
                    }
                    Err(error) => reporter.error(InjectExitStatus::Unreadable, error),
                }
            }
        }
        (patched, requested)
    }

    async fn document(
        &self,
        input: &Input,
        document: &Document,
        reporter: &mut Reporter<'_>,
    ) -> Result<InjectedDocument, UnreadableInput> {
        let location = input.location(document);
        // The values of a Secret are never parsed.
        if let Some(secret) = manifest_store::read_secret(input, document)? {
            if let Some(sentence) = ineffective::on_secret(&secret.annotations) {
                let location = format!("{location}, Secret \"{}\"", secret.name);
                self.report_ignored(&location, &sentence, reporter);
            }
            return Ok(InjectedDocument::default());
        }
        let mut value: Value = input.read(document)?;
        if value.is_null() {
            return Ok(InjectedDocument::default());
        }
        let mut patches = Vec::new();
        for object in objects(&value).map_err(|problem| input.unreadable(document, problem))? {
            let title = object.title();
            match self
                .object(&object, &format!("{location}, {title}"), reporter)
                .await
            {
                Ok(patch) => patches.extend(patch),
                Err(problem) => reporter.error(
                    InjectExitStatus::Unreadable,
                    input.unreadable(document, format!("{title}: {problem}")),
                ),
            }
        }
        let requested = !patches.is_empty();
        if patches.iter().all(|patch| patch.0.is_empty()) {
            return Ok(InjectedDocument {
                value: None,
                requested,
            });
        }
        for patch in patches {
            json_patch::patch(&mut value, &patch).expect("the plan was made for this document");
        }
        Ok(InjectedDocument {
            value: Some(value),
            requested,
        })
    }

    /// Patch of an object; `None` if it requests no secret.
    ///
    /// # Errors
    /// Sentence about a part of the object that cannot be read.
    async fn object(
        &self,
        object: &ManifestObject<'_>,
        location: &str,
        reporter: &mut Reporter<'_>,
    ) -> Result<Option<json_patch::Patch>, String> {
        let has_defaults = object.is_core("Namespace") || object.is_core("ServiceAccount");
        let sites = if has_defaults {
            object.own_metadata()?;
            Vec::new()
        } else {
            sites(object)?
        };
        let mut patch: Option<json_patch::Patch> = None;
        for site in &sites {
            if let Some(site_patch) = self.site(object, site, location, reporter).await? {
                patch.get_or_insert_default().0.extend(site_patch.0);
            }
        }
        let IneffectiveNames { ignored, misnamed } = ineffective::find(object, &sites);
        for IneffectiveName { sentence, .. } in misnamed {
            reporter.warning(format_args!("{location}: {sentence}"));
        }
        for IneffectiveName { sentence, .. } in ignored {
            self.report_ignored(location, &sentence, reporter);
        }
        Ok(patch)
    }

    /// Patch of one pod or template of an object; `None` if it requests no secret.
    async fn site(
        &self,
        object: &ManifestObject<'_>,
        site: &TemplateSite,
        location: &str,
        reporter: &mut Reporter<'_>,
    ) -> Result<Option<json_patch::Patch>, String> {
        let Propagated {
            fields: propagated,
            value,
        } = Propagated::of(object, site)?;
        let object = &object.with_value(&value);
        let pod = object.pod(site)?;
        let namespace = object.namespace().unwrap_or(&self.namespace);
        let title = site_title(object, site);
        let location = &format!("{location}{title} in namespace \"{namespace}\"");
        let located = LocatedPod {
            location,
            namespace,
            view: &pod,
            target: target_of(site),
        };
        let Some(injection) = self.planner.plan(located, reporter).await else {
            return Ok(None);
        };
        let mut patch = propagation_patch(&object.pointer(&[""; 0]), &propagated);
        let rendered = self.render(object, site, &injection, location, reporter);
        patch.0.extend(rendered.0);
        Ok(Some(patch))
    }

    /// Plan as a patch of the document. Refuses a plan that would not reach the pods from this template.
    fn render(
        &self,
        object: &ManifestObject<'_>,
        site: &TemplateSite,
        injection: &PodMutation,
        location: &str,
        reporter: &mut Reporter<'_>,
    ) -> json_patch::Patch {
        if let Some(obstacle) = site
            .obstacle
            .as_ref()
            .filter(|_| !injection.plan.is_empty())
        {
            self.report_ignored(location, &obstacle_sentence(obstacle), reporter);
            return json_patch::Patch(Vec::new());
        }
        let root = object.pointer(&site.path);
        match &site.form {
            TemplateForm::Pod | TemplateForm::Template => {
                injection::render(&injection.plan, &root).into()
            }
            TemplateForm::Argo(template) => {
                template.patch(object.at(&site.path), &injection.plan, &root)
            }
        }
    }

    /// Refuses annotations that are not acted on; with `--allow-unknown`, warns about them.
    fn report_ignored(&self, location: &str, sentence: &str, reporter: &mut Reporter<'_>) {
        let message = format!("{location}: {sentence}");
        if self.allow_unknown {
            reporter.warning(message);
        } else {
            reporter.error(InjectExitStatus::Refused, message);
        }
    }
}
