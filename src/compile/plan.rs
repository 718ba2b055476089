//! Plans a compilation: a valid manifest in, the profile and the annotations out, both from one list of demands.

mod adapter_rules;
mod checks;
mod config;
mod connection;
mod draft;
mod literal;
mod options;
mod references;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::checks::{MAX_PROFILE_NAME, MAX_TARGETS, is_profile_name};
use self::draft::Draft;
#[cfg(test)]
pub(crate) use self::draft::{MAX_NAME, MAX_PATH};
pub(crate) use self::options::{ConnectionKeys, PlanOptions};
use super::adapter;
use super::demand::{Demand, Elsewhere};
use super::guarantee;
use super::model::{Manifest, Plugin};
use super::profile::{MAX_PROFILE_BYTES, ProfileNames, ProfileValue, profile};
use crate::finding::{FileFinding, FindingSeverity, Place, Rule};

/// Category of the plugin that the profile is for.
const COMPUTE: &str = "compute";

/// Everything that is written from a manifest. Nothing in it is a secret, so it may be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// Text of `profiles.yml`.
    pub profile: String,
    /// Annotations for the pods that run dbt.
    pub annotations: BTreeMap<String, String>,
    /// Output for the pods of other plugins, by category.
    pub plugins: BTreeMap<String, PluginOutput>,
    /// Variables of the profile that nothing is injected for.
    pub elsewhere: Vec<Elsewhere>,
    pub demands: Vec<Demand>,
    pub warnings: Vec<FileFinding>,
}

/// Annotations of a plugin that has no profile, and the references that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginOutput {
    pub annotations: BTreeMap<String, String>,
    pub demands: Vec<Demand>,
    /// Variables that nothing is injected for.
    pub elsewhere: Vec<Elsewhere>,
}

impl Compiled {
    /// Demands of all plugins.
    pub(crate) fn all_demands(&self) -> Vec<&Demand> {
        let of_plugins = self.plugins.values().flat_map(|output| &output.demands);
        self.demands.iter().chain(of_plugins).collect()
    }
}

/// A plan that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlanFailure {
    /// Problems in the manifest, all of them.
    Refused(Vec<FileFinding>),
    /// The outputs do not match each other. The text has names alone, and is for a report of the bug.
    Bug(String),
}

/// Plans the profile and the annotations of a manifest, and checks that they match.
///
/// # Errors
/// [`PlanFailure::Refused`] for problems that the manifest's author can correct. [`PlanFailure::Bug`] if the profile asks
/// for other variables than the annotations inject: nothing may be printed then.
pub(crate) fn plan(manifest: &Manifest, options: &PlanOptions) -> Result<Compiled, PlanFailure> {
    let mut findings = checks::names(options, manifest);
    let mut draft = Draft::new(options);
    let output = if let Some(plugin) = manifest.plugins.get(COMPUTE) {
        compute(plugin, manifest, options, &mut draft)
    } else {
        findings.push(no_compute(manifest));
        Vec::new()
    };
    let plugins = plugin_sets(manifest, options, &mut findings);
    checks::demands(&draft, &mut findings);
    findings.append(&mut draft.findings);
    let Draft {
        demands,
        elsewhere,
        mut warnings,
        ..
    } = draft;
    let annotations = checks::annotations(&demands, manifest.infisical.as_ref(), &mut findings);
    if !findings.is_empty() {
        findings.sort_by(|one, other| one.place.cmp(&other.place));
        findings.dedup();
        return Err(PlanFailure::Refused(findings));
    }
    let names = ProfileNames {
        profile: &options.profile_name,
        targets: &options.targets,
        default_target: &options.default_target,
    };
    let profile = profile(&names, &output, &demands)
        .ok_or_else(|| PlanFailure::Refused(vec![too_large(manifest)]))?;
    guarantee::check_profile(&names, &profile, &annotations, &demands, &elsewhere)
        .map_err(PlanFailure::Bug)?;
    warnings.sort_by(|one, other| one.place.cmp(&other.place));
    warnings.dedup();
    Ok(Compiled {
        profile,
        annotations,
        plugins: plugins?,
        elsewhere,
        demands,
        warnings,
    })
}

