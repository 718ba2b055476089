//! The guarantee: variables that the profile reads are the variables that the annotations inject, each once, from the
//! same secret and key.
//!
//! Both outputs are read back, by code that did not write them: the profile as dbt does, the annotations by the parser
//! and the planner of the webhook. A mismatch is a bug of this program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use injection::{
    AnnotationLayers, Annotations, BindOutcome, Decision, InjectionPlan, InjectionRequest, PREFIX,
    PlanInput, PlanTarget, PodView, SecretBinding, SecretId, SkipReason,
};
use serde_json::{Value, json};

use super::adapter::FieldType;
use super::demand::{Delivery, Demand, Elsewhere};
use super::profile::{MAX_PROFILE_BYTES, ProfileNames};
use crate::dbt::{self, Environment, Rendered};
use crate::yaml::{self, YamlLimits};

/// Limits of the written profile, in which every value has a byte at least.
const PROFILE_LIMITS: YamlLimits = YamlLimits {
    bytes: MAX_PROFILE_BYTES,
    depth: 70,
    nodes: MAX_PROFILE_BYTES,
    aliases: 0,
    key_bytes: YamlLimits::HAND_WRITTEN.key_bytes,
};

/// A pod that runs dbt.
const POD: &str = r#"{"spec":{"containers":[{"name":"dbt"}]}}"#;

/// Variable, secret, and key.
type Injected = BTreeMap<String, (String, String)>;

/// Checks a profile and its annotations against the demands, and so against each other.
///
/// # Errors
/// The first mismatch, by names.
pub(super) fn check_profile(
    names: &ProfileNames<'_>,
    profile: &str,
    annotations: &BTreeMap<String, String>,
    demands: &[Demand],
    elsewhere: &[Elsewhere],
) -> Result<(), String> {
    check_annotations(annotations, demands)?;
    let profiles = yaml::parse(profile, PROFILE_LIMITS)
        .map_err(|error| format!("the profile is not valid YAML: {error}"))?;
    let values = Arc::new(sample_values(demands, elsewhere));
    let read = Arc::clone(&values);
    let environment: Environment = Arc::new(move |name: &str| read.get(name).cloned());
    let others = names.targets.iter().map(String::as_str);
    let others = others.filter(|target| *target != names.default_target);
    // dbt selects the default target without a name.
    for target in others.map(Some).chain([None]) {
        let rendered = dbt::rendered(&profiles, names.profile, target, &environment)
            .map_err(|error| format!("dbt would refuse the profile: {error}"))?;
        if rendered.target != target.unwrap_or(names.default_target) {
            return Err("the profile selects another target by default".to_owned());
        }
        check_rendered(&rendered, &values, demands, elsewhere)?;
    }
    Ok(())
}

/// A value for each variable that dbt accepts in all fields that read it.
fn sample_values(demands: &[Demand], elsewhere: &[Elsewhere]) -> BTreeMap<String, String> {
    let of_demands = demands
        .iter()
        .map(|demand| (&demand.variable, demand.field_type));
    let of_author = elsewhere
        .iter()
        .map(|variable| (&variable.variable, variable.field_type));
    let mut types: BTreeMap<&str, FieldType> = BTreeMap::new();
    for (variable, field_type) in of_demands.chain(of_author) {
        let known = types.entry(variable.as_str()).or_insert(field_type);
        *known = (*known).max(field_type);
    }
    let value = |(index, (name, field_type)): (usize, (&str, FieldType))| {
        let value = match field_type {
            FieldType::Text => format!("value of {name}"),
            FieldType::Number => (1_000 + index).to_string(),
            FieldType::Boolean => "true".to_owned(),
            FieldType::Native => format!("{{\"value\": \"{name}\"}}"),
        };
        (name.to_owned(), value)
    };
    types.into_iter().enumerate().map(value).collect()
}

