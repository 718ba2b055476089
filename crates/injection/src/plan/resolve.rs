//! From references to entries: names, keys and what is missing, before any container is looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::binding::{BindOutcome, SecretBinding};
use crate::contract::input::{PlanInput, PlanTarget};
use crate::contract::near::Suggestions;
use crate::contract::problem::{PlanError, Warning};
use crate::contract::request::{Bulk, OnMissing, Variable};
use crate::contract::secret_ref::{DEFAULT_KEY, EnvVarName, KeyChoice, SecretId, SecretKey};
use crate::limits::MAX_ENTRIES;
use crate::plan::env_entry::EnvEntry;

/// What has to be said, for or against.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    pub(crate) errors: Vec<PlanError>,
    pub(crate) warnings: Vec<Warning>,
    suggestions: Suggestions,
}

/// The entries that every selected container should have.
#[derive(Debug, Default)]
pub(crate) struct DesiredEnv {
    pub(crate) env_from: Vec<String>,
    pub(crate) env: Vec<EnvEntry>,
    /// Aliases of a default: names that programs expect, and that an author may have in a source of their own.
    pub(crate) by_default: BTreeSet<String>,
}

impl DesiredEnv {
    pub(crate) fn len(&self) -> usize {
        self.env_from.len() + self.env.len()
    }
}

/// What the request comes to, with what the backends said.
pub(crate) fn resolve(input: &PlanInput<'_>, findings: &mut Diagnostics) -> DesiredEnv {
    for (secret, query) in input.request.key_queries() {
        missing(input, secret, &query.keys, findings);
    }
    let mut wanted = DesiredEnv::default();
    for bulk in &input.request.bulk {
        let name = secret_name(input, &bulk.secret);
        if !wanted.env_from.contains(&name) {
            wanted.env_from.push(name);
        }
    }
    // By variable: where its entry stands, and who asked for it.
    let mut taken: BTreeMap<String, (usize, &Variable)> = BTreeMap::new();
    for variable in &input.request.variables {
        let room = MAX_ENTRIES.saturating_sub(wanted.len());
        if expansion(input, variable) > room {
            findings.errors.push(PlanError::TooMany {
                limit: MAX_ENTRIES,
                site: variable.site.clone(),
            });
            break;
        }
        for entry in entries(input, variable, findings) {
            let earlier = taken
                .get(&entry.name)
                .and_then(|(at, by)| Some((wanted.env.get(*at)?, *by)));
            match earlier {
                None => {
                    taken.insert(entry.name.clone(), (wanted.env.len(), variable));
                    if variable.alias.is_some() && variable.site.origin.is_default() {
                        wanted.by_default.insert(entry.name.clone());
                    }
                    wanted.env.push(entry);
                }
                Some((same, _)) if *same == entry => {}
                Some((other, by)) => findings.errors.push(PlanError::Collision {
                    one: asked(by, &other.key),
                    other: asked(variable, &entry.key),
                    variable: entry.name,
                    site: variable.site.clone(),
                }),
            }
        }
    }
    if input.discloses {
        shared_keys(input, findings);
    }
    wanted
}

/// A reference and who asked for it; for `name/*` also which key is meant.
fn asked(variable: &Variable, key: &str) -> String {
    let Variable {
        reference, site, ..
    } = variable;
    match reference.key {
        KeyChoice::All => format!("{}/{key} of {reference} ({site})", reference.secret),
        KeyChoice::Default | KeyChoice::Key(_) => format!("{reference} ({site})"),
    }
}

/// Says which of `keys`, or that all of the secret, is missing.
fn missing(
    input: &PlanInput<'_>,
    secret: &SecretId,
    keys: &BTreeSet<SecretKey>,
    findings: &mut Diagnostics,
) {
    let Some(site) = input.request.site_of(secret) else {
        return;
    };
    let namespace = input.namespace.to_owned();
    match input.bindings.get(secret) {
        None | Some(BindOutcome::Unchecked) => {}
        Some(BindOutcome::Missing { backend, near }) => {
            let error = PlanError::MissingSecret {
                secret: secret.clone(),
                namespace,
                backend,
                near: near.clone(),
                site: site.clone(),
            };
            findings.missing(input, error);
        }
        Some(BindOutcome::Found(binding)) => {
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
                let variable = input.request.variables.iter().find(asks);
                let error = PlanError::MissingKey {
                    secret: secret.clone(),
                    key: key.clone(),
                    namespace: namespace.clone(),
                    near: findings.nearest(input, key, known),
                    by_default: variable.is_some_and(|v| v.reference.key == KeyChoice::Default),
                    site: variable.map_or_else(|| site.clone(), |v| v.site.clone()),
                };
                findings.missing(input, error);
            }
        }
    }
}

