//! Resolves references to entries: names, keys and missing secrets, independently of any container.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::binding::{BindOutcome, SecretBinding};
use crate::contract::input::PlanInput;
use crate::contract::plan_error::PlanError;
use crate::contract::request::{Bulk, Variable};
use crate::contract::secret_ref::{DEFAULT_KEY, EnvVarName, KeyChoice, SecretId, SecretKey};
use crate::contract::warning::Warning;
use crate::limits::MAX_ENTRIES;
use crate::plan::diagnostics::Diagnostics;
use crate::plan::env_entry::EnvEntry;

/// Entries that every selected container should have.
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

/// Resolves the request with the bindings of its secrets.
pub(crate) fn resolve(input: &PlanInput<'_>, diagnostics: &mut Diagnostics) -> DesiredEnv {
    for (secret, query) in input.request.key_queries() {
        check_binding(input, secret, &query.keys, diagnostics);
    }
    let mut desired = DesiredEnv::default();
    for bulk in &input.request.bulk {
        let name = secret_name(input, &bulk.secret);
        if !desired.env_from.contains(&name) {
            desired.env_from.push(name);
        }
    }
    resolve_variables(input, &mut desired, diagnostics);
    if input.discloses {
        warn_shared_keys(input, diagnostics);
    }
    desired
}

/// Adds the entries of all variables, and reports references that differ and result in the same variable.
fn resolve_variables(
    input: &PlanInput<'_>,
    desired: &mut DesiredEnv,
    diagnostics: &mut Diagnostics,
) {
    // By variable: the index of its entry, and the reference that it is from.
    let mut by_name: BTreeMap<String, (usize, &Variable)> = BTreeMap::new();
    for variable in &input.request.variables {
        let room = MAX_ENTRIES.saturating_sub(desired.len());
        if entry_count(input, variable) > room {
            diagnostics.errors.push(PlanError::TooMany {
                limit: MAX_ENTRIES,
                site: variable.site.clone(),
            });
            break;
        }
        for entry in entries(input, variable, diagnostics) {
            let earlier = by_name
                .get(&entry.name)
                .and_then(|(index, by)| Some((desired.env.get(*index)?, *by)));
            match earlier {
                None => {
                    by_name.insert(entry.name.clone(), (desired.env.len(), variable));
                    if variable.alias.is_some() && variable.site.origin.is_default() {
                        desired.by_default.insert(entry.name.clone());
                    }
                    desired.env.push(entry);
                }
                Some((same, _)) if *same == entry => {}
                Some((other, by)) => diagnostics.errors.push(PlanError::Collision {
                    one: describe_reference(by, &other.key),
                    other: describe_reference(variable, &entry.key),
                    variable: entry.name,
                    site: variable.site.clone(),
                }),
            }
        }
    }
}

/// A reference with its annotation; for `name/*` also the key that is meant.
fn describe_reference(variable: &Variable, key: &str) -> String {
    let Variable {
        reference, site, ..
    } = variable;
    match reference.key {
        KeyChoice::All => format!("{}/{key} of {reference} ({site})", reference.secret),
        KeyChoice::Default | KeyChoice::Key(_) => format!("{reference} ({site})"),
    }
}

/// Reports the secret if it is missing, otherwise those of `keys` that it lacks.
fn check_binding(
    input: &PlanInput<'_>,
    secret: &SecretId,
    keys: &BTreeSet<SecretKey>,
    diagnostics: &mut Diagnostics,
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
            diagnostics.report_missing(input, error);
        }
        Some(BindOutcome::Found(binding)) => {
            let Some(known) = &binding.keys else { return };
            for key in keys.iter().filter(|key| !known.contains(key.as_str())) {
                let references_key = |v: &&Variable| {
                    v.reference.secret == *secret
                        && match &v.reference.key {
                            KeyChoice::Key(wanted) => wanted == key,
                            KeyChoice::Default => key.as_str() == DEFAULT_KEY,
                            KeyChoice::All => false,
                        }
                };
                let variable = input.request.variables.iter().find(references_key);
                let error = PlanError::MissingKey {
                    secret: secret.clone(),
                    key: key.clone(),
                    namespace: namespace.clone(),
                    near: diagnostics.similar_key(input, key, known),
                    by_default: variable.is_some_and(|v| v.reference.key == KeyChoice::Default),
                    site: variable.map_or_else(|| site.clone(), |v| v.site.clone()),
                };
                diagnostics.report_missing(input, error);
            }
        }
    }
}

/// Name of the Secret in the pod's namespace; the referenced name if there is no binding.
fn secret_name(input: &PlanInput<'_>, secret: &SecretId) -> String {
    match input.bindings.get(secret) {
        Some(BindOutcome::Found(binding)) => binding.secret_name.clone(),
        Some(BindOutcome::Missing { .. } | BindOutcome::Unchecked) | None => {
            secret.name.to_string()
        }
    }
}

/// Number of entries of a reference, known before any of them is created: a Secret may have thousands of keys.
fn entry_count(input: &PlanInput<'_>, variable: &Variable) -> usize {
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

/// Entries of one reference; several for `name/*`.
fn entries(
    input: &PlanInput<'_>,
    variable: &Variable,
    diagnostics: &mut Diagnostics,
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
                    diagnostics.warnings.push(Warning::NoKeys {
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
            // Already reported as missing; its keys are unknown.
            Some(BindOutcome::Missing { .. }) => Vec::new(),
            Some(BindOutcome::Found(SecretBinding { keys: None, .. }) | BindOutcome::Unchecked)
            | None => {
                diagnostics.errors.push(PlanError::UnknownKeys {
                    reference: reference.clone(),
                    site: variable.site.clone(),
                });
                Vec::new()
            }
        },
    }
}

/// Warns about keys that two secrets of `env-from` have in common: the value of the later secret is used.
fn warn_shared_keys(input: &PlanInput<'_>, diagnostics: &mut Diagnostics) {
    let mut last_with_key: BTreeMap<&str, (&SecretId, &str)> = BTreeMap::new();
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
            match last_with_key.insert(key, (secret, secret_name)) {
                // Two references that are bound to the same Secret.
                Some((_, same)) if same == secret_name => {}
                Some((earlier, _)) => shared.entry((earlier, secret)).or_insert((key, 0)).1 += 1,
                None => {}
            }
        }
    }
    diagnostics
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
