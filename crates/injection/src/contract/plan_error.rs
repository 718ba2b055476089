//! Errors of planning. Each is a sentence for the pod's author: what is wrong, where it was written, what to do.

use std::fmt;

use crate::contract::request::AnnotationRef;
use crate::contract::secret_ref::{SecretId, SecretKey, SecretReference};
use crate::contract::sentence::{DidYouMean, Listed, quoted};
use crate::keys::PREFIX;
use crate::limits::MAX_CONTAINER_NAME;
use crate::view::container_list::ContainerList;

/// An error of planning. `Display` is a complete sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanError {
    /// The secret does not exist.
    MissingSecret {
        /// Secret that was looked up.
        secret: SecretId,
        /// Namespace of the lookup.
        namespace: String,
        /// Backend of the lookup.
        backend: &'static str,
        /// Similar name in the namespace.
        near: Option<String>,
        /// Annotation with the reference.
        site: AnnotationRef,
    },
    /// The secret exists and lacks the key.
    MissingKey {
        /// Secret that was found.
        secret: SecretId,
        /// Key that it lacks.
        key: SecretKey,
        /// Namespace of the secret.
        namespace: String,
        /// Similar key of the secret.
        near: Option<String>,
        /// Whether the reference names no key, and so means this one.
        by_default: bool,
        /// Annotation with the reference.
        site: AnnotationRef,
    },
    /// Two different references result in the same variable.
    Collision {
        /// Name of the variable.
        variable: String,
        /// One reference with its annotation.
        one: String,
        /// The other reference with its annotation.
        other: String,
        /// Annotation of the other reference.
        site: AnnotationRef,
    },
    /// An annotation names containers that the pod does not have.
    NoSuchContainer {
        /// Names of the containers.
        names: Vec<String>,
        /// List that the annotation selects from.
        list: ContainerList,
        /// First names in that list.
        known: Vec<String>,
        /// Number of other names in that list.
        more: usize,
        /// Names that are in the other list.
        in_other_list: Vec<String>,
        /// Annotation that names them.
        site: AnnotationRef,
    },
    /// All containers are sidecars, and no annotation selects one.
    OnlySidecars {
        /// First names of the containers.
        names: Vec<String>,
        /// Number of other containers.
        more: usize,
        /// First annotation that requests a secret.
        site: AnnotationRef,
    },
    /// A container's name that the API server rejects.
    ContainerName {
        /// Beginning of the name.
        name: String,
        /// Length of the name in bytes.
        length: usize,
        /// First annotation that requests a secret.
        site: AnnotationRef,
    },
    /// Too many entries.
    TooMany {
        /// Number of entries that is allowed.
        limit: usize,
        /// Annotation that requests them, or the first of them.
        site: AnnotationRef,
    },
    /// The patch would be too long.
    PatchTooLarge {
        /// Number of bytes that is allowed.
        limit: usize,
        /// First annotation that requests a secret.
        site: AnnotationRef,
    },
    /// `name/*` cannot be expanded, because the keys were not looked up.
    UnknownKeys {
        /// Reference to all keys.
        reference: SecretReference,
        /// Annotation with the reference.
        site: AnnotationRef,
    },
    /// The name of a secret does not follow the operator's convention.
    NameConvention {
        /// Secret with that name.
        secret: SecretId,
        /// Pattern of the convention.
        pattern: String,
        /// Annotation with the reference.
        site: AnnotationRef,
    },
}

impl PlanError {
    /// Annotation that the error is about.
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
            | Self::UnknownKeys { site, .. }
            | Self::NameConvention { site, .. } => site,
        }
    }
}

/// Hint for a container that was named for `list` and is in the other list.
fn other_list_hint(list: ContainerList) -> String {
    match list {
        ContainerList::Containers => {
            format!("is an init container: name it in {PREFIX}init-containers.")
        }
        ContainerList::InitContainers => {
            format!("is not an init container: name it in {PREFIX}containers.")
        }
    }
}

