//! Requests of a pod, parsed from its annotations and the defaults that apply to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::contract::binding::SecretBinding;
use crate::contract::secret_ref::{
    EnvVarName, KeyChoice, SecretId, SecretKey, SecretName, SecretReference,
};
use crate::contract::selector::Pattern;
use crate::excerpt::excerpt;
use crate::keys::PREFIX;

/// Object that has an annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnotationOwner {
    /// The object under review: the pod, or the object that holds its template.
    #[default]
    Object,
    /// The pod's workload: its template inherited the annotation.
    Workload,
    /// A default set on the pod's service account.
    ServiceAccount(String),
    /// A default set on the namespace.
    Namespace(String),
}

impl AnnotationOwner {
    /// Whether the annotation is a default, which the pod's author may not know.
    #[must_use]
    pub fn is_default(&self) -> bool {
        matches!(self, Self::ServiceAccount(_) | Self::Namespace(_))
    }
}

/// A reference to an annotation: the part of its name after the prefix, and the object that has it.
///
/// Displays as `annotation secrets.floe.dev/refs` or, for a default, `annotation secrets.floe.dev/refs of
/// namespace "floe-jobs"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnnotationRef {
    /// `refs`, `env.AWS_ACCESS_KEY_ID`, …
    pub key: String,
    /// Object that has the annotation.
    pub origin: AnnotationOwner,
}

impl AnnotationRef {
    /// Reference by the name after the prefix. The name may have any length before validation; no more is kept than the
    /// longest valid name, because sentences, causes and log lines repeat it.
    #[must_use]
    pub fn new(key: &str, origin: AnnotationOwner) -> Self {
        Self {
            key: excerpt(key).into_owned(),
            origin,
        }
    }

    /// Full name of the annotation.
    #[must_use]
    pub fn annotation(&self) -> String {
        format!("{PREFIX}{}", self.key)
    }
}

impl fmt::Display for AnnotationRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {PREFIX}{}", self.key)?;
        match &self.origin {
            AnnotationOwner::Object => Ok(()),
            AnnotationOwner::Workload => f.write_str(" of the pod's workload"),
            AnnotationOwner::ServiceAccount(name) => write!(f, " of service account \"{name}\""),
            AnnotationOwner::Namespace(name) => write!(f, " of namespace \"{name}\""),
        }
    }
}

/// A secret in `env-from`: all of its keys become variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Referenced secret.
    pub secret: SecretId,
    /// Annotation with the reference.
    pub site: AnnotationRef,
}

/// One reference in `refs`, or one `env.<VAR>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Secret and key.
    pub reference: SecretReference,
    /// Name of the variable; `None` for the name by the floe spec.
    pub alias: Option<EnvVarName>,
    /// Annotation with the reference.
    pub site: AnnotationRef,
}

/// Selection of containers of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Selected containers.
    pub choice: Choice,
    /// Annotation with the selection.
    pub site: AnnotationRef,
}

/// Containers that a selection selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// No container.
    None,
    /// Containers that match one of the patterns; `*` is a pattern.
    Patterns(Vec<Pattern>),
}

/// Policy for secrets that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// Reject the object.
    Deny,
    /// Admit it with a warning; the kubelet waits for the secret.
    Warn,
}

/// Mechanism that restarts a workload when a secret changes. On a pod it is information only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReloadMode {
    /// Reloader, unless the workload has another mechanism.
    #[default]
    Auto,
    /// Stakater Reloader.
    Reloader,
    /// The Infisical operator.
    Infisical,
    /// No restart.
    Off,
}

/// Location of a secret in Infisical: `<environment>:<path>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfisicalPath {
    /// Slug of the environment.
    pub environment: String,
    /// Path of the folder, starting with `/`.
    pub path: String,
}

