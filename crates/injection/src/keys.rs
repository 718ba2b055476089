//! Names of annotations and labels: ours, and those of the programs that restart workloads.

/// The prefix of every annotation of the contract.
pub const PREFIX: &str = "secrets.floe.dev/";

/// The label on what was injected and, as an annotation's name after the prefix, the record of what was added.
pub const INJECTED: &str = "secrets.floe.dev/injected";

/// The annotation of a pod template by which its pods inherit from the metadata around it; ours alone.
pub const INHERITED: &str = "secrets.floe.dev/inherited";

/// Its name after the prefix.
pub(crate) const INHERITED_KEY: &str = "inherited";

/// The label by which an operator lets defaults apply in a namespace, and its value.
pub const ENABLED_LABEL: (&str, &str) = ("secrets.floe.dev/inject", "enabled");

/// The record's name after the prefix.
pub(crate) const RECORD_KEY: &str = "injected";

/// The domain of Reloader's annotations; subdomains are its too.
pub(crate) const RELOADER_DOMAIN: &str = "reloader.stakater.com";

/// The Infisical operator's.
pub(crate) const INFISICAL: &str = "secrets.infisical.com/auto-reload";

/// The named list by which Reloader restarts a workload.
pub(crate) const RELOADER_LIST: &str = "secret.reloader.stakater.com/reload";
