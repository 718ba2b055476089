//! Warnings of planning: sentences for the author about an object that is admitted.

use std::fmt;

use crate::contract::plan_error::PlanError;
use crate::contract::request::AnnotationRef;
use crate::contract::secret_ref::{SecretId, SecretReference};
use crate::contract::sentence::{DidYouMean, quoted};
use crate::view::container_list::ContainerList;

/// A warning to the author. `Display` is a complete sentence. The variants are in the order of importance: the API
/// server returns only the first few warnings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A secret or key is missing, and the pod is admitted because of `on-missing: warn`.
    Missing(PlanError),
    /// A secret or key is missing. The workload is admitted; its pods are rejected until the secret or key exists.
    Awaited(PlanError),
    /// Entries were removed because no annotation requests them any more. Their author may have written them as well.
    EntriesRemoved {
        /// Place that they were in.
        from: RemovedFrom,
        /// First names of the entries.
        names: Vec<String>,
        /// Number of other entries.
        more: usize,
    },
    /// The author requests a restart that is not possible or would not happen.
    NoRestart(NoRestart),
    /// A default names a container that this pod does not have, or any annotation one that a template may get later.
    NoSuchContainer(PlanError),
    /// All containers of a template are sidecars: its pods are rejected unless another webhook adds a container.
    OnlySidecars(PlanError),
    /// No container is selected.
    NoContainer,
    /// The author sets the variable: it is not overridden.
    AlreadySet {
        /// Name of the variable.
        variable: String,
        /// Container that has it.
        container: String,
    },
    /// Variables of a default override keys in the container's own sources.
    OverridesSources {
        /// Name of the first variable.
        variable: String,
        /// Number of other variables.
        more: usize,
        /// Container that has the sources.
        container: String,
    },
    /// Two secrets of `env-from` have keys in common.
    SharedKeys {
        /// First common key.
        key: String,
        /// Number of other common keys.
        more: usize,
        /// Secret whose values are hidden.
        loser: SecretId,
        /// Secret whose values are used.
        winner: SecretId,
    },
    /// `name/*` refers to a secret without keys.
    NoKeys {
        /// Reference to all keys.
        reference: SecretReference,
        /// Annotation with the reference.
        site: AnnotationRef,
    },
    /// A glob matches no container.
    Unmatched {
        /// Text of the glob.
        pattern: String,
        /// List that the annotation selects from.
        list: ContainerList,
        /// Annotation with the glob.
        site: AnnotationRef,
    },
    /// The name of a secret does not follow the operator's convention.
    NameConvention(PlanError),
}

/// Place that entries were removed from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovedFrom {
    /// `envFrom` of a container.
    Sources {
        /// List that the container is in.
        list: ContainerList,
        /// Name of the container.
        container: String,
    },
    /// `env` of a container.
    Variables {
        /// List that the container is in.
        list: ContainerList,
        /// Name of the container.
        container: String,
    },
    /// Annotations of the pod template.
    Template,
    /// Entries of Reloader's named list.
    ReloaderList,
    /// Annotations of the workload's own metadata.
    Metadata,
}

impl fmt::Display for RemovedFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sources { list, container } => {
                write!(f, "envFrom of {list} \"{container}\"")
            }
            Self::Variables { list, container } => write!(f, "env of {list} \"{container}\""),
            Self::Template => f.write_str("the pod template's annotations"),
            Self::ReloaderList => f.write_str("annotation secret.reloader.stakater.com/reload"),
            Self::Metadata => f.write_str("the workload's annotations"),
        }
    }
}

/// Reason for a changed secret not to restart a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoRestart {
    /// The workload's own reload annotations opt out.
    OptedOut,
    /// The workload's own annotations select another mechanism.
    OtherMechanism,
    /// `reloader.stakater.com/auto` and `search` ignore secrets that are injected into pods.
    NotWatched,
    /// The Infisical operator does not restart this kind.
    NotThisKind,
    /// The Infisical operator marks workloads by an annotation that has the secret's name in its own, which is limited.
    NameTooLong,
    /// The reload annotations are longer than the limit.
    TooLong,
}

