//! Admission of a Namespace or ServiceAccount: whether its annotations are well formed as defaults,
//! and whether they have an effect.

use tokio::time::timeout_at;

use super::error::AdmissionError;
use super::mutator::{Mutator, Outcome, Window};
use super::review::{Operation, Request, SourceView};
use crate::defaults::oversize;
use crate::injection::{Annotations, Decision, IdleDefaults, Labels, Origin, SkipReason, Sources, Text};

impl Mutator {
    /// Decides about a Namespace or ServiceAccount: whether its defaults are well formed.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`].
    pub async fn admit_source(
        &self,
        request: &Request<'_, SourceView<'_>>,
        window: Window<'_>,
    ) -> Result<Outcome, AdmissionError> {
        let is_namespace = request.is_resource("", "namespaces");
        if !is_namespace && !request.is_resource("", "serviceaccounts") {
            return Ok(Outcome::Skipped(SkipReason::NotThisKind));
        }
        let Some(object) = &request.object else { return Ok(Outcome::Skipped(SkipReason::NotThisOperation)) };
        self.forget(request, object);
        let ours = object.metadata.annotations.as_ref();
        let old = request.old_object.as_ref().filter(|_| request.operation == Operation::Update);
        let unchanged = old.is_some_and(|old| same(ours, old.metadata.annotations.as_ref()));
        let relabelled = is_namespace && old.is_some_and(|old| inject_label(object) != inject_label(old));
        // An update that leaves our annotations alone is never refused, whatever they say.
        let outcome = if unchanged { Outcome::Skipped(SkipReason::Unchanged) } else { self.validate(ours)? };
        let notes = if unchanged && !relabelled { Vec::new() } else { self.idle(request, object, window).await };
        Ok(if notes.is_empty() { outcome } else { Outcome::Validated { notes } })
    }

    /// The object changes in a moment, if nobody refuses that: what this replica remembers of it is worth nothing
    /// then.
    fn forget(&self, request: &Request<'_, SourceView<'_>>, object: &SourceView<'_>) {
        match name(request, object) {
            Some(name) if request.is_resource("", "namespaces") => self.defaults.forget(name, None),
            Some(name) => self.defaults.forget(request.namespace(), Some(name)),
            None => {}
        }
    }

    /// Whether annotations that serve as defaults are well formed.
    ///
    /// # Errors
    /// [`AdmissionError::Annotations`].
    pub fn validate(&self, ours: Option<&Annotations<'_>>) -> Result<Outcome, AdmissionError> {
        if let Some(mistake) = ours.and_then(|ours| oversize(ours, || Origin::Object)) {
            return Err(AdmissionError::Annotations(vec![mistake]));
        }
        match self.parse(&Sources { object: ours, ..Sources::default() })? {
            Decision::Inject(_) => Ok(Outcome::Validated { notes: Vec::new() }),
            Decision::Skip(reason) => Ok(Outcome::Skipped(reason)),
        }
    }

    /// The sentence about defaults that have no effect, because their namespace does not carry the label. Where the
    /// namespace of a ServiceAccount cannot be read in time, there is none.
    async fn idle(
        &self,
        request: &Request<'_, SourceView<'_>>,
        object: &SourceView<'_>,
        window: Window<'_>,
    ) -> Vec<String> {
        if !object.metadata.annotations.as_ref().is_some_and(Annotations::say_anything) {
            return Vec::new();
        }
        let Some(name) = name(request, object) else { return Vec::new() };
        let idle = if request.is_resource("", "namespaces") {
            IdleDefaults::of_namespace(name, inject_label(object))
        } else {
            let namespace = request.namespace();
            let read = self.defaults.namespace(namespace, window.arrived, window.deadline);
            match timeout_at(window.deadline, read).await {
                Ok(Ok(Some(source))) => IdleDefaults::of_service_account(name, namespace, source.label()),
                Ok(Ok(None) | Err(_)) | Err(_) => None,
            }
        };
        idle.into_iter().map(|idle| idle.to_string()).collect()
    }
}

/// The object's name: the request's is empty where the API server will make one.
fn name<'r>(request: &'r Request<'_, SourceView<'_>>, object: &'r SourceView<'_>) -> Option<&'r str> {
    let names = [&request.name, &object.metadata.name];
    names.into_iter().flatten().map(Text::as_str).find(|name| !name.is_empty())
}

/// The label of a Namespace that lets defaults apply.
fn inject_label<'o>(object: &'o SourceView<'_>) -> Option<&'o str> {
    let label = |labels: &'o Labels<'_>| labels.inject.as_ref().map(Text::as_str);
    object.metadata.labels.as_ref().and_then(label)
}

/// Whether two objects carry the same annotations of ours.
fn same(one: Option<&Annotations<'_>>, other: Option<&Annotations<'_>>) -> bool {
    one.into_iter().flat_map(Annotations::ours).eq(other.into_iter().flat_map(Annotations::ours))
}