/// Checks one rendered output: it reads the variables of the demands at their places, and no others.
fn check_rendered(
    rendered: &Rendered,
    values: &BTreeMap<String, String>,
    demands: &[Demand],
    elsewhere: &[Elsewhere],
) -> Result<(), String> {
    let above = format!("outputs.{}.", rendered.target);
    let read: BTreeSet<(&str, &str)> = rendered
        .variables
        .iter()
        .map(|variable| {
            (
                variable.path.strip_prefix(&above).unwrap_or(&variable.path),
                &*variable.name,
            )
        })
        .collect();
    let demanded: BTreeSet<(&str, &str)> = demands
        .iter()
        .map(|demand| (&*demand.field, demand.variable.as_str()))
        .collect();
    let by_author: BTreeSet<&str> = elsewhere.iter().map(|e| e.variable.as_str()).collect();
    if let Some((path, name)) = demanded.difference(&read).next() {
        return Err(format!("the profile does not read {name} in {path}"));
    }
    let unknown = read
        .difference(&demanded)
        .find(|(_, name)| !by_author.contains(name));
    if let Some((path, name)) = unknown {
        return Err(format!(
            "the profile reads {name} in {path}, which nothing demands"
        ));
    }
    let names: BTreeSet<&str> = read.iter().map(|(_, name)| *name).collect();
    if let Some(name) = by_author.difference(&names).next() {
        return Err(format!(
            "the profile does not read {name}, which its author wrote"
        ));
    }
    check_values(rendered, values, demands)
}

/// Checks that every demand is at its place, with the value of its variable.
fn check_values(
    rendered: &Rendered,
    values: &BTreeMap<String, String>,
    demands: &[Demand],
) -> Result<(), String> {
    // A name with a dot in it may give two values the same path.
    let demanded = demands.iter().map(|demand| (&*demand.field, Vec::new()));
    let mut fields = DemandedFields {
        path: String::new(),
        values: demanded.collect(),
    };
    fields.collect(&rendered.value);
    for demand in demands {
        let sample = values
            .get(demand.variable.as_str())
            .map(String::as_str)
            .unwrap_or_default();
        let expected = match demand.field_type {
            FieldType::Text => json!(sample),
            FieldType::Number => json!(sample.parse::<i64>().unwrap_or_default()),
            FieldType::Boolean => json!(true),
            FieldType::Native => json!({"value": demand.variable.as_str()}),
        };
        let found = fields.values.get(&*demand.field);
        if found.is_none_or(|values| !values.contains(&&expected)) {
            return Err(format!(
                "dbt reads another value than that of {} in {}",
                demand.variable, demand.field
            ));
        }
    }
    Ok(())
}

/// Values of the fields with a demand, by their paths below an output.
struct DemandedFields<'d, 'v> {
    /// Path of the value that is looked at, with a dot before it.
    path: String,
    values: BTreeMap<&'d str, Vec<&'v Value>>,
}

impl<'v> DemandedFields<'_, 'v> {
    fn collect(&mut self, value: &'v Value) {
        let length = self.path.len();
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    self.path.push('.');
                    self.path.push_str(name);
                    self.collect(value);
                    self.path.truncate(length);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    let _ = write!(self.path, "[{index}]");
                    self.collect(value);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
        let path = self.path.strip_prefix('.');
        if let Some(values) = path.and_then(|path| self.values.get_mut(path)) {
            values.push(value);
        }
    }
}

/// Checks that the annotations inject the demanded variables and no others.
///
/// # Errors
/// The first mismatch, by names.
pub(super) fn check_annotations(
    annotations: &BTreeMap<String, String>,
    demands: &[Demand],
) -> Result<(), String> {
    if let Some(name) = annotations.keys().find(|name| !name.starts_with(PREFIX)) {
        return Err(format!("{name} is not an annotation of the webhook"));
    }
    let injected = injected(annotations, demands)?;
    let mut demanded = Injected::new();
    for demand in demands {
        let key = demand.reference.data_key().ok_or("a demand has no key")?;
        let from = (demand.reference.secret.to_string(), key.to_string());
        demanded.insert(demand.variable.to_string(), from);
    }
    for (variable, from) in &demanded {
        match injected.get(variable) {
            None => return Err(format!("nothing injects {variable}")),
            Some(other) if other != from => {
                return Err(format!(
                    "{variable} would be injected from another secret or key"
                ));
            }
            Some(_) => {}
        }
    }
    match injected
        .keys()
        .find(|variable| !demanded.contains_key(*variable))
    {
        Some(variable) => Err(format!("{variable} is injected, and nothing demands it")),
        None => Ok(()),
    }
}