/// All requests of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InjectionRequest {
    /// Secrets in `env-from`, in the annotation's order.
    pub bulk: Vec<Bulk>,
    /// References in the annotation's order, then aliases in the order of their names.
    pub variables: Vec<Variable>,
    /// Selection of app containers; `None` selects all but the operator's sidecars.
    pub containers: Option<Selection>,
    /// Selection of init containers and native sidecars; `None` selects none.
    pub init_containers: Option<Selection>,
    /// Policy for missing secrets; `None` for the default of the surface.
    pub on_missing: Option<OnMissing>,
    /// Restart mechanism of workloads.
    pub reload: ReloadMode,
    /// Locations for the Infisical backend, by secret.
    pub infisical: BTreeMap<SecretName, InfisicalPath>,
}

/// Key names of a secret that a request needs. The default is none: it is enough that the secret exists, so that its
/// metadata suffice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyQuery {
    /// Keys that are referenced by name.
    pub keys: BTreeSet<SecretKey>,
    /// Whether all keys are referenced (`name/*`).
    pub all: bool,
}

impl KeyQuery {
    /// Query for all keys.
    #[must_use]
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Query for these keys.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = SecretKey>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
            all: false,
        }
    }

    /// Adds the key names that one more reference needs.
    fn include(&mut self, choice: &KeyChoice) {
        match choice {
            KeyChoice::All => self.all = true,
            KeyChoice::Default => {
                self.keys.insert(SecretKey::default_key());
            }
            KeyChoice::Key(key) => {
                self.keys.insert(key.clone());
            }
        }
    }

    /// Whether `binding` satisfies the query. If all keys are queried, the caller decides whether it is recent enough.
    #[must_use]
    pub fn satisfied_by(&self, binding: &SecretBinding) -> bool {
        let names = |keys: &BTreeSet<String>| {
            self.all || self.keys.iter().all(|key| keys.contains(key.as_str()))
        };
        !self.needs_keys() || binding.keys.as_ref().is_some_and(names)
    }

    /// Whether key names are needed at all.
    #[must_use]
    pub fn needs_keys(&self) -> bool {
        self.all || !self.keys.is_empty()
    }
}

impl InjectionRequest {
    /// Whether there is nothing to inject.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bulk.is_empty() && self.variables.is_empty()
    }

    /// Requested secrets, with the keys that are needed of each.
    #[must_use]
    pub fn key_queries(&self) -> BTreeMap<&SecretId, KeyQuery> {
        let mut queries: BTreeMap<&SecretId, KeyQuery> = BTreeMap::new();
        for bulk in &self.bulk {
            queries.entry(&bulk.secret).or_default();
        }
        for variable in &self.variables {
            let query = queries.entry(&variable.reference.secret).or_default();
            query.include(&variable.reference.key);
        }
        queries
    }

    /// Requested secrets, with the first annotation that requests each.
    #[must_use]
    pub fn secret_sites(&self) -> BTreeMap<&SecretId, &AnnotationRef> {
        let bulk = self.bulk.iter().map(|bulk| (&bulk.secret, &bulk.site));
        let variables = self.variables.iter();
        let variables = variables.map(|variable| (&variable.reference.secret, &variable.site));
        let mut sites = BTreeMap::new();
        for (secret, site) in bulk.chain(variables) {
            sites.entry(secret).or_insert(site);
        }
        sites
    }

    /// First annotation that requests a secret.
    #[must_use]
    pub fn first_site(&self) -> Option<&AnnotationRef> {
        let bulk = self.bulk.first().map(|bulk| &bulk.site);
        bulk.or_else(|| self.variables.first().map(|variable| &variable.site))
    }

    /// First annotation of the object itself that requests a secret; `None` if only defaults do.
    #[must_use]
    pub fn first_own_site(&self) -> Option<&AnnotationRef> {
        let bulk = self.bulk.iter().map(|bulk| &bulk.site);
        let mut sites = bulk.chain(self.variables.iter().map(|variable| &variable.site));
        sites.find(|site| !site.origin.is_default())
    }

    /// First annotation that requests this secret, for sentences about it.
    #[must_use]
    pub fn site_of(&self, secret: &SecretId) -> Option<&AnnotationRef> {
        let bulk = self
            .bulk
            .iter()
            .find(|bulk| bulk.secret == *secret)
            .map(|bulk| &bulk.site);
        bulk.or_else(|| {
            self.variables
                .iter()
                .find(|v| v.reference.secret == *secret)
                .map(|v| &v.site)
        })
    }
}
