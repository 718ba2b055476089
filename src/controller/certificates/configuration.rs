//! The webhook configuration. The controller owns only its `caBundle` fields.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};
use crate::tls::Bundle;

/// Owner of the fields in `managedFields`: visible with `kubectl get --show-managed-fields`, and in conflicts.
const FIELD_MANAGER: &str = "floe-secrets-controller-certificates";

/// Client of one `MutatingWebhookConfiguration`.
#[derive(Clone, Debug)]
pub(super) struct WebhookConfiguration {
    api: ObjectApi,
    name: String,
}

/// CA bundles of a webhook configuration as read.
#[derive(Debug)]
pub(super) struct PublishedBundles {
    uid: String,
    /// Name and CA bundle of each entry.
    entries: Vec<(String, Bundle)>,
}

impl PublishedBundles {
    pub(super) fn bundles(&self) -> impl Iterator<Item = &Bundle> {
        self.entries.iter().map(|(_, trusted)| trusted)
    }

    /// Whether every entry trusts `bundle` and nothing else.
    pub(super) fn has_only(&self, bundle: &Bundle) -> bool {
        self.entries.iter().all(|(_, trusted)| trusted == bundle)
    }
}

#[derive(Deserialize)]
struct ConfigurationObject {
    metadata: ConfigurationMetadata,
    #[serde(default)]
    webhooks: Option<Vec<WebhookEntry>>,
}

#[derive(Deserialize)]
struct ConfigurationMetadata {
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebhookEntry {
    name: String,
    client_config: EntryClientConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryClientConfig {
    #[serde(default)]
    ca_bundle: Option<String>,
}

impl WebhookConfiguration {
    pub(super) fn new(api: ObjectApi, name: &str) -> Self {
        Self {
            api,
            name: name.to_owned(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
            self.name
        )
    }

    /// Reads the configuration; `None` if it does not exist.
    pub(super) async fn read(&self) -> Result<Option<PublishedBundles>, ApiError> {
        let Some(body) = self.api.get(&self.path(), Representation::Full).await? else {
            return Ok(None);
        };
        let ConfigurationObject {
            metadata: ConfigurationMetadata { uid },
            webhooks,
        } = crate::kubernetes::parse(&self.path(), &body)?;
        let entry = |WebhookEntry {
                         name,
                         client_config: EntryClientConfig { ca_bundle },
                     }| {
            let pem = STANDARD
                .decode(ca_bundle.unwrap_or_default())
                .unwrap_or_default();
            (name, Bundle::from_pem(&pem))
        };
        Ok(Some(PublishedBundles {
            uid,
            entries: webhooks
                .unwrap_or_default()
                .into_iter()
                .map(entry)
                .collect(),
        }))
    }

    /// Writes `bundle` into every entry of `current`, unless all of them have it.
    ///
    /// Uses server-side apply with the object's uid: a configuration that was deleted in the meantime is not created
    /// again, and an entry that was removed does not come back.
    pub(super) async fn publish(
        &self,
        current: &PublishedBundles,
        bundle: &Bundle,
    ) -> Result<(), ApiError> {
        if current.has_only(bundle) {
            return Ok(());
        }
        let trusted = STANDARD.encode(bundle.to_pem());
        let entry = |(name, _): &(String, Bundle)| json!({"name": name, "clientConfig": {"caBundle": trusted}});
        let entries: Vec<Value> = current.entries.iter().map(entry).collect();
        let desired = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name, "uid": current.uid},
            "webhooks": entries,
        });
        match self.api.apply(&self.path(), FIELD_MANAGER, &desired).await {
            // The configuration was deleted or replaced; the next reconciliation reads it again.
            Err(error) if error.kind == ApiErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
}
