//! Namespaces and ServiceAccounts from the API server: metadata alone, one GET each.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{DefaultsObject, DefaultsReader, ENABLED_LABEL};
use crate::backend::kubernetes::{KubernetesBackend, is_dns_label};
use crate::backend::{BackendError, BackendKind, ErrorKind};
use injection::{Annotations, CowStr, PREFIX};

/// Reads them through the backend's client.
pub struct KubernetesDefaults(pub kube::Client);

/// By hand: a client has no `Debug`, and holds credentials.
impl fmt::Debug for KubernetesDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KubernetesDefaults")
    }
}

impl KubernetesDefaults {
    async fn read(
        &self,
        namespace: &str,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        let failed = |kind| BackendError::new(kind, BackendKind::Kubernetes, namespace, None);
        let read = KubernetesBackend::metadata(&self.0, namespace, path);
        match timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_| Err(failed(ErrorKind::Deadline)))
        {
            Ok(body) => source(&body)
                .map(Some)
                .ok_or_else(|| failed(ErrorKind::Protocol)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl DefaultsReader for KubernetesDefaults {
    async fn namespace(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        // Nothing but a DNS label reaches a URL.
        if !is_dns_label(name) {
            return Ok(None);
        }
        self.read(name, &format!("/api/v1/namespaces/{name}"), deadline)
            .await
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        // A service account's name is a DNS subdomain, as a Secret's is; one that is not does not exist.
        if !is_dns_label(namespace) || name.parse::<injection::SecretName>().is_err() {
            return Ok(None);
        }
        self.read(
            namespace,
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}"),
            deadline,
        )
        .await
    }
}

/// A `PartialObjectMetadata`; `None` when it is none.
fn source(body: &[u8]) -> Option<DefaultsObject> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        kind: CowStr<'a>,
        #[serde(borrow)]
        metadata: Metadata<'a>,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, default)]
        annotations: Option<std::collections::BTreeMap<CowStr<'a>, CowStr<'a>>>,
        #[serde(borrow, default)]
        labels: Option<std::collections::BTreeMap<CowStr<'a>, CowStr<'a>>>,
    }
    let object: Object<'_> = serde_json::from_slice(body).ok()?;
    if object.kind.as_str() != "PartialObjectMetadata" {
        return None;
    }
    let annotations = object.metadata.annotations.unwrap_or_default();
    let says = |map: &std::collections::BTreeMap<CowStr<'_>, CowStr<'_>>,
                key: &'static str,
                value: &str| {
        map.get(&CowStr::from(key))
            .is_some_and(|text| text.as_str() == value)
    };
    let label = object
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(&CowStr::from(ENABLED_LABEL.0)));
    let source = DefaultsObject {
        enforces_mountable_secrets: says(
            &annotations,
            "kubernetes.io/enforce-mountable-secrets",
            "true",
        ),
        // Nothing else of it counts, and nothing else is kept.
        annotations: Annotations::from_pairs(
            annotations
                .into_iter()
                .filter(|(key, _)| key.as_str().starts_with(PREFIX))
                .map(|(key, value)| {
                    let own = |text: CowStr<'_>| Cow::<'static, str>::Owned(text.0.into_owned());
                    (own(key), own(value))
                }),
        ),
        ..DefaultsObject::default()
    };
    Some(source.labelled(label.map(CowStr::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_a_source() {
        let body =
            br#"{"kind":"PartialObjectMetadata","metadata":{"name":"n","labels":{"secrets.floe.dev/inject":"enabled"},
            "annotations":{"secrets.floe.dev/env-from":"a","x":"y","kubernetes.io/enforce-mountable-secrets":"true",
            "reloader.stakater.com/auto":"true","kubernetes.io/config.mirror":"z"}}}"#;
        let source = source(body).unwrap();
        assert!(source.enabled && source.enforces_mountable_secrets);
        assert_eq!(source.label(), Some("enabled"));
        assert_eq!(
            source.annotations,
            Annotations::from_pairs([("secrets.floe.dev/env-from", "a")])
        );
    }

    #[test]
    fn a_label_of_another_value_is_kept_for_sentences() {
        let label = |labels: &str| {
            let json = format!(
                r#"{{"kind":"PartialObjectMetadata","metadata":{{"name":"n","labels":{labels}}}}}"#
            );
            let source = source(json.as_bytes()).unwrap();
            assert!(!source.enabled);
            source.label().map(str::to_owned)
        };
        assert_eq!(
            label(r#"{"secrets.floe.dev/inject":"Enabled"}"#).as_deref(),
            Some("Enabled")
        );
        assert_eq!(label(r#"{"a":"enabled"}"#), None);
        assert_eq!(label("null"), None);
    }

    #[test]
    fn what_is_no_metadata_is_no_source() {
        assert_eq!(source(br#"{"kind":"Secret","metadata":{}}"#), None);
        assert_eq!(source(b"<html>"), None);
    }
}
