//! The plan: which entries each container of a pod lacks, and what has to be said about it.
//!
//! Add-only. What an author wrote is never removed, reordered or overridden; what is already there is not
//! added again, so that planning what was planned comes to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::binding::SecretBinding;
use super::pod::{ContainerView, PodView};
use super::problem::{PlanError, Warning};
use super::record::{Added, Record};
use super::request::{Choice, InjectionRequest, OnMissing, Selection, Variable};
use super::secret_ref::{DEFAULT_KEY, EnvVarName, KeyChoice, SecretId};
use super::selector::Pattern;

/// What is known about a referenced secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It exists.
    Found(SecretBinding),
    /// It does not.
    Missing {
        /// The backend that said so, for the sentence.
        backend: &'static str,
        /// A name that was seen in that namespace and looks alike.
        near: Option<String>,
    },
    /// Nobody was asked (`inject` without a cluster and without files of Secrets).
    Unchecked,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The pod, or the template of one.
    pub pod: &'a PodView<'a>,
    /// Where it will run, for sentences.
    pub namespace: &'a str,
    /// What it asks for.
    pub request: &'a InjectionRequest,
    /// What is known of each secret of `request.needs()`.
    pub bindings: &'a BTreeMap<SecretId, Bound>,
    /// The operator's list of containers that the unset selection leaves out.
    pub sidecars: &'a [Pattern],
}

/// A list of containers in a pod's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerList {
    /// `spec.containers`.
    Containers,
    /// `spec.initContainers`.
    InitContainers,
}

impl ContainerList {
    /// The field's name under `spec`.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
        }
    }
}

impl fmt::Display for ContainerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containers => "container",
            Self::InitContainers => "init container",
        })
    }
}

/// What to add to a pod. [`super::render`] makes the patch of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionPlan {
    /// Only containers that lack something, in the pod's order, init containers last.
    pub containers: Vec<ContainerPlan>,
    /// The new record, when anything is added.
    pub record: Option<Record>,
    /// Which maps and lists have to be made first.
    pub absent: Absent,
    /// For a person, most important first.
    pub warnings: Vec<Warning>,
}

impl InjectionPlan {
    /// Whether nothing is added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }
}

/// Parents of what is added that the pod does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// No `metadata`.
    pub metadata: bool,
    /// No `metadata.annotations`.
    pub annotations: bool,
    /// No `metadata.labels`.
    pub labels: bool,
}

/// What one container lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Which list.
    pub list: ContainerList,
    /// Its place there.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The container has no `envFrom` list to add to.
    pub env_from_absent: bool,
    /// Sources to insert, each at the place that it has once those before it are in.
    pub env_from: Vec<(usize, String)>,
    /// The container has no `env` list to add to.
    pub env_absent: bool,
    /// Entries to insert at the front, because an author's value refers to them by `$(VAR)`.
    pub env_before: Vec<EnvEntry>,
    /// Entries to append.
    pub env_after: Vec<EnvEntry>,
}

/// An `env` entry by `secretKeyRef`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvEntry {
    /// The variable.
    pub name: String,
    /// The Secret.
    pub secret: String,
    /// Its data key.
    pub key: String,
}

/// Plans the injection.
///
/// # Errors
/// Everything that stands against it, at once: missing secrets and keys (unless `on-missing: warn`),
/// references that meet in one variable, containers that do not exist.
pub fn plan(input: &PlanInput<'_>) -> Result<InjectionPlan, Vec<PlanError>> {
    let mut findings = Findings::default();
    let wanted = resolve(input, &mut findings);
    let selected = select(input, &mut findings);
    if !findings.errors.is_empty() {
        return Err(findings.errors);
    }

    let known = input.pod.annotations().and_then(|a| a.get(super::annotations::RECORD_KEY)).and_then(Record::read);
    let known = known.filter(|record| carries(record, input.pod, &wanted));
    let mut record = known.clone().unwrap_or_default();
    let mut containers = Vec::new();
    for Selected { list, index, container, by_default } in selected {
        let name = container.name.as_str();
        // A container that came after our first pass, added by another webhook: nobody chose it.
        if by_default && known.as_ref().is_some_and(|record| !record.list(list).contains_key(name)) {
            continue;
        }
        let lacks = lacking(list, index, container, &wanted, &mut findings.warnings);
        if let Some((plan, added)) = lacks {
            record.add(list, name, added);
            containers.push(plan);
        }
    }
    findings.warnings.sort();
    findings.warnings.dedup();
    let metadata = input.pod.metadata.as_ref();
    Ok(InjectionPlan {
        record: (!containers.is_empty()).then_some(record),
        containers,
        absent: Absent {
            metadata: metadata.is_none(),
            annotations: metadata.is_none_or(|m| m.annotations.is_none()),
            labels: metadata.is_none_or(|m| m.labels.is_none()),
        },
        warnings: findings.warnings,
    })
}

