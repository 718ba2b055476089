//! Annotations that decide about pods, at the five places where they can be, and those without effect.

use std::collections::BTreeMap;

use injection::{
    AnnotationLayers, AnnotationOwner, Annotations, DecidingAnnotation, Decision, ENABLED_LABEL,
    IdleDefaults, InvalidAnnotation, SecretName, SkipReason,
};
use tokio::time::Instant;

use super::error::ExplainError;
use super::head::ObjectHead;
use super::reader::{DEFAULTS_TIMEOUT, Explainer};
use crate::consumers::ManagedFields;
use crate::defaults::AppliedDefaults;
use crate::kubernetes::{ApiError, Representation};

/// Defaults that apply to pods of one service account.
#[derive(Debug, Default)]
pub(super) struct PodDefaults {
    /// None if the Namespace or the `ServiceAccount` may not be read: one may override the other.
    pub applied: AppliedDefaults,
    /// Labels of the namespace; `None` if it may not be read.
    pub labels: Option<BTreeMap<String, String>>,
    /// Managed fields of the objects that have the defaults.
    pub written: Vec<(AnnotationOwner, ManagedFields)>,
    /// Sentences about defaults without effect.
    pub idle: Vec<String>,
    /// Sentences about objects that may not be read.
    pub notes: Vec<String>,
}

impl PodDefaults {
    /// Whether defaults apply in the namespace; `None` if that is not known.
    pub fn are_enabled(&self) -> Option<bool> {
        let labels = self.labels.as_ref()?;
        let label = labels.get(ENABLED_LABEL.0);
        Some(label.is_some_and(|value| value == ENABLED_LABEL.1))
    }

    /// Sentence about an object whose annotations request no secret.
    pub fn no_request(&self) -> &'static str {
        match self.are_enabled() {
            Some(false) => {
                "none of its annotations asks for a secret, and no defaults apply in this namespace"
            }
            Some(true) if self.notes.is_empty() => {
                "neither its annotations nor the defaults of its service account and namespace ask for a secret"
            }
            _ => {
                "none of its own annotations asks for a secret; whether a default of its service account or namespace does is not known"
            }
        }
    }

    /// Refusal of an object because its defaults are too large to be read; none if it opts out.
    pub fn refusals(&self, layers: &AnnotationLayers<'_>) -> Vec<String> {
        let mistakes = self.applied.mistakes();
        let is_opted_out = || {
            matches!(
                injection::parse(layers),
                Ok(Decision::Skip(SkipReason::OptedOut))
            )
        };
        if mistakes.is_empty() || is_opted_out() {
            return Vec::new();
        }
        mistakes.iter().map(refusal).collect()
    }
}

impl Explainer {
    /// Reads the Namespace and the ServiceAccount of a pod.
    pub(super) async fn read_defaults(
        &self,
        namespace: &str,
        account: &str,
    ) -> Result<PodDefaults, ExplainError> {
        let mut defaults = PodDefaults::default();
        let path = format!("/api/v1/namespaces/{namespace}");
        let read = self.read_metadata(&path, &mut defaults.notes).await?;
        let Some(of_namespace) = read else {
            return Ok(defaults);
        };
        // The name is not validated in templates of custom resources, and becomes part of a path.
        let of_account = if account.parse::<SecretName>().is_ok() {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
            self.read_metadata(&path, &mut defaults.notes).await?
        } else {
            None
        };
        let of_namespace = ObjectHead::parse(&of_namespace);
        let of_account = of_account.as_deref().map(ObjectHead::parse);
        let label = of_namespace.labels.get(ENABLED_LABEL.0).cloned();
        defaults.labels = Some(of_namespace.labels.clone());
        if defaults.are_enabled() == Some(true) {
            if defaults.notes.is_empty() {
                let now = Instant::now();
                defaults.applied = self
                    .defaults
                    .applied(namespace, account, now, now + DEFAULTS_TIMEOUT)
                    .await?;
            }
        } else {
            if of_namespace.has_requests() {
                let idle = IdleDefaults::of_namespace(namespace, label.as_deref());
                defaults.idle.extend(idle.map(|idle| idle.to_string()));
            }
            if of_account.as_ref().is_some_and(ObjectHead::has_requests) {
                let idle = IdleDefaults::of_service_account(account, namespace, label.as_deref());
                defaults.idle.extend(idle.map(|idle| idle.to_string()));
            }
        }
        defaults.written = vec![(
            AnnotationOwner::Namespace(namespace.to_owned()),
            of_namespace.managed_fields,
        )];
        defaults.written.extend(of_account.map(|head| {
            let owner = AnnotationOwner::ServiceAccount(account.to_owned());
            (owner, head.managed_fields)
        }));
        Ok(defaults)
    }

