//! Events about objects: one for each object and reason, which is updated when it is published again.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation};

/// Component that reports the events.
const COMPONENT: &str = "floe-secrets-controller";

/// Limit of a message in characters, set by the API server.
const MAX_MESSAGE_CHARS: usize = 1024;

/// Reference of an event to its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvolvedObject<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
}

/// Field `reason` of an event; it selects the event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventReason {
    /// The object runs without the secrets that it requests.
    SecretsNotInjected,
    /// The object's pods have their secrets, with warnings for the author.
    InjectionWarnings,
    /// The object's pods are refused until secrets exist.
    AwaitingSecrets,
    /// The awaited secrets exist now, and a retry was triggered.
    SecretsArrived,
}

impl EventReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::SecretsNotInjected => "SecretsNotInjected",
            Self::InjectionWarnings => "InjectionWarnings",
            Self::AwaitingSecrets => "AwaitingSecrets",
            Self::SecretsArrived => "SecretsArrived",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::SecretsNotInjected | Self::InjectionWarnings => "Warning",
            Self::AwaitingSecrets | Self::SecretsArrived => "Normal",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct EventRecorder {
    api: ObjectApi,
    clock: Clock,
}

impl EventRecorder {
    pub(crate) fn new(api: ObjectApi, clock: Clock) -> Self {
        Self { api, clock }
    }

    /// Publishes an event. If it exists, its count is increased.
    pub(crate) async fn publish(
        &self,
        about: &InvolvedObject<'_>,
        reason: EventReason,
        message: &str,
    ) -> Result<(), ApiError> {
        self.write(about, reason, message, true).await
    }

    /// Publishes an event unless it exists with the same message.
    pub(crate) async fn publish_once(
        &self,
        about: &InvolvedObject<'_>,
        reason: EventReason,
        message: &str,
    ) -> Result<(), ApiError> {
        self.write(about, reason, message, false).await
    }

    async fn write(
        &self,
        about: &InvolvedObject<'_>,
        reason: EventReason,
        message: &str,
        count_repeats: bool,
    ) -> Result<(), ApiError> {
        let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
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
                let existing = self
                    .api
                    .get(&path, Representation::Full)
                    .await?
                    .map(|body| ExistingEvent::read(&body))
                    .unwrap_or_default();
                if !count_repeats && existing.message == message {
                    return Ok(());
                }
                let change = json!({
                    "message": message, "lastTimestamp": now, "count": existing.count.saturating_add(1),
                });
                self.api.merge(&path, &change).await
            }
            result => result,
        }
    }

    /// Timestamp in seconds, in the format of `metav1.Time`.
    fn now(&self) -> String {
        self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// Name of an event: the same for each object and reason, in all replicas.
fn name(about: &InvolvedObject<'_>, reason: EventReason) -> String {
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
    reason: EventReason,
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
        "type": reason.event_type(),
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
    })
}

/// Fields of an event that already exists.
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
    fn name_of_event_is_valid_for_any_object_name() {
        let long = "a".repeat(179) + ".b";
        let about = InvolvedObject {
            api_version: "v1",
            kind: "Pod",
            namespace: "n",
            name: &long,
            uid: "1f-2e-3d",
        };
        let name = name(&about, EventReason::AwaitingSecrets);
        assert_eq!(name, format!("{}.1f2e3d.awaitingsecrets", "a".repeat(179)));
        assert!(name.len() <= 253);
    }
}
