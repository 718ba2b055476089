//! Checks of documents and their objects.

use std::sync::Arc;

use serde_json::Value;

use super::profile::ProfileVariables;
use super::report::Report;
use super::source::DocumentSource;
use super::variables::KeySources;
use super::{annotations, values};
use crate::admission::outcome::Outcome;
use crate::finding::{FindingSeverity, Rule};
use crate::inject::ineffective::{self, IneffectiveNames};
use crate::inject::manifest_store::{self, ManifestStore};
use crate::inject::objects::{ManifestObject, dotted, objects};
use crate::inject::pod_planner::PodPlanner;
use crate::inject::templates::sites;
use crate::inject::unreadable::UnreadableInput;
use crate::literals::Detector;
use injection::NameConvention;

/// Checks documents.
pub(super) struct ManifestLinter {
    pub(super) planner: PodPlanner,
    /// Planner for pods that request all keys of a secret whose keys are not known.
    pub(super) named_keys_planner: PodPlanner,
    pub(super) store: Arc<ManifestStore>,
    /// Namespace of objects that name none.
    pub(super) namespace: String,
    pub(super) secret_names: Option<NameConvention>,
    pub(super) allow_unknown: bool,
    pub(super) detector: Detector,
    pub(super) profile: Option<ProfileVariables>,
    pub(super) key_sources: KeySources,
}

/// An object in a document.
#[derive(Clone, Copy)]
pub(super) struct ObjectContext<'a> {
    pub(super) object: &'a ManifestObject<'a>,
    pub(super) source: &'a DocumentSource<'a>,
    /// Kind and name, for messages.
    pub(super) title: &'a str,
}

impl ObjectContext<'_> {
    /// Reports a problem at a path in the object.
    pub(super) fn report(
        &self,
        rule: Rule,
        severity: FindingSeverity,
        path: &[String],
        sentence: &str,
        report: &mut Report,
    ) {
        report.push_from(severity, || {
            let path = self.object.pointer(path);
            let message = format!("{}: {sentence}", self.title);
            self.source.finding(rule, severity, &path, message)
        });
    }
}

fn path_of(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// Whether a document has a kind, as those of Kubernetes have.
fn has_kind(document: &Value) -> bool {
    let kind = document.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| !kind.is_empty())
}

/// Objects of a document, unless one is a List whose items are not all objects.
fn without_broken_lists(
    objects: Vec<ManifestObject<'_>>,
) -> Result<Vec<ManifestObject<'_>>, String> {
    for object in objects.iter().filter(|object| object.is_core("List")) {
        let items = object.value().get("items").and_then(Value::as_array);
        let broken = items.and_then(|items| items.iter().position(|item| !item.is_object()));
        if let Some(index) = broken {
            let index = index.to_string();
            let at = dotted(&object.pointer(&["items", &index]));
            return Err(format!("{at} is not a Kubernetes object"));
        }
    }
    Ok(objects)
}

impl ManifestLinter {
    pub(super) async fn document(&self, source: &DocumentSource<'_>, report: &mut Report) {
        let (input, document) = (source.input(), source.document);
        // The values of a Secret are never parsed.
        match manifest_store::read_secret(input, document) {
            Ok(None) => {}
            Ok(Some(secret)) => return self.secret(&secret, source, report),
            Err(error) => return report.unreadable(error),
        }
        let value: Value = match input.read(document) {
            Ok(value) => value,
            Err(error) => return report.unreadable(error),
        };
        if value.is_null() {
            return;
        }
        let objects = match objects(&value).and_then(without_broken_lists) {
            Ok(objects) => objects,
            // A document without a kind is not of Kubernetes; a list with a broken item is.
            Err(_) if !has_kind(&value) => {
                report.skipped_documents += 1;
                return;
            }
            Err(problem) => {
                return report.unreadable(UnreadableInput {
                    line: Some((document.line, None)),
                    ..UnreadableInput::of_input(input.name.clone(), problem)
                });
            }
        };
        for object in &objects {
            let title = object.title();
            let context = ObjectContext {
                object,
                source,
                title: &title,
            };
            if let Err(problem) = self.object(context, report).await {
                let path = path_of(&["metadata", "name"]);
                context.report(
                    Rule::InvalidField,
                    FindingSeverity::Error,
                    &path,
                    &problem,
                    report,
                );
            }
        }
    }

