//! Result of a check: its subject, status, message and fix.

use std::fmt;

use serde::Serialize;

/// Subject of a check. The names are part of the JSON output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckId {
    /// Version and clock of the API server.
    ApiServer,
    /// Permissions of the caller to read what is checked.
    CallerPermissions,
    /// Versions of the Deployments and of their pods.
    Versions,
    /// The webhook configuration.
    Configuration,
    /// Entries of the webhook configuration, with their paths and rules.
    Entries,
    /// The entries' matchConditions.
    Conditions,
    /// The entries' failurePolicy, timeout and selectors.
    Policies,
    /// CA of the entries, which the API server trusts.
    CaBundle,
    /// Serving certificate: its names and validity period.
    Certificate,
    /// Signature of the serving certificate by the CA.
    Trust,
    /// Status of cert-manager's Certificate.
    CertManager,
    /// The Service.
    Service,
    /// Endpoints of the Service.
    Endpoints,
    /// Callers that can send reviews to the port, and whether the webhook treats them as the API server.
    Callers,
    /// Replicas of the webhook.
    Deployment,
    /// Disruption budget, which keeps a drain from evicting all replicas at once.
    DisruptionBudget,
    /// Permissions of the webhook's ServiceAccount.
    WebhookPermissions,
    /// Replicas of the controller and its lease.
    Controller,
    /// Permissions of the controller's ServiceAccount.
    ControllerPermissions,
    /// Output of the audit trail, and the certificate of its collector.
    AuditTrail,
    /// Replica of `admin`, and the claim of its store.
    Admin,
    /// Store, lag of the replicas and last checkpoint, as `admin` reports them.
    AuditShipping,
    /// Permissions of the ServiceAccount of `admin`.
    AdminPermissions,
    /// Dry-run create of a pod, which shows whether the API server calls the webhook.
    Admission,
    /// Stakater Reloader.
    Reloader,
    /// The Infisical operator.
    InfisicalOperator,
    /// Pods and workloads that run without their secrets.
    Drift,
    /// The webhook's annotations and labels, or similar names, on objects where they have no effect.
    IneffectiveAnnotations,
}

/// Status of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Ok,
    /// It works, but needs attention.
    Warning,
    /// It does not work.
    Failure,
    /// The objects could not be read, or there are none.
    NotChecked,
}

/// One row of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub check: CheckId,
    pub status: Status,
    /// Observation, as a sentence.
    pub message: String,
    /// Command that fixes the problem, or that shows what has to be fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub fn ok(check: CheckId, message: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Ok,
            message: message.into(),
            fix: None,
        }
    }

    pub fn warning(check: CheckId, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Warning,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    pub fn failure(check: CheckId, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Failure,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    /// Check without a fix; `message` is the reason why nothing was checked.
    pub fn unchecked(check: CheckId, message: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::NotChecked,
            message: message.into(),
            fix: None,
        }
    }

    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Returns `problems`, or one row that is ok if there are none.
pub(super) fn or_ok(problems: Vec<Check>, id: CheckId, ok: impl FnOnce() -> String) -> Vec<Check> {
    if problems.is_empty() {
        vec![Check::ok(id, ok())]
    } else {
        problems
    }
}

/// The name in the JSON output.
impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "FAILURE",
            Self::NotChecked => "not checked",
        })
    }
}
