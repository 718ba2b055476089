//! Admission of Namespaces and ServiceAccounts: whether their annotations are well formed as defaults, and whether they
//! have an effect.

use tokio::time::timeout_at;

use super::error::AdmissionError;
use super::outcome::Outcome;
use super::pipeline::{Pipeline, RequestContext};
use super::review::{AdmissionRequest, Operation, SourceView};
use super::secret_names::NameViolations;
use crate::defaults::oversize;
use injection::{
    AnnotationLayers, AnnotationOwner, Annotations, CowStr, Decision, IdleDefaults, Labels,
    SkipReason,
};

impl Pipeline {
    /// Decides the review of a Namespace or ServiceAccount.
    ///
    /// # Errors
    /// Errors of [`Self::validate`].
    pub async fn admit_defaults_object(
        &self,
        request: &AdmissionRequest<'_, SourceView<'_>>,
        context: RequestContext<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let is_namespace = request.is_resource("", "namespaces");
        if !is_namespace && !request.is_resource("", "serviceaccounts") {
            return Ok(Outcome::Skipped(SkipReason::NotThisKind));
        }
        let Some(object) = &request.object else {
            return Ok(Outcome::Skipped(SkipReason::NotThisOperation));
        };
        self.forget(request, object);
        let annotations = object.metadata.annotations.as_ref();
        let old = request
            .old_object
            .as_ref()
            .filter(|_| request.operation == Operation::Update);
        let unchanged = old.is_some_and(|old| {
            have_same_annotations(annotations, old.metadata.annotations.as_ref())
        });
        let relabelled =
            is_namespace && old.is_some_and(|old| inject_label(object) != inject_label(old));
        // An update that does not change the annotations under our prefix is never refused, even if they are malformed.
        let outcome = if unchanged {
            Outcome::Skipped(SkipReason::Unchanged)
        } else {
            let outcome = self.validate_and_keep(annotations, Some(context))?;
            if old.is_some() {
                // A record without secrets ends the requests of earlier ones.
                context.keep_none_known();
            }
            outcome
        };
        let idle = if unchanged && !relabelled {
            Vec::new()
        } else {
            self.idle_warnings(request, object, context).await
        };
        Ok(match outcome {
            Outcome::Validated { mut notes } => {
                notes.extend(idle);
                Outcome::Validated { notes }
            }
            outcome if idle.is_empty() => outcome,
            _ => Outcome::Validated { notes: idle },
        })
    }

    /// Removes the object from the cache: it is about to change.
    fn forget(&self, request: &AdmissionRequest<'_, SourceView<'_>>, object: &SourceView<'_>) {
        match name(request, object) {
            Some(name) if request.is_resource("", "namespaces") => self.defaults.forget(name, None),
            Some(name) => self.defaults.forget(request.namespace(), Some(name)),
            None => {}
        }
    }

    /// Checks that annotations which serve as defaults are well formed, and the names of the secrets in them.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`], and [`AdmissionError::Plan`] about names of secrets.
    pub fn validate(
        &self,
        annotations: Option<&Annotations<'_>>,
    ) -> Result<Outcome, AdmissionError> {
        self.validate_and_keep(annotations, None)
    }

    fn validate_and_keep(
        &self,
        annotations: Option<&Annotations<'_>>,
        context: Option<RequestContext<'_>>,
    ) -> Result<Outcome, AdmissionError> {
        let mistake =
            annotations.and_then(|annotations| oversize(annotations, || AnnotationOwner::Object));
        if let Some(mistake) = mistake {
            return Err(AdmissionError::Annotations(vec![mistake]));
        }
        match self.parse_layers(&AnnotationLayers {
            object: annotations,
            ..AnnotationLayers::default()
        })? {
            Decision::Inject(request) => {
                if let Some(context) = context {
                    context.keep_requested(&request);
                }
                let NameViolations { errors, warnings } =
                    NameViolations::of(&request, &self.policy());
                if errors.is_empty() {
                    let notes = warnings.iter().map(ToString::to_string).collect();
                    Ok(Outcome::Validated { notes })
                } else {
                    Err(AdmissionError::Plan(errors))
                }
            }
            Decision::Skip(reason) => Ok(Outcome::Skipped(reason)),
        }
    }

    /// Warning about defaults that have no effect because their namespace does not have the label. There is none if the
    /// namespace of a ServiceAccount could not be read in time.
    async fn idle_warnings(
        &self,
        request: &AdmissionRequest<'_, SourceView<'_>>,
        object: &SourceView<'_>,
        context: RequestContext<'_>,
    ) -> Vec<String> {
        if !object
            .metadata
            .annotations
            .as_ref()
            .is_some_and(Annotations::has_requests)
        {
            return Vec::new();
        }
        let Some(name) = name(request, object) else {
            return Vec::new();
        };
        let idle = if request.is_resource("", "namespaces") {
            IdleDefaults::of_namespace(name, inject_label(object))
        } else {
            let namespace = request.namespace();
            let read = self
                .defaults
                .namespace(namespace, context.arrived, context.deadline);
            match timeout_at(context.deadline, read).await {
                Ok(Ok(Some(source))) => {
                    IdleDefaults::of_service_account(name, namespace, source.label())
                }
                Ok(Ok(None) | Err(_)) | Err(_) => None,
            }
        };
        idle.into_iter().map(|idle| idle.to_string()).collect()
    }
}

/// Name of the object. The request has an empty name if the API server generates it.
fn name<'r>(
    request: &'r AdmissionRequest<'_, SourceView<'_>>,
    object: &'r SourceView<'_>,
) -> Option<&'r str> {
    let names = [&request.name, &object.metadata.name];
    names
        .into_iter()
        .flatten()
        .map(CowStr::as_str)
        .find(|name| !name.is_empty())
}

/// Value of the label of a Namespace that lets defaults apply.
fn inject_label<'o>(object: &'o SourceView<'_>) -> Option<&'o str> {
    let label = |labels: &'o Labels<'_>| labels.inject.as_ref().map(CowStr::as_str);
    object.metadata.labels.as_ref().and_then(label)
}

/// Whether two objects have the same annotations under our prefix.
fn have_same_annotations(one: Option<&Annotations<'_>>, other: Option<&Annotations<'_>>) -> bool {
    one.into_iter()
        .flat_map(Annotations::ours)
        .eq(other.into_iter().flat_map(Annotations::ours))
}