    /// Checks the name and the annotations of a Secret.
    fn secret(
        &self,
        secret: &manifest_store::PartialSecret,
        source: &DocumentSource<'_>,
        report: &mut Report,
    ) {
        let title = match secret.name.as_str() {
            "" => "Secret without a name".to_owned(),
            name => format!("Secret \"{name}\""),
        };
        self.secret_name(source, &["metadata", "name"], &secret.name, report);
        if let Some(sentence) = ineffective::on_secret(&secret.annotations) {
            let first = secret.annotations.first().map_or("", String::as_str);
            let path = ["metadata", "annotations", first];
            let message = format!("{title}: {sentence}");
            report.push(source.finding(
                Rule::AnnotationIneffective,
                self.ignored(),
                &path,
                message,
            ));
        }
    }

    /// Checks the name of a Secret, which is at `path` in the document. A name that the API server generates is empty.
    fn secret_name(
        &self,
        source: &DocumentSource<'_>,
        path: &[&str],
        name: &str,
        report: &mut Report,
    ) {
        if let Some(convention) = &self.secret_names
            && !name.is_empty()
            && !convention.matches(name)
        {
            let message = format!(
                "Secret \"{name}\": the name does not follow the naming convention \"{convention}\". Rename the Secret and what refers to it."
            );
            report.push(source.finding(
                Rule::SecretNameConvention,
                FindingSeverity::Error,
                path,
                message,
            ));
        }
    }

    /// Severity of annotations that are not acted on.
    pub(super) fn ignored(&self) -> FindingSeverity {
        if self.allow_unknown {
            FindingSeverity::Warning
        } else {
            FindingSeverity::Error
        }
    }

    /// Checks an object.
    ///
    /// # Errors
    /// Sentence about a part of the object that cannot be read.
    async fn object(&self, context: ObjectContext<'_>, report: &mut Report) -> Result<(), String> {
        let object = context.object;
        if object.group() == "floe.dev" {
            report.note(format!(
                "{}: a manifest of floe is not checked here; compile checks it",
                context.source.input().name
            ));
            return Ok(());
        }
        if object.is_core("Secret") {
            let name = object.name().unwrap_or_default();
            self.secret_name(
                context.source,
                &object.pointer(&["metadata", "name"]),
                name,
                report,
            );
        } else {
            values::check(
                object,
                context.title,
                context.source,
                &self.detector,
                report,
            );
        }
        let has_defaults = object.is_core("Namespace") || object.is_core("ServiceAccount");
        let sites = if has_defaults {
            self.defaults(context, report)?;
            Vec::new()
        } else {
            sites(object)?
        };
        for site in &sites {
            self.site(context, site, report).await?;
        }
        let IneffectiveNames { ignored, misnamed } = ineffective::find(object, &sites);
        let rule = Rule::AnnotationIneffective;
        for found in &misnamed {
            context.report(
                rule,
                FindingSeverity::Warning,
                &found.path,
                &found.sentence,
                report,
            );
        }
        for found in &ignored {
            context.report(rule, self.ignored(), &found.path, &found.sentence, report);
        }
        Ok(())
    }

    /// Checks the annotations of a Namespace or ServiceAccount as admission does.
    ///
    /// # Errors
    /// Sentence about metadata that cannot be read.
    fn defaults(&self, context: ObjectContext<'_>, report: &mut Report) -> Result<(), String> {
        let metadata = context.object.own_metadata()?;
        let path = |name: Option<&str>| {
            let annotations = ["metadata", "annotations"].into_iter();
            path_of(&annotations.chain(name).collect::<Vec<_>>())
        };
        match self
            .planner
            .validate_defaults(metadata.annotations.as_ref())
        {
            Ok(Outcome::Validated { notes }) => {
                let rule = Rule::SecretNameConvention;
                for note in notes {
                    context.report(rule, FindingSeverity::Error, &path(None), &note, report);
                }
            }
            Ok(_) => {}
            Err(error) => {
                for problem in annotations::of_error(&error, &self.store).problems {
                    let name = problem.site.map(|site| site.annotation());
                    let path = path(name.as_deref());
                    let (rule, severity) = (problem.rule, problem.severity);
                    context.report(rule, severity, &path, &problem.sentence, report);
                }
            }
        }
        Ok(())
    }
}
