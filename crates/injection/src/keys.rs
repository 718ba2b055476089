//! Names of annotations and labels: the webhook's own, and those of programs that restart workloads.

/// Prefix of every annotation of the contract.
pub const PREFIX: &str = "secrets.floe.dev/";

/// Label of objects that were injected into. The annotation of the same name is the record of what was added.
pub const INJECTED: &str = "secrets.floe.dev/injected";

/// Annotation of a pod template by which its pods inherit from the metadata around it. Written by the webhook alone.
pub const INHERITED: &str = "secrets.floe.dev/inherited";

/// [`INHERITED`] without the prefix.
pub(crate) const INHERITED_KEY: &str = "inherited";

/// Label, and its value, by which an operator lets defaults apply in a namespace.
pub const ENABLED_LABEL: (&str, &str) = ("secrets.floe.dev/inject", "enabled");

/// [`INJECTED`] without the prefix.
pub(crate) const RECORD_KEY: &str = "injected";

/// Annotation by which the kubelet marks the API object of a static pod.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Annotation of a pod with the uid of its admission, by which it is found in the audit trail.
pub const EVENT_ANNOTATION: &str = "audit.floe.dev/event";

/// Domain of Reloader's annotations; its subdomains are used as well.
pub(crate) const RELOADER_DOMAIN: &str = "reloader.stakater.com";

/// Annotation by which the Infisical operator restarts a workload.
pub(crate) const INFISICAL: &str = "secrets.infisical.com/auto-reload";

/// Annotation with the named list by which Reloader restarts a workload.
pub(crate) const RELOADER_LIST: &str = "secret.reloader.stakater.com/reload";