impl fmt::Display for NoRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::OptedOut => {
                "the workload's own annotations for its restart program opt out, so a changed secret will not restart it"
            }
            Self::OtherMechanism => {
                "the workload's own annotations already name another way to restart it; secrets.floe.dev/reload was not followed"
            }
            Self::NotWatched => {
                "reloader.stakater.com/auto and search see no injected secret; set secrets.floe.dev/reload: reloader to restart when one changes"
            }
            Self::NotThisKind => {
                "the Infisical operator does not restart this kind of workload; use secrets.floe.dev/reload: reloader"
            }
            Self::NameTooLong => {
                "the Infisical operator restarts nothing for a secret whose name is longer than 48 characters; use secrets.floe.dev/reload: reloader"
            }
            Self::TooLong => {
                "the annotations for Reloader are longer than 65536 bytes together; they were left as they are, and secrets.floe.dev/reload was not followed"
            }
        };
        f.write_str(why)
    }
}

fn fmt_taken_back(
    f: &mut fmt::Formatter<'_>,
    from: &RemovedFrom,
    names: &[String],
    more: usize,
) -> fmt::Result {
    let (them, were) = if names.len() + more == 1 {
        ("it", "was")
    } else {
        ("them", "were")
    };
    write!(f, "{}", quoted(names))?;
    if more > 0 {
        write!(f, " and {more} more")?;
    }
    write!(
        f,
        " {were} removed from {from}: no annotation asks for {them} any more. If you wrote {them} yourself, write {them} again"
    )
}

/// Warning about a pod that is admitted although a secret or key is missing.
fn fmt_missing(f: &mut fmt::Formatter<'_>, error: &PlanError) -> fmt::Result {
    match error {
        PlanError::MissingSecret {
            secret, namespace, ..
        } => write!(
            f,
            "secret \"{secret}\" not found in namespace \"{namespace}\"; the pod waits until it exists"
        ),
        PlanError::MissingKey {
            secret,
            key,
            namespace,
            ..
        } => write!(
            f,
            "secret \"{secret}\" in namespace \"{namespace}\" has no key \"{key}\"; the pod waits until it has"
        ),
        error => fmt::Display::fmt(error, f),
    }
}

/// Warning about the name of a secret.
fn fmt_name_convention(f: &mut fmt::Formatter<'_>, error: &PlanError) -> fmt::Result {
    match error {
        PlanError::NameConvention {
            secret, pattern, ..
        } => write!(
            f,
            "the name of secret \"{secret}\" does not follow the naming convention \"{pattern}\""
        ),
        error => fmt::Display::fmt(error, f),
    }
}

/// Warning about a workload whose pods are rejected until a secret or key exists.
fn fmt_awaited(f: &mut fmt::Formatter<'_>, error: &PlanError) -> fmt::Result {
    match error {
        PlanError::MissingSecret {
            secret,
            namespace,
            near,
            ..
        } => write!(
            f,
            "secret \"{secret}\" not found in namespace \"{namespace}\"; pods are refused until it exists.{}",
            DidYouMean(near.as_deref())
        ),
        PlanError::MissingKey {
            secret,
            key,
            namespace,
            near,
            ..
        } => write!(
            f,
            "secret \"{secret}\" in namespace \"{namespace}\" has no key \"{key}\"; pods are refused until it has.{}",
            DidYouMean(near.as_deref())
        ),
        error => fmt::Display::fmt(error, f),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRestart(why) => why.fmt(f),
            Self::EntriesRemoved { from, names, more } => fmt_taken_back(f, from, names, *more),
            Self::Missing(error) => fmt_missing(f, error),
            Self::Awaited(error) => fmt_awaited(f, error),
            Self::NameConvention(error) => fmt_name_convention(f, error),
            Self::NoSuchContainer(error) | Self::OnlySidecars(error) => error.fmt(f),
            Self::NoContainer => f.write_str("no container is selected, so no secret was injected"),
            Self::AlreadySet {
                variable,
                container,
            } => {
                write!(
                    f,
                    "container \"{container}\" already sets {variable}; it was left as it is"
                )
            }
            Self::OverridesSources {
                variable,
                more,
                container,
            } => {
                write!(f, "container \"{container}\" gets {variable}")?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                f.write_str(" from a default; a key of that name in its own envFrom is overridden")
            }
            Self::SharedKeys {
                key,
                more,
                loser,
                winner,
            } => {
                write!(
                    f,
                    "secrets \"{loser}\" and \"{winner}\" both have the key {key}"
                )?;
                match more {
                    0 => {}
                    1 => f.write_str(" and 1 more")?,
                    more => write!(f, " and {more} more")?,
                }
                write!(f, "; the value of \"{winner}\" counts")
            }
            Self::NoKeys { reference, site } => {
                write!(
                    f,
                    "\"{reference}\" ({site}) brings in nothing: the secret has no keys"
                )
            }
            Self::Unmatched {
                pattern,
                list,
                site,
            } => write!(f, "\"{pattern}\" ({site}) matches no {list}"),
        }
    }
}