/// Variables that a pod gets, by the webhook's own parser and planner.
fn injected(
    annotations: &BTreeMap<String, String>,
    demands: &[Demand],
) -> Result<Injected, String> {
    let pairs = annotations
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let object = Annotations::from_pairs(pairs);
    let layers = AnnotationLayers {
        object: Some(&object),
        ..AnnotationLayers::default()
    };
    let request = match injection::parse(&layers) {
        Ok(Decision::Inject(request)) => request,
        Ok(Decision::Skip(SkipReason::NotRequested)) => return Ok(Injected::new()),
        Ok(Decision::Skip(_)) => return Err("the annotations opt out".to_owned()),
        Err(invalid) => {
            let first = invalid.first().map(ToString::to_string).unwrap_or_default();
            return Err(format!("the webhook would refuse the annotations: {first}"));
        }
    };
    check_paths(&request)?;
    let plan = planned(&request, demands)?;
    let mut injected = Injected::new();
    let mut add = |variable: &str, secret: &str, key: &str| {
        let from = (secret.to_owned(), key.to_owned());
        match injected.insert(variable.to_owned(), from) {
            None => Ok(()),
            Some(_) => Err(format!("{variable} would be injected twice")),
        }
    };
    for container in &plan.containers {
        for entry in container.env_before.iter().chain(&container.env_after) {
            add(&entry.name, &entry.secret, &entry.key)?;
        }
        for (_, secret) in &container.env_from {
            let keys = bulk_keys(secret, demands);
            if keys.is_empty() {
                return Err(format!(
                    "{secret} is injected whole, and nothing demands it"
                ));
            }
            for key in keys {
                add(&key, secret, &key)?;
            }
        }
    }
    Ok(injected)
}

/// Plan of a pod whose secrets have exactly the demanded keys.
fn planned(request: &InjectionRequest, demands: &[Demand]) -> Result<InjectionPlan, String> {
    let mut bindings = BTreeMap::new();
    for secret in request.key_queries().into_keys() {
        let keys = demands
            .iter()
            .filter(|demand| demand.reference.secret == *secret);
        let keys = keys.filter_map(|demand| demand.reference.data_key());
        let binding = SecretBinding {
            // Names of two sources would be the same in a namespace, and have to be told apart here.
            secret_name: secret.to_string(),
            keys: Some(keys.map(|key| key.to_string()).collect()),
        };
        bindings.insert(SecretId::clone(secret), BindOutcome::Found(binding));
    }
    let pod: PodView<'_> =
        serde_json::from_str(POD).map_err(|error| format!("the pod is not valid: {error}"))?;
    let input = PlanInput {
        target: PlanTarget::Pod,
        pod: &pod,
        namespace: "default",
        request,
        bindings: &bindings,
        sidecars: &[],
        discloses: false,
    };
    injection::plan(&input).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        format!("the webhook would refuse the pod: {first}")
    })
}

/// Keys that are demanded from a secret that is injected whole.
fn bulk_keys(secret: &str, demands: &[Demand]) -> BTreeSet<String> {
    let of_secret = |demand: &&Demand| {
        matches!(demand.delivery, Delivery::EnvFrom | Delivery::Whole)
            && demand.reference.secret.to_string() == secret
    };
    let keys = demands
        .iter()
        .filter(of_secret)
        .filter_map(|demand| demand.reference.data_key());
    keys.map(|key| key.to_string()).collect()
}

/// Checks that Infisical's path is there for all of its secrets, or for none.
fn check_paths(request: &InjectionRequest) -> Result<(), String> {
    let mut secrets = request
        .key_queries()
        .into_keys()
        .filter(|secret| secret.source == injection::SecretSource::Infisical);
    let lacks = |secret: &&SecretId| !request.infisical.contains_key(&secret.name);
    match secrets.find(lacks) {
        Some(secret) if !request.infisical.is_empty() => {
            Err(format!("the path of {secret} in Infisical is missing"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
