//! What stands against a plan, and what has to be said beside it: sentences for the pod's author.

use std::fmt;

use crate::contract::request::AnnotationRef;
use crate::contract::secret_ref::{SecretId, SecretKey, SecretReference};
use crate::keys::PREFIX;
use crate::limits::MAX_CONTAINER_NAME;
use crate::view::container_list::ContainerList;

/// Why no plan can be made. `Display` is a whole sentence: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanError {
    /// The backend has no such secret there.
    MissingSecret {
        /// The secret.
        secret: SecretId,
        /// Where it was looked for.
        namespace: String,
        /// Who was asked.
        backend: &'static str,
        /// A like name seen there.
        near: Option<String>,
        /// Who asked for it.
        site: AnnotationRef,
    },
    /// The secret has no such key.
    MissingKey {
        /// The secret.
        secret: SecretId,
        /// The key.
        key: SecretKey,
        /// Where the secret is.
        namespace: String,
        /// A like key of this secret.
        near: Option<String>,
        /// The reference named no key, and so meant this one.
        by_default: bool,
        /// Who asked for it.
        site: AnnotationRef,
    },
    /// Two references that differ give one variable.
    Collision {
        /// The variable.
        variable: String,
        /// One reference and who asked for it.
        one: String,
        /// The other.
        other: String,
        /// Who asked for the other.
        site: AnnotationRef,
    },
    /// Containers are named that the pod does not have.
    NoSuchContainer {
        /// The names.
        names: Vec<String>,
        /// Which list was meant.
        list: ContainerList,
        /// Names in that list, the first few.
        known: Vec<String>,
        /// How many more it has.
        more: usize,
        /// Those of the names that stand in the other list.
        in_other_list: Vec<String>,
        /// Who named them.
        site: AnnotationRef,
    },
    /// All containers are on the operator's list of sidecars, and no annotation names one.
    OnlySidecars {
        /// Their names, the first few.
        names: Vec<String>,
        /// How many more there are.
        more: usize,
        /// The first annotation that asks for anything.
        site: AnnotationRef,
    },
    /// A container's name that no API server takes.
    ContainerName {
        /// Its beginning.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The first annotation that asks for anything.
        site: AnnotationRef,
    },
    /// More entries than any API server would store.
    TooMany {
        /// How many are too many.
        limit: usize,
        /// Who asked for them, or for the first of them.
        site: AnnotationRef,
    },
    /// A patch that would be too long.
    PatchTooLarge {
        /// How many bytes are too many.
        limit: usize,
        /// The first annotation that asks for anything.
        site: AnnotationRef,
    },
    /// `name/*` cannot be expanded, because nobody was asked for the keys.
    UnknownKeys {
        /// The reference.
        reference: SecretReference,
        /// Who asked for it.
        site: AnnotationRef,
    },
}

impl PlanError {
    /// The annotation that asked for what cannot be had.
    #[must_use]
    pub fn site(&self) -> &AnnotationRef {
        match self {
            Self::MissingSecret { site, .. }
            | Self::MissingKey { site, .. }
            | Self::Collision { site, .. }
            | Self::NoSuchContainer { site, .. }
            | Self::OnlySidecars { site, .. }
            | Self::ContainerName { site, .. }
            | Self::PatchTooLarge { site, .. }
            | Self::TooMany { site, .. }
            | Self::UnknownKeys { site, .. } => site,
        }
    }
}

/// `"a", "b"`.
fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Where a container belongs that was looked for in `list`, and stands in the other one.
fn in_other(list: ContainerList) -> String {
    match list {
        ContainerList::Containers => {
            format!("is an init container: name it in {PREFIX}init-containers.")
        }
        ContainerList::InitContainers => {
            format!("is not an init container: name it in {PREFIX}containers.")
        }
    }
}

/// `a, b and 2 more`.
struct Listed<'a>(&'a [String], usize);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))?;
        if self.1 == 0 {
            Ok(())
        } else {
            write!(f, " and {} more", self.1)
        }
    }
}

/// ` Did you mean "x"?`, or nothing.
struct DidYouMean<'a>(&'a Option<String>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_ref()
            .map_or(Ok(()), |near| write!(f, " Did you mean \"{near}\"?"))
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingSecret {
                secret,
                namespace,
                backend,
                near,
                site,
            } => write!(
                f,
                "secret \"{secret}\" not found in namespace \"{namespace}\" (backend {backend}; asked for by {site}). Create it or correct the annotation.{}",
                DidYouMean(near)
            ),
            Self::MissingKey {
                secret,
                key,
                namespace,
                near,
                by_default,
                site,
            } => {
                let meant = if *by_default {
                    ", which a reference without a key means"
                } else {
                    ""
                };
                write!(
                    f,
                    "secret \"{secret}\" in namespace \"{namespace}\" has no key \"{key}\"{meant} (asked for by {site}). Add the key or correct the annotation.{}",
                    DidYouMean(near)
                )
            }
            Self::Collision {
                variable,
                one,
                other,
                ..
            } => write!(
                f,
                "{one} and {other} would both set the variable {variable}. Ask for one of them by {PREFIX}env.<VAR> instead, under a name of its own."
            ),
            Self::NoSuchContainer {
                names,
                list,
                known,
                more,
                in_other_list,
                site,
            } => {
                let plural = if names.len() == 1 { "" } else { "s" };
                write!(
                    f,
                    "the pod has no {list}{plural} {} (named by {site}).",
                    quoted(names)
                )?;
                if !in_other_list.is_empty() {
                    let which = if names.len() == 1 {
                        "It".to_owned()
                    } else {
                        quoted(in_other_list)
                    };
                    write!(f, " {which} {}", in_other(*list))?;
                    if in_other_list.len() == names.len() {
                        return Ok(());
                    }
                }
                match known.as_slice() {
                    [] => write!(f, " It has no {list} at all."),
                    known => write!(f, " It has: {}.", Listed(known, *more)),
                }
            }
            Self::OnlySidecars { names, more, site } => write!(
                f,
                "the secrets that {site} asks for would reach no container: all containers of the pod are on the operator's list of sidecars. Choose among them by {PREFIX}containers: {}.",
                Listed(names, *more)
            ),
            Self::ContainerName { name, length, site } => write!(
                f,
                "the name of a container is {length} bytes long, and Kubernetes takes at most {MAX_CONTAINER_NAME}: \"{name}\". Shorten it; nothing was injected as {site} asks."
            ),
            Self::PatchTooLarge { limit, site } => write!(
                f,
                "the entries that would be added to the pod's containers are longer than {limit} bytes together (asked for by {site}). Bring secrets in whole with {PREFIX}env-from, or select fewer containers."
            ),
            Self::TooMany { limit, site } => write!(
                f,
                "more than {limit} entries would be added to the pod's containers (asked for by {site}). Bring secrets in whole with {PREFIX}env-from, or select fewer containers."
            ),
            Self::UnknownKeys { reference, site } => write!(
                f,
                "\"{reference}\" stands for all keys of the secret, which are not known here (asked for by {site}). Give the Secret with --secrets, ask a cluster with --cluster, or name the keys."
            ),
        }
    }
}

impl std::error::Error for PlanError {}

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
        from: Taken,
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
pub enum Taken {
    /// Secrets that a container got whole.
    AnnotationLayers {
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

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnnotationLayers { list, container } => {
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
    from: &Taken,
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