    /// Reads metadata; `None` if there is no such object, or if it may not be read, with a note.
    async fn read_metadata(
        &self,
        path: &str,
        notes: &mut Vec<String>,
    ) -> Result<Option<bytes::Bytes>, ApiError> {
        match self.api.get(path, Representation::Metadata).await {
            Err(error) if error.kind.is_denied() => {
                notes.push(format!("defaults were not checked: {error}"));
                Ok(None)
            }
            read => read,
        }
    }
}

impl ObjectHead<'_> {
    fn has_requests(&self) -> bool {
        let annotations = self.annotations.as_ref();
        annotations.is_some_and(Annotations::has_requests)
    }
}

/// Sentence about annotations that the webhook would refuse.
pub(super) fn refusal(mistake: &InvalidAnnotation) -> String {
    format!("the webhook would refuse it: {mistake}.")
}

/// Sentences about the annotations that decide. `own` is the object that has the nearest annotations.
pub(super) fn deciding_lines(layers: &AnnotationLayers<'_>, own: &str) -> Vec<String> {
    let line = |DecidingAnnotation { site, overridden }: DecidingAnnotation| {
        let name = site.annotation();
        let decides = format!("{name} of {} decides", place(&site.origin, own));
        if overridden.is_empty() {
            decides
        } else {
            let places: Vec<String> = overridden.iter().map(|owner| place(owner, own)).collect();
            format!(
                "{decides}, and overrides that of {}",
                places.join(" and of ")
            )
        }
    };
    layers.deciding().into_iter().map(line).collect()
}

fn place(owner: &AnnotationOwner, own: &str) -> String {
    match owner {
        AnnotationOwner::Object => own.to_owned(),
        AnnotationOwner::Workload => {
            "the workload's own metadata, which the template inherits".to_owned()
        }
        AnnotationOwner::ServiceAccount(name) => format!("service account \"{name}\""),
        AnnotationOwner::Namespace(name) => format!("namespace \"{name}\""),
    }
}

/// Whether an object opts out of the injection.
pub(super) fn opts_out(annotations: Option<&Annotations<'_>>) -> bool {
    annotations.is_some_and(Annotations::opts_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_not_denied_without_the_labels_of_the_namespace() {
        let with = |labels: Option<&[(&str, &str)]>, note: Option<&str>| PodDefaults {
            labels: labels.map(|labels| {
                let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
                labels.iter().map(own).collect()
            }),
            notes: note.map(str::to_owned).into_iter().collect(),
            ..PodDefaults::default()
        };
        let unread = with(None, Some("denied"));
        assert_eq!(unread.are_enabled(), None);
        assert!(unread.no_request().ends_with("is not known"));
        let off = with(Some(&[]), None);
        assert!(off.no_request().contains("no defaults apply"));
        let enabled = [ENABLED_LABEL];
        let on = with(Some(&enabled), None);
        assert!(on.no_request().starts_with("neither its annotations"));
        let without_account = with(Some(&enabled), Some("denied"));
        assert!(without_account.no_request().ends_with("is not known"));
    }
}
