//! The webhook configuration, of which the controller owns the `caBundle`s and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};
use crate::tls::Bundle;

/// Whose the field is, for `kubectl get --show-managed-fields` and for conflicts.
const FIELD_MANAGER: &str = "floe-secrets-controller-certificates";

/// One `MutatingWebhookConfiguration`.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    api: ObjectApi,
    name: String,
}

/// How it stands.
#[derive(Debug)]
pub(super) struct Standing {
    uid: String,
    /// Entries and what each trusts.
    entries: Vec<(String, Bundle)>,
}

impl Standing {
    /// Every CA that some entry trusts.
    pub(super) fn trusted(&self) -> impl Iterator<Item = &Bundle> {
        self.entries.iter().map(|(_, trusted)| trusted)
    }

    /// Whether every entry trusts just this.
    pub(super) fn shows(&self, bundle: &Bundle) -> bool {
        self.entries.iter().all(|(_, trusted)| trusted == bundle)
    }
}

impl Configuration {
    pub(super) fn new(api: ObjectApi, name: &str) -> Self {
        Self {
            api,
            name: name.to_owned(),
        }
    }

    fn path(&self) -> String {
        format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
            self.name
        )
    }

    /// Reads it; `None` when there is none.
    pub(super) async fn read(&self) -> Result<Option<Standing>, ApiError> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
            #[serde(default)]
            webhooks: Option<Vec<Webhook>>,
        }
        #[derive(Deserialize)]
        struct Metadata {
            uid: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Webhook {
            name: String,
            client_config: ClientConfig,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ClientConfig {
            #[serde(default)]
            ca_bundle: Option<String>,
        }
        let Some(body) = self.api.get(&self.path(), Representation::Full).await? else {
            return Ok(None);
        };
        let Object {
            metadata: Metadata { uid },
            webhooks,
        } = crate::kubernetes::parse(&self.path(), &body)?;
        let entry = |Webhook {
                         name,
                         client_config: ClientConfig { ca_bundle },
                     }| {
            let pem = STANDARD
                .decode(ca_bundle.unwrap_or_default())
                .unwrap_or_default();
            (name, Bundle::from_pem(&pem))
        };
        Ok(Some(Standing {
            uid,
            entries: webhooks
                .unwrap_or_default()
                .into_iter()
                .map(entry)
                .collect(),
        }))
    }

    /// Makes every entry that stands there trust `bundle`, unless it does already.
    ///
    /// By server-side apply with the object's uid: a configuration that went away in the meantime is not made again,
    /// and an entry that somebody took out comes back neither.
    pub(super) async fn publish(
        &self,
        standing: &Standing,
        bundle: &Bundle,
    ) -> Result<(), ApiError> {
        if standing.shows(bundle) {
            return Ok(());
        }
        let trusted = STANDARD.encode(bundle.to_pem());
        let entry = |(name, _): &(String, Bundle)| json!({"name": name, "clientConfig": {"caBundle": trusted}});
        let entries: Vec<Value> = standing.entries.iter().map(entry).collect();
        let wanted = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name, "uid": standing.uid},
            "webhooks": entries,
        });
        match self.api.apply(&self.path(), FIELD_MANAGER, &wanted).await {
            // It is another object now, or none: the next look tells.
            Err(error) if error.kind == ApiErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
}
