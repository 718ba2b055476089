//! Namespaces and ServiceAccounts from the API server: metadata alone, one GET each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::object::{DefaultsObject, DefaultsReader};
use crate::backend::is_dns_label;
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::{BackendError, BackendKind, ErrorKind};
use injection::{Annotations, CowStr, ENABLED_LABEL, PREFIX};

/// Reads Namespaces and ServiceAccounts with the client of the backend.
pub struct KubernetesDefaults(pub kube::Client);

/// Written by hand: a client has no `Debug`, and it has credentials.
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
        let error_of = |kind| BackendError::new(kind, BackendKind::Kubernetes, namespace, None);
        let read = KubernetesBackend::metadata(&self.0, namespace, path);
        match timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_| Err(error_of(ErrorKind::Deadline)))
        {
            Ok(body) => decode(&body)
                .map(Some)
                .ok_or_else(|| error_of(ErrorKind::Protocol)),
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
        // Only a DNS label may be part of a URL.
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
        // The name of a service account is a DNS subdomain, like that of a Secret. An account with another name does
        // not exist.
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

/// Decodes a `PartialObjectMetadata`; `None` for other responses.
fn decode(body: &[u8]) -> Option<DefaultsObject> {
    #[derive(Deserialize)]
    struct DefaultsResponse<'a> {
        #[serde(borrow)]
        kind: CowStr<'a>,
        #[serde(borrow)]
        metadata: DefaultsMetadata<'a>,
    }
    #[derive(Deserialize)]
    struct DefaultsMetadata<'a> {
        #[serde(borrow, default)]
        annotations: Option<BTreeMap<CowStr<'a>, CowStr<'a>>>,
        #[serde(borrow, default)]
        labels: Option<BTreeMap<CowStr<'a>, CowStr<'a>>>,
    }
    let response: DefaultsResponse<'_> = serde_json::from_slice(body).ok()?;
    if response.kind.as_str() != "PartialObjectMetadata" {
        return None;
    }
    let annotations = response.metadata.annotations.unwrap_or_default();
    let has_value = |map: &BTreeMap<CowStr<'_>, CowStr<'_>>, key: &'static str, value: &str| {
        map.get(&CowStr::from(key))
            .is_some_and(|text| text.as_str() == value)
    };
    let label = response
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(&CowStr::from(ENABLED_LABEL.0)));
    let object = DefaultsObject {
        enforces_mountable_secrets: has_value(
            &annotations,
            "kubernetes.io/enforce-mountable-secrets",
            "true",
        ),
        // Other annotations are not needed, and are not kept.
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
    Some(object.with_label(label.map(CowStr::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_decoded() {
        let body =
            br#"{"kind":"PartialObjectMetadata","metadata":{"name":"n","labels":{"secrets.floe.dev/inject":"enabled"},
            "annotations":{"secrets.floe.dev/env-from":"a","x":"y","kubernetes.io/enforce-mountable-secrets":"true",
            "reloader.stakater.com/auto":"true","kubernetes.io/config.mirror":"z"}}}"#;
        let object = decode(body).unwrap();
        assert!(object.enabled && object.enforces_mountable_secrets);
        assert_eq!(object.label(), Some("enabled"));
        assert_eq!(
            object.annotations,
            Annotations::from_pairs([("secrets.floe.dev/env-from", "a")])
        );
    }

    #[test]
    fn label_with_another_value_is_kept() {
        let label = |labels: &str| {
            let json = format!(
                r#"{{"kind":"PartialObjectMetadata","metadata":{{"name":"n","labels":{labels}}}}}"#
            );
            let object = decode(json.as_bytes()).unwrap();
            assert!(!object.enabled);
            object.label().map(str::to_owned)
        };
        assert_eq!(
            label(r#"{"secrets.floe.dev/inject":"Enabled"}"#).as_deref(),
            Some("Enabled")
        );
        assert_eq!(label(r#"{"a":"enabled"}"#), None);
        assert_eq!(label("null"), None);
    }

    #[test]
    fn other_responses_are_rejected() {
        assert_eq!(decode(br#"{"kind":"Secret","metadata":{}}"#), None);
        assert_eq!(decode(b"<html>"), None);
    }
}
