//! What the doctor has to say about one thing.

use std::fmt;

use serde::Serialize;

/// What is looked at. The words are part of what programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    /// The API server's version, and that it answers.
    ApiServer,
    /// What whoever asks may look at.
    CallerPermissions,
    /// The versions of what runs.
    Versions,
    /// The webhook configuration.
    Configuration,
    /// Its entries, with their paths and rules.
    Entries,
    /// Their matchConditions.
    Conditions,
    /// Their failurePolicy, timeout, selectors.
    Policies,
    /// The CA that the API server is told to trust.
    CaBundle,
    /// The serving certificate: its names and its time.
    Certificate,
    /// Whether the one has signed the other.
    Trust,
    /// cert-manager's word on the certificate.
    CertManager,
    /// The Service.
    Service,
    /// What it leads to.
    Endpoints,
    /// Who can send reviews to the port, and whether the webhook takes them for the API server.
    Callers,
    /// The replicas.
    Deployment,
    /// What protects them from being drained all at once.
    DisruptionBudget,
    /// The webhook's own rights.
    WebhookPermissions,
    /// The controller and its lease.
    Controller,
    /// The controller's rights.
    ControllerPermissions,
    /// Whether a pod is really asked about.
    Admission,
    /// Stakater Reloader.
    Reloader,
    /// The Infisical operator.
    InfisicalOperator,
    /// What runs without its secrets.
    Drift,
    /// Annotations and labels of ours, or nearly ours, that have no effect where they stand.
    IneffectiveAnnotations,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Failure,
    /// It could not be looked at, or there was nothing to look at.
    NotChecked,
}

/// One finding, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// About what.
    pub check: Id,
    /// How it stands.
    pub status: Status,
    /// Observation, as a sentence.
    pub message: String,
    /// Command that fixes it, or that shows what has to be fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(check: Id, message: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Ok,
            message: message.into(),
            fix: None,
        }
    }

    /// It works, but.
    pub fn warning(check: Id, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Warning,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    /// It does not work.
    pub fn failure(check: Id, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Failure,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    /// Nobody knows.
    pub fn unchecked(check: Id, message: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::NotChecked,
            message: message.into(),
            fix: None,
        }
    }

    /// The same with what helps.
    #[must_use]
    pub fn with(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// The findings about one thing, or one row that says that there are none.
pub(super) fn or_ok(found: Vec<Check>, id: Id, ok: impl FnOnce() -> String) -> Vec<Check> {
    if found.is_empty() {
        vec![Check::ok(id, ok())]
    } else {
        found
    }
}

/// As in JSON.
impl fmt::Display for Id {
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