/// Sentence about a missing secret.
fn fmt_missing_secret(
    f: &mut fmt::Formatter<'_>,
    secret: &SecretId,
    namespace: &str,
    backend: &str,
    near: Option<&str>,
    site: &AnnotationRef,
) -> fmt::Result {
    write!(
        f,
        "secret \"{secret}\" not found in namespace \"{namespace}\" (backend {backend}; asked for by {site}). Create it or correct the annotation.{}",
        DidYouMean(near)
    )
}

/// Sentence about a missing key; `by_default` if the reference names none.
fn fmt_missing_key(
    f: &mut fmt::Formatter<'_>,
    secret: &SecretId,
    key: &SecretKey,
    namespace: &str,
    near: Option<&str>,
    by_default: bool,
    site: &AnnotationRef,
) -> fmt::Result {
    let meant = if by_default {
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

/// Sentence about a pod whose containers are all sidecars.
fn fmt_only_sidecars(
    f: &mut fmt::Formatter<'_>,
    containers: Listed<'_>,
    site: &AnnotationRef,
) -> fmt::Result {
    write!(
        f,
        "the secrets that {site} asks for would reach no container: all containers of the pod are on the operator's list of sidecars. Choose among them by {PREFIX}containers: {containers}."
    )
}

/// Sentence about a name of a container that is too long.
fn fmt_container_name(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    length: usize,
    site: &AnnotationRef,
) -> fmt::Result {
    write!(
        f,
        "the name of a container is {length} bytes long, and Kubernetes takes at most {MAX_CONTAINER_NAME}: \"{name}\". Shorten it; nothing was injected as {site} asks."
    )
}

/// Sentence about more entries than allowed.
fn fmt_too_many(f: &mut fmt::Formatter<'_>, limit: usize, site: &AnnotationRef) -> fmt::Result {
    write!(
        f,
        "more than {limit} entries would be added to the pod's containers (asked for by {site}). Bring secrets in whole with {PREFIX}env-from, or select fewer containers."
    )
}

/// Sentence about a name that does not follow the convention.
fn fmt_naming(
    f: &mut fmt::Formatter<'_>,
    secret: &SecretId,
    pattern: &str,
    site: &AnnotationRef,
) -> fmt::Result {
    write!(
        f,
        "the name of secret \"{secret}\" does not follow the naming convention \"{pattern}\" (asked for by {site}). Create the secret under such a name and correct the annotation."
    )
}

/// Sentence about containers that the pod does not have.
fn fmt_no_such_container(
    f: &mut fmt::Formatter<'_>,
    (names, list, site): (&[String], ContainerList, &AnnotationRef),
    in_other_list: &[String],
    existing: Listed<'_>,
) -> fmt::Result {
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
        write!(f, " {which} {}", other_list_hint(list))?;
        if in_other_list.len() == names.len() {
            return Ok(());
        }
    }
    if existing.0.is_empty() {
        write!(f, " It has no {list} at all.")
    } else {
        write!(f, " It has: {existing}.")
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
            } => fmt_missing_secret(f, secret, namespace, backend, near.as_deref(), site),
            Self::MissingKey {
                secret,
                key,
                namespace: ns,
                near,
                by_default,
                site,
            } => fmt_missing_key(f, secret, key, ns, near.as_deref(), *by_default, site),
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
                fmt_no_such_container(f, (names, *list, site), in_other_list, Listed(known, *more))
            }
            Self::OnlySidecars { names, more, site } => {
                fmt_only_sidecars(f, Listed(names, *more), site)
            }
            Self::ContainerName { name, length, site } => {
                fmt_container_name(f, name, *length, site)
            }
            Self::PatchTooLarge { limit, site } => write!(
                f,
                "the entries that would be added to the pod's containers are longer than {limit} bytes together (asked for by {site}). Bring secrets in whole with {PREFIX}env-from, or select fewer containers."
            ),
            Self::TooMany { limit, site } => fmt_too_many(f, *limit, site),
            Self::NameConvention {
                secret,
                pattern,
                site,
            } => fmt_naming(f, secret, pattern, site),
            Self::UnknownKeys { reference, site } => write!(
                f,
                "\"{reference}\" stands for all keys of the secret, which are not known here (asked for by {site}). Give the Secret with --secrets, ask a cluster with --cluster, or name the keys."
            ),
        }
    }
}

impl std::error::Error for PlanError {}
