//! Reload annotation of a pod: information for people, because Reloader never reads pods.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::binding::BindOutcome;
use crate::contract::input::PlanInput;
use crate::contract::request::{InjectionRequest, ReloadMode};
use crate::contract::secret_ref::SecretId;
use crate::keys::RELOADER_LIST as LIST;
use crate::reload::annotations::{ReloadAnnotations, is_too_long, reload_annotations};
use crate::reload::reloader_config::ReloaderConfig;

/// Bytes of a pod's list. Annotations are limited to 256 KiB per object; this one is informational, so it is capped
/// well below.
const MAX_POD_LIST_BYTES: usize = 4096;

/// Entries for the Secrets of a pod, planned from its own annotations as for a workload. Nothing that the author wrote
/// is changed: if the pod has a list already, there is nothing to add.
pub(crate) fn pod_reload_record(input: &PlanInput<'_>) -> Vec<String> {
    let mode = input.request.reload;
    let by_reloader = matches!(mode, ReloadMode::Auto | ReloadMode::Reloader);
    let owners = input
        .pod
        .metadata
        .iter()
        .flat_map(|metadata| metadata.owner_references.iter().flatten());
    // A Job is never restarted: its next run reads the new value.
    let of_a_job = owners.into_iter().any(|owner| owner.kind.as_str() == "Job");
    if is_too_long(input.pod.annotations()) {
        return Vec::new();
    }
    let author = reload_annotations(input.pod.annotations());
    if !by_reloader || of_a_job || author.contains_key(LIST) {
        return Vec::new();
    }
    let config = ReloaderConfig {
        author: &author,
        template: &ReloadAnnotations::new(),
    };
    let secrets = restarting_secrets(input.request, input.bindings);
    let list = config
        .plan_list(mode, &secrets, true)
        .map(|written| written.list)
        .unwrap_or_default();
    let length: usize = list.iter().map(|entry| entry.len() + 1).sum();
    if length > MAX_POD_LIST_BYTES {
        Vec::new()
    } else {
        list
    }
}

/// Names of the Secrets whose change should restart a workload, in the order of the references.
#[must_use]
pub fn restarting_secrets(
    request: &InjectionRequest,
    bindings: &BTreeMap<SecretId, BindOutcome>,
) -> Vec<String> {
    let mut known = BTreeSet::new();
    let names = request
        .key_queries()
        .into_keys()
        .map(|secret| match bindings.get(secret) {
            Some(BindOutcome::Found(binding)) => binding.secret_name.clone(),
            Some(BindOutcome::Missing { .. } | BindOutcome::Unchecked) | None => {
                secret.name.to_string()
            }
        });
    names.filter(|name| known.insert(name.clone())).collect()
}