/// What has to be said, for or against.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<PlanError>,
    warnings: Vec<Warning>,
}

/// The entries that every selected container should have.
#[derive(Debug, Default)]
struct Wanted {
    env_from: Vec<String>,
    env: Vec<EnvEntry>,
}

// === references to entries ===

fn resolve(input: &PlanInput<'_>, findings: &mut Findings) -> Wanted {
    for (secret, need) in input.request.needs() {
        missing(input, secret, &need.keys, findings);
    }
    let mut wanted = Wanted::default();
    for bulk in &input.request.bulk {
        let name = secret_name(input, &bulk.secret);
        if !wanted.env_from.contains(&name) {
            wanted.env_from.push(name);
        }
    }
    let mut taken: BTreeMap<String, (EnvEntry, String)> = BTreeMap::new();
    for variable in &input.request.variables {
        for entry in entries(input, variable, findings) {
            let said = format!("{} ({})", variable.reference, variable.site);
            match taken.get(&entry.name) {
                Some((same, _)) if *same == entry => {}
                Some((_, other)) => findings.errors.push(PlanError::Collision {
                    variable: entry.name,
                    one: other.clone(),
                    other: said,
                    site: variable.site.clone(),
                }),
                None => {
                    wanted.env.push(entry.clone());
                    taken.insert(entry.name.clone(), (entry, said));
                }
            }
        }
    }
    shared_keys(input, findings);
    wanted
}

/// Says which of `keys`, or that all of the secret, is missing.
fn missing(
    input: &PlanInput<'_>,
    secret: &SecretId,
    keys: &BTreeSet<super::secret_ref::SecretKey>,
    findings: &mut Findings,
) {
    let Some(site) = input.request.site_of(secret) else { return };
    let namespace = input.namespace.to_owned();
    match input.bindings.get(secret) {
        None | Some(Bound::Unchecked) => {}
        Some(Bound::Missing { backend, near }) => {
            let error = PlanError::MissingSecret {
                secret: secret.clone(),
                namespace,
                backend,
                near: near.clone(),
                site: site.clone(),
            };
            findings.missing(input.request.on_missing, error);
        }
        Some(Bound::Found(binding)) => {
            let Some(known) = &binding.keys else { return };
            for key in keys.iter().filter(|key| !known.contains(key.as_str())) {
                let asks = |v: &&Variable| {
                    v.reference.secret == *secret
                        && match &v.reference.key {
                            KeyChoice::Key(wanted) => wanted == key,
                            KeyChoice::Default => key.as_str() == DEFAULT_KEY,
                            KeyChoice::All => false,
                        }
                };
                let asked = input.request.variables.iter().find(asks);
                let error = PlanError::MissingKey {
                    secret: secret.clone(),
                    key: key.clone(),
                    namespace: namespace.clone(),
                    near: super::near::nearest(key.as_str(), known.iter().map(String::as_str)),
                    by_default: asked.is_some_and(|v| v.reference.key == KeyChoice::Default),
                    site: asked.map_or_else(|| site.clone(), |v| v.site.clone()),
                };
                findings.missing(input.request.on_missing, error);
            }
        }
    }
}

impl Findings {
    fn missing(&mut self, on_missing: OnMissing, error: PlanError) {
        match on_missing {
            OnMissing::Deny => self.errors.push(error),
            OnMissing::Warn => self.warnings.push(Warning::Missing(error)),
        }
    }
}

