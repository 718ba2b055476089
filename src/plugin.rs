//! Plugins in the sense of the floe spec: backends and identity providers, with what the admin API reports of each.

#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};

/// Version of the floe plugin API that all plugins follow.
pub const FLOE_API_VERSION: &str = "1.0";

/// Name and versions of a plugin: the properties of `PluginMetadata` of the floe spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginInfo {
    /// Lower-case letters, digits and hyphens.
    pub name: String,
    /// `X.Y.Z` of this program.
    pub version: &'static str,
    /// `X.Y` of the floe plugin API.
    pub floe_api_version: &'static str,
    /// One sentence for a person.
    pub description: &'static str,
}

impl PluginInfo {
    /// Describes a plugin that is compiled into this program.
    #[must_use]
    pub fn new(name: &str, description: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            floe_api_version: FLOE_API_VERSION,
            description,
        }
    }
}

/// Members that backends and identity providers share: `PluginMetadata` of the floe spec.
///
/// # Contract
/// - `metadata` has a name of lower-case letters, digits and hyphens, a version `X.Y.Z` and an API version `X.Y`.
/// - `health_check` returns within its timeout, and its message has no text that a remote side sent.
/// - `startup` and `shutdown` may be called more than once.
#[async_trait]
pub trait PluginMetadata: Send + Sync + 'static {
    /// Name and versions.
    fn metadata(&self) -> PluginInfo;

    /// JSON schema of the settings. `None` for a plugin without settings.
    fn config_schema(&self) -> Option<Value> {
        None
    }

    /// Checks whether the remote side responds.
    async fn health_check(&self, timeout: Duration) -> HealthStatus;

    /// Prepares what the first call would wait for otherwise, such as keys of an issuer.
    async fn startup(&self) {}

    /// Releases what `startup` prepared.
    async fn shutdown(&self) {}
}

/// Result of a health check: `HealthStatus` of the floe spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// State of the remote side.
    pub state: HealthState,
    /// Sentence for a person; never text that the remote side sent.
    pub message: String,
    /// Further facts by name, such as the age of keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl HealthStatus {
    /// Status without details.
    pub fn new(state: HealthState, message: impl Into<String>) -> Self {
        Self {
            state,
            message: message.into(),
            details: BTreeMap::new(),
        }
    }
}

/// State of a backend or of an identity provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// It responds.
    Healthy,
    /// It responds, but not to all requests.
    Degraded,
    /// It does not respond.
    Unhealthy,
}

/// Part of a container that reads all keys of a Secret: `generate_pod_env_spec` of the floe spec.
#[must_use]
pub fn pod_env_spec(name: &str) -> Value {
    json!({"envFrom": [{"secretRef": {"name": name}}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_env_spec_is_that_of_the_floe_spec() {
        assert_eq!(
            pod_env_spec("db").to_string(),
            r#"{"envFrom":[{"secretRef":{"name":"db"}}]}"#
        );
    }

    #[test]
    fn health_status_is_written_with_the_names_of_the_floe_spec() {
        let mut status = HealthStatus::new(HealthState::Degraded, "keys are 2 h old");
        let json = |status: &HealthStatus| serde_json::to_string(status).unwrap();
        assert_eq!(
            json(&status),
            r#"{"state":"degraded","message":"keys are 2 h old"}"#
        );
        status.details.insert("keys".to_owned(), "2".to_owned());
        assert!(json(&status).ends_with(r#""details":{"keys":"2"}}"#));
    }
}
