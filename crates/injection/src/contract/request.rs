//! What a pod asks for, after its annotations and the defaults that govern it have been read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::contract::binding::SecretBinding;
use crate::contract::secret_ref::{
    EnvVarName, KeyChoice, SecretId, SecretKey, SecretName, SecretReference,
};
use crate::contract::selector::Pattern;
use crate::excerpt::excerpt;
use crate::keys::PREFIX;

/// Whose annotation it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnotationOwner {
    /// The object under review: the pod, or the object that holds its template.
    #[default]
    Object,
    /// The workload that the pod belongs to, by what its template inherits.
    Workload,
    /// A default set on the pod's service account.
    ServiceAccount(String),
    /// A default set on the namespace.
    Namespace(String),
}

impl AnnotationOwner {
    /// Whether it is a default, which the pod's author may not even know of.
    #[must_use]
    pub fn is_default(&self) -> bool {
        matches!(self, Self::ServiceAccount(_) | Self::Namespace(_))
    }
}

/// An annotation, by the part of its name after the prefix, and whose it is.
///
/// Displays as `annotation secrets.floe.dev/refs` or, for a default, `annotation secrets.floe.dev/refs of
/// namespace "floe-jobs"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnnotationRef {
    /// `refs`, `env.AWS_ACCESS_KEY_ID`, …
    pub key: String,
    /// Whose.
    pub origin: AnnotationOwner,
}

impl AnnotationRef {
    /// The annotation of that name after the prefix. A name of any length comes here, and no more of it is kept than
    /// the longest that Kubernetes takes: sentences, causes and log lines repeat it.
    #[must_use]
    pub fn new(key: &str, origin: AnnotationOwner) -> Self {
        Self {
            key: excerpt(key).into_owned(),
            origin,
        }
    }

    /// The annotation's whole name.
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

/// A secret to bring in whole, by `env-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// The secret.
    pub secret: SecretId,
    /// Who asked.
    pub site: AnnotationRef,
}

/// One reference by `refs`, or one alias by `env.<VAR>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// What it refers to.
    pub reference: SecretReference,
    /// The alias; `None` for the reference naming.
    pub alias: Option<EnvVarName>,
    /// Who asked.
    pub site: AnnotationRef,
}

/// Which containers of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The choice.
    pub choice: Choice,
    /// Who chose.
    pub site: AnnotationRef,
}

/// A choice among containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// None of them.
    None,
    /// Those that match one of the patterns; `*` is a pattern.
    Patterns(Vec<Pattern>),
}

/// What to do about a secret that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// Refuse the object.
    Deny,
    /// Admit it with a warning; the kubelet waits for the secret.
    Warn,
}

/// How a workload restarts when a secret changes; a pod only tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReloadMode {
    /// `reloader`, unless the workload already has a mechanism.
    #[default]
    Auto,
    /// Stakater Reloader.
    Reloader,
    /// The Infisical operator.
    Infisical,
    /// None.
    Off,
}

/// Where in Infisical a secret comes from: `<environment>:<path>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfisicalPath {
    /// The environment's slug.
    pub environment: String,
    /// The folder, starting with `/`.
    pub path: String,
}

/// Everything that a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InjectionRequest {
    /// In the annotation's order.
    pub bulk: Vec<Bulk>,
    /// References in the annotation's order, then aliases in the order of their names.
    pub variables: Vec<Variable>,
    /// App containers; `None` is all but the operator's sidecars.
    pub containers: Option<Selection>,
    /// Init containers and native sidecars; `None` is none.
    pub init_containers: Option<Selection>,
    /// What to do about a missing secret; `None` leaves it to the surface.
    pub on_missing: Option<OnMissing>,
    /// For workloads; a pod tells of it.
    pub reload: ReloadMode,
    /// For the Infisical backend.
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

    /// Adds what one more reference needs.
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

    /// Whether `binding` answers the query. If all keys are queried, the caller decides whether it is recent enough.
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

    /// The first annotation that asks for anything.
    #[must_use]
    pub fn first_site(&self) -> Option<&AnnotationRef> {
        let bulk = self.bulk.first().map(|bulk| &bulk.site);
        bulk.or_else(|| self.variables.first().map(|variable| &variable.site))
    }

    /// The first annotation of the object's own that asks for anything: none when all is asked for by defaults.
    #[must_use]
    pub fn first_own_site(&self) -> Option<&AnnotationRef> {
        let bulk = self.bulk.iter().map(|bulk| &bulk.site);
        let mut sites = bulk.chain(self.variables.iter().map(|variable| &variable.site));
        sites.find(|site| !site.origin.is_default())
    }

    /// The first annotation that asks for a secret, for sentences about it.
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
