//! Errors of planning. Each is a sentence for the pod's author: what is wrong, where it was written, what to do.

use std::fmt;

use crate::contract::request::AnnotationRef;
use crate::contract::secret_ref::{SecretId, SecretKey, SecretReference};
use crate::contract::sentence::{DidYouMean, Listed, quoted};
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

/// Sentence about a missing key; `by_default` if the reference names none.
fn fmt_missing_key(
    f: &mut fmt::Formatter<'_>,
    (secret, namespace): (&SecretId, &str),
    key: &SecretKey,
    near: &Option<String>,
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

/// Sentence about containers that the pod does not have.
fn fmt_no_such_container(
    f: &mut fmt::Formatter<'_>,
    (names, list, site): (&[String], ContainerList, &AnnotationRef),
    in_other_list: &[String],
    existing: &Listed<'_>,
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
            } => fmt_missing_key(f, (secret, namespace), key, near, *by_default, site),
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
            } => fmt_no_such_container(
                f,
                (names, *list, site),
                in_other_list,
                &Listed(known, *more),
            ),
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
