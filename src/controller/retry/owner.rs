//! Owners of refused pods: kind, identity, and API path.

use crate::backend::is_dns_label;
use injection::SecretName;

/// Kinds whose built-in controllers create pods and retry refused ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OwnerKind {
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
}

impl OwnerKind {
    pub(super) fn parse(kind: &str) -> Option<Self> {
        [
            Self::ReplicaSet,
            Self::StatefulSet,
            Self::DaemonSet,
            Self::Job,
        ]
        .into_iter()
        .find(|candidate| candidate.as_str() == kind)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// Event source of the built-in controller.
    pub(super) fn controller(self) -> &'static str {
        match self {
            Self::ReplicaSet => "replicaset-controller",
            Self::StatefulSet => "statefulset-controller",
            Self::DaemonSet => "daemonset-controller",
            Self::Job => "job-controller",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::ReplicaSet | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::Job => "batch/v1",
        }
    }
}

/// One owner. Only the uid distinguishes it from an earlier owner of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub uid: String,
    pub kind: OwnerKind,
    pub namespace: String,
    pub name: String,
}

impl Owner {
    pub(super) fn path(&self) -> String {
        let (version, plural) = (
            self.kind.api_version(),
            self.kind.as_str().to_ascii_lowercase(),
        );
        format!(
            "/apis/{version}/namespaces/{}/{plural}s/{}",
            self.namespace, self.name
        )
    }

    /// Whether the names are valid in a URL path. They come from events, which anybody may write.
    pub(super) fn has_valid_names(&self) -> bool {
        is_dns_label(&self.namespace)
            && self.name.parse::<SecretName>().is_ok()
            && !self.uid.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: OwnerKind) -> Owner {
        Owner {
            uid: "u".to_owned(),
            kind,
            namespace: "jobs".to_owned(),
            name: "load".to_owned(),
        }
    }

    #[test]
    fn owner_path_is_an_api_path() {
        assert_eq!(
            owner(OwnerKind::Job).path(),
            "/apis/batch/v1/namespaces/jobs/jobs/load"
        );
        assert_eq!(
            owner(OwnerKind::ReplicaSet).path(),
            "/apis/apps/v1/namespaces/jobs/replicasets/load"
        );
        let forged = Owner {
            name: "../secrets/x".to_owned(),
            ..owner(OwnerKind::Job)
        };
        assert!(!forged.has_valid_names() && owner(OwnerKind::Job).has_valid_names());
    }
}
