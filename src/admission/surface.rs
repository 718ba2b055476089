//! Entries of the webhook configuration.

use crate::defaults::DefaultsObject;

/// Entry that sent a review. Each entry has a path of its own, so that its rules need not be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Pods in namespaces without the label: only their own annotations apply.
    Pods,
    /// Pods in labelled namespaces: defaults of the ServiceAccount and the Namespace apply, too.
    DefaultsPods,
    /// Objects with a pod template, in namespaces without the label.
    Workloads,
    /// Objects with a pod template, in labelled namespaces.
    DefaultsWorkloads,
    /// Namespaces and ServiceAccounts, whose annotations are defaults.
    Sources,
}

impl Surface {
    /// Entry that receives the pods of a namespace; `None` if the namespace does not exist.
    #[must_use]
    pub fn of_pods_in(namespace: Option<&DefaultsObject>) -> Self {
        if namespace.is_some_and(|namespace| namespace.enabled) {
            Self::DefaultsPods
        } else {
            Self::Pods
        }
    }

    /// Value of the label `surface` in metrics, and of the field in logs and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::DefaultsPods => "defaults.pods",
            Self::Workloads => "workloads",
            Self::DefaultsWorkloads => "defaults.workloads",
            Self::Sources => "sources",
        }
    }

    /// Whether defaults apply to the objects of this entry.
    #[must_use]
    pub fn applies_defaults(self) -> bool {
        match self {
            Self::DefaultsPods | Self::DefaultsWorkloads => true,
            Self::Pods | Self::Workloads | Self::Sources => false,
        }
    }
}
