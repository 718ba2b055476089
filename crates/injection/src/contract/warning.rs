//! Warnings of planning: sentences for the author about an object that is admitted.

use std::fmt;

use crate::contract::plan_error::PlanError;
use crate::contract::request::AnnotationRef;
use crate::contract::secret_ref::{SecretId, SecretReference};
use crate::contract::sentence::{DidYouMean, quoted};
use crate::view::container_list::ContainerList;

/// Something that the author should know, and that refuses nothing. The order of the variants is that of
/// importance: only the first few warnings reach a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A secret or key is missing, and `on-missing: warn` admits the pod all the same.
    Missing(PlanError),
    /// A secret or key is missing, and the workload is admitted all the same: its pods will not be, until it exists.
    Awaited(PlanError),
    /// Entries were taken back because no annotation asks for them any more, and their author may have written them too.
    TakenBack {
        /// Where they stood.
        from: RemovedFrom,
        /// The first of them.
        names: Vec<String>,
        /// How many more.
        more: usize,
    },
    /// The author asks for a restart that cannot be had, or that would not come.
    NoRestart(NoRestart),
    /// A container is named that this pod does not have, by a default, or in a template that may get it later.
    NoSuchContainer(PlanError),
    /// All containers of a template are sidecars, and its pods will be refused unless another webhook adds one.
    OnlySidecars(PlanError),
    /// No container was left to inject into.
    NoContainer,
    /// The author had set the variable already.
    LeftAlone {
        /// The variable.
        variable: String,
        /// Where.
        container: String,
    },
    /// A default's variables come to a container with sources of its own, which they override.
    OverSources {
        /// The first of them.
        variable: String,
        /// How many more.
        more: usize,
        /// Where.
        container: String,
    },
    /// Two secrets brought in whole have keys in common.
    SharedKeys {
        /// The first of them.
        key: String,
        /// How many more.
        more: usize,
        /// Whose value is hidden.
        loser: SecretId,
        /// Whose value counts.
        winner: SecretId,
    },
    /// `name/*` of a secret without keys.
    NothingToExpand {
        /// The reference.
        reference: SecretReference,
        /// Who asked for it.
        site: AnnotationRef,
    },
    /// A glob that matches no container.
    Unmatched {
        /// The glob.
        pattern: String,
        /// Which list was meant.
        list: ContainerList,
        /// Whose it is.
        site: AnnotationRef,
    },
}

/// Where entries stood that were taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovedFrom {
    /// Secrets that a container got whole.
    Sources {
        /// The container's list.
        list: ContainerList,
        /// The container.
        container: String,
    },
    /// Variables of a container.
    Variables {
        /// The container's list.
        list: ContainerList,
        /// The container.
        container: String,
    },
    /// Annotations of the pod template.
    Template,
    /// Entries of Reloader's named list.
    ReloaderList,
    /// Annotations of the workload itself.
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

/// Why a changed secret will not restart a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoRestart {
    /// The workload's Reloader annotations say no.
    OptedOut,
    /// Another mechanism is in charge already.
    OtherMechanism,
    /// `reloader.stakater.com/auto` or `search` does not see secrets that come in at the pod.
    Unseen,
    /// The Infisical operator does not know this kind.
    NotThisKind,
    /// The Infisical operator marks a workload by an annotation with the secret's name in its own.
    NameTooLong,
    /// The annotations for Reloader are longer than is read.
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
            Self::Unseen => {
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

/// Warning about a workload whose pods are refused until a secret or key exists.
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
            DidYouMean(near)
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
            DidYouMean(near)
        ),
        error => fmt::Display::fmt(error, f),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRestart(why) => why.fmt(f),
            Self::TakenBack { from, names, more } => fmt_taken_back(f, from, names, *more),
            Self::Missing(error) => fmt_missing(f, error),
            Self::Awaited(error) => fmt_awaited(f, error),
            Self::NoSuchContainer(error) | Self::OnlySidecars(error) => error.fmt(f),
            Self::NoContainer => f.write_str("no container is selected, so no secret was injected"),
            Self::LeftAlone {
                variable,
                container,
            } => {
                write!(
                    f,
                    "container \"{container}\" already sets {variable}; it was left as it is"
                )
            }
            Self::OverSources {
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
            Self::NothingToExpand { reference, site } => {
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
