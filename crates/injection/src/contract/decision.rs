//! Results of reading the contract: a request, a reason to skip, or invalid annotations.

use crate::contract::request::{AnnotationRef, InjectionRequest};

/// Result of parsing valid annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is injected.
    Skip(SkipReason),
    /// Secrets are requested.
    Inject(Box<InjectionRequest>),
}

/// An invalid annotation, as a sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{site}: {problem}")]
pub struct InvalidAnnotation {
    /// The annotation, and the object that has it.
    pub site: AnnotationRef,
    /// The problem, and what would be valid.
    pub problem: String,
    /// Whether the value is well formed and requests something that this webhook does not support.
    pub unsupported: bool,
}

/// Reason for a review to end without a plan and without an error. Metric label, audit annotation and log use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// No annotation requests a secret.
    NotRequested,
    /// `inject: "false"`.
    OptedOut,
    /// All requested entries exist.
    AlreadyInjected,
    /// The surface does not handle the operation.
    NotThisOperation,
    /// The surface does not handle the kind.
    NotThisKind,
    /// The namespace is the webhook's own, or one of the cluster's.
    ExemptNamespace,
    /// The API object of a static pod: it may not refer to Secrets.
    MirrorPod,
    /// An update that does not change annotations of the contract.
    Unchanged,
    /// The object is being deleted.
    BeingDeleted,
}

impl SkipReason {
    /// Value of the metric label and of the audit annotation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRequested => "not_requested",
            Self::OptedOut => "opted_out",
            Self::AlreadyInjected => "already_injected",
            Self::NotThisOperation => "not_this_operation",
            Self::NotThisKind => "not_this_kind",
            Self::ExemptNamespace => "exempt_namespace",
            Self::MirrorPod => "mirror_pod",
            Self::Unchanged => "unchanged",
            Self::BeingDeleted => "being_deleted",
        }
    }
}
