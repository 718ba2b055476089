//! Annotations that decide about pods, at the five places where they can be, and those without effect.

use injection::{
    AnnotationLayers, AnnotationOwner, Annotations, DecidingAnnotation, ENABLED_LABEL,
    IdleDefaults, SecretName,
};
use tokio::time::Instant;

use super::error::ExplainError;
use super::head::ObjectHead;
use super::reader::{DEFAULTS_TIMEOUT, Explainer};
use crate::defaults::AppliedDefaults;
use crate::kubernetes::{ApiError, Representation};

/// Defaults that apply to pods of one service account.
pub(super) struct PodDefaults {
    pub applied: AppliedDefaults,
    /// Labels of the namespace; `None` if it may not be read.
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    /// Sentences about defaults without effect.
    pub idle: Vec<String>,
    pub notes: Vec<String>,
}

impl PodDefaults {
    /// Whether defaults apply in the namespace.
    pub fn are_enabled(&self) -> bool {
        let label = self
            .labels
            .as_ref()
            .and_then(|labels| labels.get(ENABLED_LABEL.0));
        label.is_some_and(|value| value == ENABLED_LABEL.1)
    }
}

impl Explainer {
    /// Reads the Namespace and the ServiceAccount of a pod.
    pub(super) async fn read_defaults(
        &self,
        namespace: &str,
        account: &str,
    ) -> Result<PodDefaults, ExplainError> {
        let mut notes = Vec::new();
        let namespace_body = self
            .read_metadata(&format!("/api/v1/namespaces/{namespace}"), &mut notes)
            .await?;
        let labels = namespace_body
            .as_deref()
            .map(|body| ObjectHead::parse(body).labels);
        let mut defaults = PodDefaults {
            applied: AppliedDefaults::default(),
            labels,
            idle: Vec::new(),
            notes,
        };
        if defaults.are_enabled() {
            let now = Instant::now();
            defaults.applied = self
                .defaults
                .applied(namespace, account, now, now + DEFAULTS_TIMEOUT)
                .await?;
            return Ok(defaults);
        }
        let Some(namespace_body) = namespace_body else {
            return Ok(defaults);
        };
        let label = defaults
            .labels
            .as_ref()
            .and_then(|labels| labels.get(ENABLED_LABEL.0));
        let label = label.map(String::as_str);
        if has_requests(&namespace_body) {
            let idle = IdleDefaults::of_namespace(namespace, label);
            defaults.idle.extend(idle.map(|idle| idle.to_string()));
        }
        // The name is not validated in templates of custom resources, and becomes part of a path.
        if account.parse::<SecretName>().is_err() {
            return Ok(defaults);
        }
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
        let account_body = self.read_metadata(&path, &mut defaults.notes).await?;
        if account_body.as_deref().is_some_and(has_requests) {
            let idle = IdleDefaults::of_service_account(account, namespace, label);
            defaults.idle.extend(idle.map(|idle| idle.to_string()));
        }
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

fn has_requests(body: &[u8]) -> bool {
    ObjectHead::parse(body)
        .annotations
        .is_some_and(|annotations| annotations.has_requests())
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

/// Whether an object's annotations ask for nothing because it opts out.
pub(super) fn opts_out(annotations: Option<&Annotations<'_>>) -> bool {
    annotations.is_some_and(Annotations::opts_out)
}
