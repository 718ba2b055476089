//! Checks of a plan, before anything is rendered: names, conflicts, limits of annotations.

use std::collections::{BTreeMap, BTreeSet};

use injection::{
    EnvVarName, InfisicalPath, MAX_ITEMS, MAX_SECRETS, MAX_TOTAL_BYTES, MAX_VALUE_BYTES,
    SecretReference, SecretSource,
};

use super::draft::Draft;
use super::options::PlanOptions;
use crate::compile::adapter::FieldType;
use crate::compile::annotations::annotations as make_annotations;
use crate::compile::demand::{Delivery, Demand};
use crate::compile::mask::MAX_ALIAS;
use crate::compile::model::Manifest;
use crate::finding::{FileFinding, FindingSeverity, Place, Rule};

/// Characters of a name of a profile or a target.
pub(crate) const MAX_PROFILE_NAME: usize = 128;

/// Targets of one profile. Each has a copy of the output.
pub(crate) const MAX_TARGETS: usize = 20;

/// Characters of a secret's name in `infisical.<name>`: the operator writes longer annotations with it.
const MAX_INFISICAL_NAME: usize = 48;

/// Checks the names of the profile and of its targets.
pub(super) fn names(options: &PlanOptions, manifest: &Manifest) -> Vec<FileFinding> {
    let mut findings = Vec::new();
    let file = manifest
        .plugins
        .values()
        .next()
        .map(|plugin| plugin.place.file.clone());
    let place = Place {
        file: file.unwrap_or_else(|| "manifest.yaml".into()),
        position: None,
        field: String::new(),
    };
    let mut refuse = |message: String| {
        findings.push(FileFinding {
            rule: Rule::ManifestField,
            severity: FindingSeverity::Error,
            place: place.clone(),
            message,
            excerpt: None,
        });
    };
    if !is_profile_name(&options.profile_name) {
        refuse(format!(
            "the name of the profile is not usable: a name has letters, digits, '_', '-', '.' and spaces, and at most {MAX_PROFILE_NAME} characters. Set another one by --profile."
        ));
    }
    if options.targets.is_empty() || options.targets.len() > MAX_TARGETS {
        refuse(format!(
            "a profile has 1 to {MAX_TARGETS} targets. Correct --targets."
        ));
    }
    let unique: BTreeSet<&String> = options.targets.iter().collect();
    if unique.len() < options.targets.len()
        || !options.targets.iter().all(|name| is_profile_name(name))
    {
        refuse(
            "the targets have to be different names of letters, digits, '_', '-', '.' and spaces. Correct --targets.".to_owned(),
        );
    }
    if !options.targets.contains(&options.default_target) {
        refuse("the default target is not one of the targets. Correct --targets.".to_owned());
    }
    findings
}

/// Whether a text may be the name of a profile or a target.
pub(crate) fn is_profile_name(text: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b' ');
    !text.is_empty()
        && text.len() <= MAX_PROFILE_NAME
        && text.bytes().all(inner)
        && text.trim() == text
}

/// Refuses variables with two origins, and values that dbt reads as two types.
pub(super) fn demands(draft: &Draft<'_>, findings: &mut Vec<FileFinding>) {
    let mut by_variable: BTreeMap<&EnvVarName, &Demand> = BTreeMap::new();
    for demand in &draft.demands {
        let earlier = by_variable.entry(&demand.variable).or_insert(demand);
        if !is_same(&earlier.reference, &demand.reference) {
            let message = format!(
                "the variable {} would come from {} here, and from {} in {}. Rename one of the keys, or one of the secrets.",
                demand.variable, demand.reference, earlier.reference, earlier.place.field
            );
            findings.push(conflict(&demand.place, message));
        }
    }
    for elsewhere in &draft.elsewhere {
        if let Some(demand) = by_variable.get(&elsewhere.variable) {
            let message = format!(
                "the variable {} has to come from elsewhere here, and comes from {} in {}. Use one of both.",
                elsewhere.variable, demand.reference, demand.place.field
            );
            findings.push(conflict(&elsewhere.place, message));
        }
    }
    let of_demands = draft
        .demands
        .iter()
        .map(|d| (&d.variable, d.field_type, &d.place));
    let of_author = draft
        .elsewhere
        .iter()
        .map(|e| (&e.variable, e.field_type, &e.place));
    let mut types: BTreeMap<&EnvVarName, FieldType> = BTreeMap::new();
    for (variable, field_type, place) in of_demands.chain(of_author) {
        if field_type == FieldType::Text {
            continue;
        }
        let earlier = types.entry(variable).or_insert(field_type);
        if *earlier != field_type {
            let message = format!(
                "the variable {variable} is read as two types, so one of both fails. Use two keys."
            );
            findings.push(conflict(place, message));
        }
    }
}

