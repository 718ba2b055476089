//! ClusterRoles of the chart for callers of the admin API.

/// ClusterRole of the chart, named by its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdminRole {
    /// Reads names and metadata of secrets, and their consumers.
    Viewer,
    /// Also writes secrets.
    Editor,
    /// Reads the audit trail.
    Auditor,
    /// Reads values. It is never part of another role.
    Revealer,
    /// Reads and changes what is of the installation, and creates clients at issuers.
    Platform,
}

impl AdminRole {
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Editor,
        Self::Auditor,
        Self::Revealer,
        Self::Platform,
    ];

    /// Suffix of the ClusterRole's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Auditor => "auditor",
            Self::Revealer => "revealer",
            Self::Platform => "platform",
        }
    }

    /// Role of Kubernetes that gets the rules if the operator aggregates them.
    #[must_use]
    pub fn aggregate_to(self) -> Option<&'static str> {
        match self {
            Self::Viewer => Some("view"),
            Self::Editor => Some("edit"),
            Self::Auditor | Self::Revealer | Self::Platform => None,
        }
    }
}