/// The Secret in the pod's namespace; by its own name while nothing better is known.
fn secret_name(input: &PlanInput<'_>, secret: &SecretId) -> String {
    match input.bindings.get(secret) {
        Some(Bound::Found(binding)) => binding.secret_name.clone(),
        Some(Bound::Missing { .. } | Bound::Unchecked) | None => secret.name.to_string(),
    }
}

/// The entries of one reference; several for `name/*`.
fn entries(input: &PlanInput<'_>, variable: &Variable, findings: &mut Findings) -> Vec<EnvEntry> {
    let reference = &variable.reference;
    let secret = secret_name(input, &reference.secret);
    let name = |key: Option<&str>| match &variable.alias {
        Some(alias) => alias.to_string(),
        None => EnvVarName::for_reference(&reference.secret.name, key).to_string(),
    };
    match &reference.key {
        KeyChoice::Default => vec![EnvEntry { name: name(None), secret, key: DEFAULT_KEY.to_owned() }],
        KeyChoice::Key(key) => vec![EnvEntry { name: name(Some(key.as_str())), secret, key: key.to_string() }],
        KeyChoice::All => match input.bindings.get(&reference.secret) {
            Some(Bound::Found(SecretBinding { keys: Some(keys), .. })) => {
                if keys.is_empty() {
                    findings
                        .warnings
                        .push(Warning::NothingToExpand { reference: reference.clone(), site: variable.site.clone() });
                }
                let entry = |key: &String| EnvEntry { name: name(Some(key)), secret: secret.clone(), key: key.clone() };
                keys.iter().map(entry).collect()
            }
            // Said already; which keys there will be, nobody knows.
            Some(Bound::Missing { .. }) => Vec::new(),
            Some(Bound::Found(SecretBinding { keys: None, .. }) | Bound::Unchecked) | None => {
                findings
                    .errors
                    .push(PlanError::UnknownKeys { reference: reference.clone(), site: variable.site.clone() });
                Vec::new()
            }
        },
    }
}

/// Two secrets brought in whole that both have a key: the later one wins, and somebody should know.
fn shared_keys(input: &PlanInput<'_>, findings: &mut Findings) {
    let mut seen: BTreeMap<&str, &SecretId> = BTreeMap::new();
    for bulk in &input.request.bulk {
        let Some(Bound::Found(SecretBinding { keys: Some(keys), .. })) = input.bindings.get(&bulk.secret) else {
            continue;
        };
        for key in keys {
            if let Some(first) = seen.insert(key, &bulk.secret) {
                findings.warnings.push(Warning::SharedKey {
                    key: key.clone(),
                    loser: first.clone(),
                    winner: bulk.secret.clone(),
                });
            }
        }
    }
}

// === containers ===

struct Selected<'a> {
    list: ContainerList,
    index: usize,
    container: &'a ContainerView<'a>,
    /// No annotation chose it: the selection was left unset.
    by_default: bool,
}

fn select<'a>(input: &PlanInput<'a>, findings: &mut Findings) -> Vec<Selected<'a>> {
    let spec = &input.pod.spec;
    let lists = [
        (ContainerList::Containers, &spec.containers, &input.request.containers),
        (ContainerList::InitContainers, &spec.init_containers, &input.request.init_containers),
    ];
    let mut selected = Vec::new();
    for (list, containers, selection) in lists {
        let containers = containers.as_deref().unwrap_or_default();
        if let Some(selection) = selection {
            unmatched(input.pod, list, containers, selection, findings);
        }
        for (index, container) in containers.iter().enumerate() {
            let name = container.name.as_str();
            let chosen = match selection.as_ref().map(|selection| &selection.choice) {
                Some(Choice::None) => false,
                Some(Choice::Patterns(patterns)) => patterns.iter().any(|pattern| pattern.matches(name)),
                None => {
                    list == ContainerList::Containers && !input.sidecars.iter().any(|pattern| pattern.matches(name))
                }
            };
            if chosen {
                selected.push(Selected { list, index, container, by_default: selection.is_none() });
            }
        }
    }
    if selected.is_empty() && findings.errors.is_empty() {
        findings.warnings.push(Warning::NoContainer);
    }
    selected
}

