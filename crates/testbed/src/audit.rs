//! Audit log of the API server: requests by user.

use serde_json::{Value, json};

use super::control_plane::Options;
use super::process::Folder;

/// Audit log of every request, metadata only.
pub struct AuditLog {
    folder: Folder,
}

/// Request in the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    pub verb: String,
    /// Resource and its API group, as in `leases.coordination.k8s.io`; with a subresource after a slash.
    pub resource: String,
    /// Name of the object; empty if the request has none.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// HTTP status of the response; 0 while a watch is open.
    pub code: u64,
    /// Time of arrival.
    pub at: jiff::Timestamp,
}

impl AuditLog {
    pub fn new() -> Self {
        Self::with_rules(&json!([{"level": "Metadata"}]))
    }

    /// Log that also has the responses about Secrets.
    pub fn with_secrets() -> Self {
        let secrets = json!({"group": "", "resources": ["secrets"]});
        Self::with_rules(&json!([
            {"level": "RequestResponse", "verbs": ["get", "list", "watch"], "resources": [secrets]},
            {"level": "Metadata"},
        ]))
    }

    fn with_rules(rules: &Value) -> Self {
        let folder = Folder::new();
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
            "omitStages": ["RequestReceived"], "rules": rules,
        });
        folder.write("policy.yaml", policy.to_string());
        Self { folder }
    }

    /// Options of a control plane that writes this log.
    pub fn options(&self, controller_manager: bool) -> Options {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let apiserver_flags = vec![
            format!("--audit-policy-file={}", path("policy.yaml")),
            format!("--audit-log-path={}", path("log")),
        ];
        Options {
            controller_manager,
            apiserver_flags,
        }
    }

    /// Responses about Secrets to this user so far, of a log [`Self::with_secrets`].
    pub fn secret_responses(&self, username: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["user"]["username"] == username)
            .filter(|line| line["objectRef"]["resource"] == "secrets")
            .map(|mut line| line["responseObject"].take())
            .collect()
    }

    /// Requests of this user so far, in the order of the responses. A watch counts when it is opened.
    pub fn requests_by(&self, username: &str) -> Vec<AuditEvent> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // The last line may be incomplete.
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_user = lines.filter(|line| line["user"]["username"] == username);
        let started =
            of_user.filter(|line| line["verb"] != "watch" || line["stage"] == "ResponseStarted");
        started
            .filter(|line| line["objectRef"]["resource"].is_string())
            .map(|line| event(&line))
            .collect()
    }
}

fn event(line: &Value) -> AuditEvent {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object_ref = &line["objectRef"];
    let dotted = |value: &Value, mark: &str| {
        value
            .as_str()
            .map(|text| format!("{mark}{text}"))
            .unwrap_or_default()
    };
    AuditEvent {
        verb: text(&line["verb"]),
        resource: text(&object_ref["resource"])
            + &dotted(&object_ref["apiGroup"], ".")
            + &dotted(&object_ref["subresource"], "/"),
        name: text(&object_ref["name"]),
        uri: text(&line["requestURI"]),
        code: line["responseStatus"]["code"].as_u64().unwrap_or_default(),
        at: text(&line["requestReceivedTimestamp"])
            .parse()
            .expect("a time"),
    }
}