/// Output of the profile.
fn compute(
    plugin: &Plugin,
    manifest: &Manifest,
    options: &PlanOptions,
    draft: &mut Draft<'_>,
) -> Vec<(String, ProfileValue)> {
    let adapter = adapter::adapter(&plugin.kind);
    draft.kind.clone_from(&plugin.kind);
    let mut output = vec![("type".to_owned(), ProfileValue::Text(plugin.kind.clone()))];
    draft.refuse_jinja(&plugin.kind, &plugin.place);
    if options.env_from && plugin.connection.is_none() {
        let message = "--env-from injects the Secret of connection_secret_ref, and there is none. Name it, or remove --env-from.";
        draft.refuse(Rule::AdapterField, &plugin.place, message.to_owned());
    }
    if let Some(adapter) = adapter {
        refuse_twice(adapter, plugin, draft);
    }
    for field in &plugin.config {
        if field.name == "type" {
            let message =
                "is the plugin's own type in the profile. Rename the field, or remove it.";
            draft.refuse(Rule::AdapterField, &field.place, message.to_owned());
            continue;
        }
        if draft.refuse_name(&field.name, &field.place) {
            continue;
        }
        // Null in a field of the connection leaves it out.
        let value = draft.value(&field.name, &field.value, &field.place, false);
        output.extend(value.map(|value| (field.name.clone(), value)));
    }
    if let Some(adapter) = adapter {
        connection::expand(adapter, plugin, manifest, options, draft, &mut output);
    } else if let Some(connection) = &plugin.connection {
        let message = format!(
            "the fields that a connection of type {:?} needs are not known here. Write each of them in config, as a value or as {{secretRef: {{name: …, key: …}}}}, and remove connection_secret_ref.",
            plugin.kind
        );
        draft.refuse(Rule::AdapterField, &connection.place, message);
    }
    adapter_rules::apply(plugin, draft, &mut output);
    output
}

/// Refuses two fields that dbt reads as one.
fn refuse_twice(adapter: &adapter::Adapter, plugin: &Plugin, draft: &mut Draft<'_>) {
    let mut known = BTreeSet::new();
    for field in &plugin.config {
        let canonical = adapter.canonical(&field.name);
        if !known.insert(canonical) {
            let message = format!(
                "is {canonical} under another of its names, so dbt would get it twice. Remove one of both."
            );
            draft.refuse(Rule::AdapterField, &field.place, message);
        }
    }
}

/// Output for the other plugins. Their references never get into the profile.
fn plugin_sets(
    manifest: &Manifest,
    options: &PlanOptions,
    findings: &mut Vec<FileFinding>,
) -> Result<BTreeMap<String, PluginOutput>, PlanFailure> {
    let mut sets = BTreeMap::new();
    let mut bug = None;
    for (category, plugin) in manifest.plugins.iter().filter(|(name, _)| *name != COMPUTE) {
        let mut draft = Draft::new(options);
        draft.references_only(&plugin.config);
        connection::whole_secret(plugin, manifest, &mut draft);
        checks::demands(&draft, findings);
        findings.append(&mut draft.findings);
        let demands = draft.demands;
        let set = checks::annotations(&demands, manifest.infisical.as_ref(), findings);
        if findings.is_empty() {
            bug = bug.or(guarantee::check_annotations(&set, &demands).err());
        }
        if !demands.is_empty() || !draft.elsewhere.is_empty() {
            let output = PluginOutput {
                annotations: set,
                demands,
                elsewhere: draft.elsewhere,
            };
            sets.insert(category.clone(), output);
        }
    }
    bug.map_or(Ok(sets), |bug| Err(PlanFailure::Bug(bug)))
}

fn no_compute(manifest: &Manifest) -> FileFinding {
    let message = "there is no compute plugin, so there is no profile to write. Add plugins.compute with a type, such as duckdb or snowflake.";
    about_compute(manifest, Rule::ManifestField, message.to_owned())
}

fn too_large(manifest: &Manifest) -> FileFinding {
    let message = format!(
        "the profile would have more than {MAX_PROFILE_BYTES} bytes. Use fewer targets, or a smaller config."
    );
    about_compute(manifest, Rule::AdapterField, message)
}

fn about_compute(manifest: &Manifest, rule: Rule, message: String) -> FileFinding {
    let compute = manifest.plugins.get(COMPUTE);
    let file = compute.or(manifest.plugins.values().next()).map_or_else(
        || "manifest.yaml".into(),
        |plugin| plugin.place.file.clone(),
    );
    FileFinding {
        rule,
        severity: FindingSeverity::Error,
        place: Place {
            file,
            position: compute.and_then(|plugin| plugin.place.position),
            field: "plugins.compute".to_owned(),
        },
        message,
        excerpt: None,
    }
}

#[cfg(test)]
mod tests;
