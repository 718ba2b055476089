//! Events about objects: one for each object and reason, which is written anew when it is said again.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};

/// Who says it.
const COMPONENT: &str = "floe-secrets-controller";

/// The API server's limit on a message.
const MESSAGE: usize = 1024;

/// An object, as an event refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvolvedObject<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
}

/// What is said: a reason for machines, and the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It runs without the secrets that it asks for.
    SecretsNotInjected,
    /// Its pods have their secrets, and their author should know more.
    InjectionWarnings,
    /// Its pods are refused until secrets exist.
    AwaitingSecrets,
    /// They exist now, and its controller was told.
    SecretsArrived,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::SecretsNotInjected => "SecretsNotInjected",
            Self::InjectionWarnings => "InjectionWarnings",
            Self::AwaitingSecrets => "AwaitingSecrets",
            Self::SecretsArrived => "SecretsArrived",
        }
    }

    fn level(self) -> &'static str {
        match self {
            Self::SecretsNotInjected | Self::InjectionWarnings => "Warning",
            Self::AwaitingSecrets | Self::SecretsArrived => "Normal",
        }
    }
}

/// Writes events.
#[derive(Clone, Debug)]
pub(crate) struct EventRecorder {
    api: ObjectApi,
    now: fn() -> jiff::Timestamp,
}

impl EventRecorder {
    pub(crate) fn new(api: ObjectApi, now: fn() -> jiff::Timestamp) -> Self {
        Self { api, now }
    }

    /// Says it; when it was said before, the event counts one more.
    pub(crate) async fn publish(
        &self,
        about: &InvolvedObject<'_>,
        reason: Reason,
        message: &str,
    ) -> Result<(), ApiError> {
        self.write(about, reason, message, true).await
    }

    /// Says it unless an event says the same.
    pub(crate) async fn publish_once(
        &self,
        about: &InvolvedObject<'_>,
        reason: Reason,
        message: &str,
    ) -> Result<(), ApiError> {
        self.write(about, reason, message, false).await
    }

    async fn write(
        &self,
        about: &InvolvedObject<'_>,
        reason: Reason,
        message: &str,
        again: bool,
    ) -> Result<(), ApiError> {
        let message: String = message.chars().take(MESSAGE).collect();
        let path = format!("/api/v1/namespaces/{}/events", about.namespace);
        let name = name(about, reason);
        let now = self.now();
        match self
            .api
            .create(&path, &event(about, reason, &message, &name, &now))
            .await
        {
            Err(error) if error.kind == ApiErrorKind::Conflict => {
                let path = format!("{path}/{name}");
                let before = self
                    .api
                    .get(&path, Representation::Full)
                    .await?
                    .map(|body| ExistingEvent::read(&body))
                    .unwrap_or_default();
                if !again && before.message == message {
                    return Ok(());
                }
                let change = json!({
                    "message": message, "lastTimestamp": now, "count": before.count.saturating_add(1),
                });
                self.api.merge(&path, &change).await
            }
            said => said,
        }
    }

    /// In seconds, as `metav1.Time` is written.
    fn now(&self) -> String {
        (self.now)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// One name for each object and reason: whichever replica says it, and how often.
fn name(about: &InvolvedObject<'_>, reason: Reason) -> String {
    let short: String = about.name.chars().take(180).collect();
    let short = short.trim_end_matches(['.', '-']);
    let uid: String = about
        .uid
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(16)
        .collect();
    format!("{short}.{uid}.{}", reason.as_str().to_ascii_lowercase())
}

fn event(
    about: &InvolvedObject<'_>,
    reason: Reason,
    message: &str,
    name: &str,
    now: &str,
) -> Value {
    let InvolvedObject {
        api_version,
        kind,
        namespace,
        name: object,
        uid,
    } = about;
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": api_version, "kind": kind, "namespace": namespace, "name": object, "uid": uid,
        },
        "reason": reason.as_str(),
        "message": message,
        "type": reason.level(),
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
    })
}

/// What an event says already.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ExistingEvent {
    message: String,
    count: i32,
}

impl ExistingEvent {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_an_event_whatever_the_object_is_called() {
        let long = "a".repeat(179) + ".b";
        let about = InvolvedObject {
            api_version: "v1",
            kind: "Pod",
            namespace: "n",
            name: &long,
            uid: "1f-2e-3d",
        };
        let name = name(&about, Reason::AwaitingSecrets);
        assert_eq!(name, format!("{}.1f2e3d.awaitingsecrets", "a".repeat(179)));
        assert!(name.len() <= 253);
    }
}
