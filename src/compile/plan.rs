//! Plans a compilation: a valid manifest in, the profile and the annotations out, both from one list of demands.

mod adapter_rules;
mod checks;
mod config;
mod connection;
mod draft;
mod options;

use std::collections::BTreeMap;

pub(crate) use self::checks::{MAX_PROFILE_NAME, MAX_TARGETS, is_profile_name};
use self::draft::Draft;
pub(crate) use self::options::{ConnectionKeys, PlanOptions};
use super::adapter;
use super::annotations::annotations;
use super::demand::{Demand, Elsewhere};
use super::guarantee;
use super::model::{Manifest, Plugin};
use super::profile::{ProfileNames, ProfileValue, profile};
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
    /// Annotations for the pods of other plugins, by category.
    pub plugins: BTreeMap<String, BTreeMap<String, String>>,
    /// Variables of the profile that nothing is injected for.
    pub elsewhere: Vec<Elsewhere>,
    pub demands: Vec<Demand>,
    pub warnings: Vec<FileFinding>,
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
    let annotations = annotations(&demands, manifest.infisical.as_ref());
    checks::annotations(&demands, &annotations, &mut findings);
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
    let profile = profile(&names, &output, &demands);
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
    for field in &plugin.config {
        if field.name == "type" {
            let message =
                "is the plugin's own type in the profile. Rename the field, or remove it.";
            draft.refuse(Rule::AdapterField, &field.place, message.to_owned());
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

/// Annotations of the other plugins. Their references never get into the profile.
fn plugin_sets(
    manifest: &Manifest,
    options: &PlanOptions,
    findings: &mut Vec<FileFinding>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, PlanFailure> {
    let mut sets = BTreeMap::new();
    let mut bug = None;
    for (category, plugin) in manifest.plugins.iter().filter(|(name, _)| *name != COMPUTE) {
        let mut draft = Draft::new(options);
        draft.references_only(&plugin.config);
        connection::whole_secret(plugin, manifest, &mut draft);
        checks::demands(&draft, findings);
        findings.append(&mut draft.findings);
        let set = annotations(&draft.demands, manifest.infisical.as_ref());
        checks::annotations(&draft.demands, &set, findings);
        if findings.is_empty() {
            bug = bug.or(guarantee::check_annotations(&set, &draft.demands).err());
        }
        if !set.is_empty() {
            sets.insert(category.clone(), set);
        }
    }
    bug.map_or(Ok(sets), |bug| Err(PlanFailure::Bug(bug)))
}

fn no_compute(manifest: &Manifest) -> FileFinding {
    let file = manifest.plugins.values().next().map_or_else(
        || "manifest.yaml".into(),
        |plugin| plugin.place.file.clone(),
    );
    FileFinding {
        rule: Rule::ManifestField,
        severity: FindingSeverity::Error,
        place: Place { file, position: None, field: "plugins.compute".to_owned() },
        message: "there is no compute plugin, so there is no profile to write. Add plugins.compute with a type, such as duckdb or snowflake.".to_owned(),
        excerpt: None,
    }
}

#[cfg(test)]
mod tests;