/// Says which patterns match no container.
fn unmatched(
    pod: &PodView<'_>,
    list: ContainerList,
    containers: &[ContainerView<'_>],
    selection: &Selection,
    findings: &mut Findings,
) {
    let Choice::Patterns(patterns) = &selection.choice else { return };
    for pattern in patterns {
        if containers.iter().any(|container| pattern.matches(container.name.as_str())) {
            continue;
        }
        let site = selection.site.clone();
        if !pattern.is_exact() {
            findings.warnings.push(Warning::Unmatched { pattern: pattern.to_string(), list, site });
            continue;
        }
        let other = match list {
            ContainerList::Containers => &pod.spec.init_containers,
            ContainerList::InitContainers => &pod.spec.containers,
        };
        let error = PlanError::NoSuchContainer {
            name: pattern.to_string(),
            list,
            known: containers.iter().map(|container| container.name.as_str().to_owned()).collect(),
            in_other_list: other.iter().flatten().any(|container| pattern.matches(container.name.as_str())),
            site,
        };
        // A default is written for many pods; that one of them lacks a container is no mistake of its author.
        if error.site().origin.is_default() {
            findings.warnings.push(Warning::NoSuchContainer(error));
        } else {
            findings.errors.push(error);
        }
    }
}

/// Whether every container that the record names really has all that is wanted. A forged record fails here.
fn carries(record: &Record, pod: &PodView<'_>, wanted: &Wanted) -> bool {
    let lists =
        [(ContainerList::Containers, &pod.spec.containers), (ContainerList::InitContainers, &pod.spec.init_containers)];
    let complete = |container: &ContainerView<'_>| {
        wanted.env_from.iter().all(|secret| container.env_from_position(secret).is_some())
            && wanted.env.iter().all(|entry| container.env_named(&entry.name).is_some())
    };
    !record.is_empty()
        && lists.into_iter().all(|(list, containers)| {
            record
                .list(list)
                .keys()
                .all(|name| containers.iter().flatten().find(|c| c.name.as_str() == name).is_some_and(complete))
        })
}

/// What one container lacks, and how the record will tell it.
fn lacking(
    list: ContainerList,
    index: usize,
    container: &ContainerView<'_>,
    wanted: &Wanted,
    warnings: &mut Vec<Warning>,
) -> Option<(ContainerPlan, Added)> {
    let mut plan = ContainerPlan {
        list,
        index,
        name: container.name.as_str().to_owned(),
        env_from_absent: container.env_from.is_none(),
        env_from: missing_sources(container, wanted),
        env_absent: container.env.is_none(),
        env_before: Vec::new(),
        env_after: Vec::new(),
    };
    for entry in &wanted.env {
        match container.env_named(&entry.name) {
            Some(theirs) if theirs.is_key_of(&entry.secret, &entry.key) => {}
            Some(_) => warnings.push(Warning::LeftAlone {
                variable: entry.name.clone(),
                container: container.name.as_str().to_owned(),
            }),
            None => {
                let needed_by_theirs = container
                    .env
                    .iter()
                    .flatten()
                    .any(|theirs| theirs.value.as_ref().is_some_and(|value| value.mentions(&entry.name)));
                let place = if needed_by_theirs { &mut plan.env_before } else { &mut plan.env_after };
                place.push(entry.clone());
            }
        }
    }
    let added = Added {
        env_from: plan.env_from.iter().map(|(_, secret)| secret.clone()).collect(),
        env: plan.env_before.iter().chain(&plan.env_after).map(|entry| entry.name.clone()).collect(),
    };
    (added != Added::default()).then_some((plan, added))
}

/// Our sources stand before the author's, in the annotation's order; those that are there stay where they are.
fn missing_sources(container: &ContainerView<'_>, wanted: &Wanted) -> Vec<(usize, String)> {
    let mut inserted = Vec::new();
    let mut front = 0;
    for secret in &wanted.env_from {
        match container.env_from_position(secret) {
            Some(place) if place + inserted.len() == front => front += 1,
            Some(_) => {}
            None => {
                inserted.push((front, secret.clone()));
                front += 1;
            }
        }
    }
    inserted
}