impl Diagnostics {
    /// A key of the secret that is like the one that it lacks, for a caller who may know.
    fn nearest(
        &mut self,
        input: &PlanInput<'_>,
        key: &SecretKey,
        known: &BTreeSet<String>,
    ) -> Option<String> {
        let known = known.iter().map(String::as_str);
        if input.discloses {
            self.suggestions.nearest(key.as_str(), known)
        } else {
            None
        }
    }

    fn missing(&mut self, input: &PlanInput<'_>, error: PlanError) {
        match (input.request.on_missing, input.target) {
            (Some(OnMissing::Deny), _) | (None, PlanTarget::Pod | PlanTarget::Manifest) => {
                self.errors.push(error);
            }
            (Some(OnMissing::Warn), _) => self.warnings.push(Warning::Missing(error)),
            (None, PlanTarget::Template) => self.warnings.push(Warning::Awaited(error)),
        }
    }
}

/// The Secret in the pod's namespace; by its own name while nothing better is known.
fn secret_name(input: &PlanInput<'_>, secret: &SecretId) -> String {
    match input.bindings.get(secret) {
        Some(BindOutcome::Found(binding)) => binding.secret_name.clone(),
        Some(BindOutcome::Missing { .. } | BindOutcome::Unchecked) | None => {
            secret.name.to_string()
        }
    }
}

/// How many entries a reference comes to: known before any of them is made, because a Secret may have thousands of keys.
fn expansion(input: &PlanInput<'_>, variable: &Variable) -> usize {
    match (
        &variable.reference.key,
        input.bindings.get(&variable.reference.secret),
    ) {
        (
            KeyChoice::All,
            Some(BindOutcome::Found(SecretBinding {
                keys: Some(keys), ..
            })),
        ) => keys.len(),
        _ => 1,
    }
}

/// The entries of one reference; several for `name/*`.
fn entries(
    input: &PlanInput<'_>,
    variable: &Variable,
    findings: &mut Diagnostics,
) -> Vec<EnvEntry> {
    let reference = &variable.reference;
    let secret = secret_name(input, &reference.secret);
    let name = |key: Option<&str>| match &variable.alias {
        Some(alias) => alias.to_string(),
        None => EnvVarName::for_reference(&reference.secret.name, key).to_string(),
    };
    match &reference.key {
        KeyChoice::Default => vec![EnvEntry {
            name: name(None),
            secret,
            key: DEFAULT_KEY.to_owned(),
        }],
        KeyChoice::Key(key) => vec![EnvEntry {
            name: name(Some(key.as_str())),
            secret,
            key: key.to_string(),
        }],
        KeyChoice::All => match input.bindings.get(&reference.secret) {
            Some(BindOutcome::Found(SecretBinding {
                keys: Some(keys), ..
            })) => {
                if keys.is_empty() {
                    findings.warnings.push(Warning::NothingToExpand {
                        reference: reference.clone(),
                        site: variable.site.clone(),
                    });
                }
                let entry = |key: &String| EnvEntry {
                    name: name(Some(key)),
                    secret: secret.clone(),
                    key: key.clone(),
                };
                keys.iter().map(entry).collect()
            }
            // Said already; which keys there will be, nobody knows.
            Some(BindOutcome::Missing { .. }) => Vec::new(),
            Some(BindOutcome::Found(SecretBinding { keys: None, .. }) | BindOutcome::Unchecked)
            | None => {
                findings.errors.push(PlanError::UnknownKeys {
                    reference: reference.clone(),
                    site: variable.site.clone(),
                });
                Vec::new()
            }
        },
    }
}

/// Two secrets brought in whole that have keys in common: the later one wins, and somebody should know.
fn shared_keys(input: &PlanInput<'_>, findings: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, (&SecretId, &str)> = BTreeMap::new();
    let mut shared: BTreeMap<(&SecretId, &SecretId), (&str, usize)> = BTreeMap::new();
    for Bulk { secret, .. } in &input.request.bulk {
        let Some(BindOutcome::Found(SecretBinding {
            secret_name,
            keys: Some(keys),
        })) = input.bindings.get(secret)
        else {
            continue;
        };
        for key in keys {
            match seen.insert(key, (secret, secret_name)) {
                // Two sources, one Secret.
                Some((_, same)) if same == secret_name => {}
                Some((earlier, _)) => shared.entry((earlier, secret)).or_insert((key, 0)).1 += 1,
                None => {}
            }
        }
    }
    findings
        .warnings
        .extend(
            shared
                .into_iter()
                .map(|((loser, winner), (key, count))| Warning::SharedKeys {
                    key: key.to_owned(),
                    more: count - 1,
                    loser: loser.clone(),
                    winner: winner.clone(),
                }),
        );
}