/// Whether two references are the same key of the same secret.
fn is_same(one: &SecretReference, other: &SecretReference) -> bool {
    one.secret == other.secret && one.data_key() == other.data_key()
}

fn conflict(place: &Place, message: String) -> FileFinding {
    error(Rule::VariableConflict, place, message)
}

fn error(rule: Rule, place: &Place, message: String) -> FileFinding {
    FileFinding {
        rule,
        severity: FindingSeverity::Error,
        place: place.clone(),
        message,
        excerpt: None,
    }
}

/// Annotations for the demands; none if the webhook would refuse them for their number or length.
pub(super) fn annotations(
    demands: &[Demand],
    infisical: Option<&InfisicalPath>,
    findings: &mut Vec<FileFinding>,
) -> BTreeMap<String, String> {
    let secrets: BTreeSet<_> = demands
        .iter()
        .map(|demand| &demand.reference.secret)
        .collect();
    let references: BTreeSet<_> = demands
        .iter()
        .map(|demand| demand.reference.to_string())
        .collect();
    // Before anything is made of them, so that the work is bounded.
    let limits = [
        (secrets.len(), MAX_SECRETS, "secrets"),
        (references.len(), MAX_ITEMS, "references"),
    ];
    if refuse_more(&limits, demands, findings) {
        return BTreeMap::new();
    }
    let annotations = make_annotations(demands, infisical);
    let lengths = annotations.values().map(String::len);
    let bytes = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let limits = [
        (annotations.len(), MAX_ITEMS, "annotations"),
        (
            lengths.max().unwrap_or_default(),
            MAX_VALUE_BYTES,
            "bytes in one annotation",
        ),
        (bytes, MAX_TOTAL_BYTES, "bytes of annotations"),
    ];
    refuse_more(&limits, demands, findings);
    let has_path = annotations.keys().any(|key| key.contains("/infisical."));
    names_of_demands(demands, has_path, findings);
    annotations
}

/// Refuses numbers beyond their limits; whether there is one.
fn refuse_more(
    limits: &[(usize, usize, &str)],
    demands: &[Demand],
    findings: &mut Vec<FileFinding>,
) -> bool {
    let count = findings.len();
    for (number, limit, unit) in limits {
        if number > limit
            && let Some(first) = demands.first()
        {
            let message = format!(
                "the config needs {number} {unit}; a pod may have at most {limit}. Use fewer references, or shorter names."
            );
            findings.push(error(Rule::Annotation, &first.place, message));
        }
    }
    findings.len() > count
}

/// Refuses names that are too long for an annotation. `has_path` is whether secrets have their path in Infisical.
fn names_of_demands(demands: &[Demand], has_path: bool, findings: &mut Vec<FileFinding>) {
    for demand in demands {
        let secret = &demand.reference.secret;
        if secret.source == SecretSource::Infisical
            && has_path
            && secret.name.as_str().len() > MAX_INFISICAL_NAME
        {
            let message = format!(
                "the name of a secret in Infisical has at most {MAX_INFISICAL_NAME} characters. Use a shorter one."
            );
            findings.push(error(Rule::Reference, &demand.place, message));
        }
        let is_alias = demand.delivery == Delivery::Alias;
        if is_alias && demand.variable.as_str().len() > MAX_ALIAS {
            let message = format!(
                "the variable {} has more than {MAX_ALIAS} characters, which is too long for an annotation.",
                demand.variable
            );
            findings.push(error(Rule::Annotation, &demand.place, message));
        }
    }
}
