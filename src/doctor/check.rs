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
    YourRights,
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
    WebhookRights,
    /// The controller and its lease.
    Controller,
    /// The controller's rights.
    ControllerRights,
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
    /// What was seen: a sentence.
    pub seen: String,
    /// The command that mends it, or that shows what is to be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(check: Id, seen: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, seen: seen.into(), mend: None }
    }

    /// It works, but.
    pub fn warning(check: Id, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Status::Warning, seen: seen.into(), mend: Some(mend.into()) }
    }

    /// It does not work.
    pub fn failure(check: Id, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Status::Failure, seen: seen.into(), mend: Some(mend.into()) }
    }

    /// Nobody knows.
    pub fn unchecked(check: Id, seen: impl Into<String>) -> Self {
        Self { check, status: Status::NotChecked, seen: seen.into(), mend: None }
    }

    /// The same with what helps.
    #[must_use]
    pub fn with(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

/// The findings about one thing, or one row that says that there are none.
pub(super) fn or_ok(found: Vec<Check>, id: Id, ok: impl FnOnce() -> String) -> Vec<Check> {
    if found.is_empty() { vec![Check::ok(id, ok())] } else { found }
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
