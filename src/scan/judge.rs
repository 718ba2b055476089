//! The judgement, pure: does an object run without what its annotations ask for?
//!
//! By content and with the planner that admission uses: whatever the plan would add is missing. Our own label proves
//! nothing. No secret is looked at: a reference that is there was injected, whatever became of the secret since.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::error::AdmissionError;
use crate::admission::response::sentences;
use crate::injection::{
    self, Annotations, Bound, ContainerPlan, ContainerView, DEFAULT_KEY, Decision, INJECTED, InjectionRequest, PREFIX,
    Pattern, PlanInput, PodView, SecretBinding, SecretId, Sources, Subject,
};

/// What a running pod lacks, each a sentence; none when it has everything.
#[must_use]
pub fn pod(namespace: &str, pod: &PodView<'_>, sources: &Sources<'_>, sidecars: &[Pattern]) -> Vec<String> {
    let request = match injection::parse(sources) {
        Ok(Decision::Skip(_)) => return Vec::new(),
        Ok(Decision::Inject(request)) => request,
        Err(mistakes) => return refused(&AdmissionError::Annotations(mistakes)),
    };
    let bindings = carried(pod, &request);
    let input = PlanInput { subject: Subject::Pod, pod, namespace, request: &request, bindings: &bindings, sidecars };
    match injection::plan(&input) {
        Ok(plan) => plan.containers.iter().map(lacks).collect(),
        Err(errors) => refused(&AdmissionError::Plan(errors)),
    }
}

/// Our annotations on a workload's own metadata (or a CronJob's jobTemplate's) that its pod template does not carry:
/// its pods ask for nothing.
#[must_use]
pub fn workload(own: &[&Annotations<'_>], template: Option<&Annotations<'_>>) -> Vec<String> {
    let on_template = |key: &str| template.is_some_and(|template| template.get(key).is_some());
    let lost: BTreeSet<String> = own
        .iter()
        .flat_map(|annotations| annotations.ours())
        .filter(|(key, _)| !is_record(key) && !on_template(key))
        .map(|(key, _)| format!("{PREFIX}{key}"))
        .collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = lost.into_iter().collect();
    vec![format!("its pod template does not carry {}, so its pods ask for nothing by it", names.join(", "))]
}

/// Whether annotations ask for anything: the record alone does not.
#[must_use]
pub fn asks(annotations: &Annotations<'_>) -> bool {
    annotations.ours().any(|(key, _)| !is_record(key))
}

fn is_record(key: &str) -> bool {
    INJECTED.strip_prefix(PREFIX) == Some(key)
}

fn refused(error: &AdmissionError) -> Vec<String> {
    sentences(error).into_iter().map(|sentence| format!("the webhook would refuse it: {sentence}")).collect()
}

/// Every secret by its own name. The keys of a `name/*` were those of its creation, so what the pod carries of the
/// secret is taken for all; a pod that carries none of it lacks it.
fn carried(pod: &PodView<'_>, request: &InjectionRequest) -> BTreeMap<SecretId, Bound> {
    let bound = request.needs().into_iter().map(|(secret, need)| {
        let secret_name = secret.name.to_string();
        let keys = need.all_keys.then(|| {
            let mut keys: BTreeSet<String> = containers(pod)
                .flat_map(|container| container.env.iter().flatten())
                .filter_map(|entry| entry.secret_key())
                .filter(|(name, _)| *name == secret_name)
                .map(|(_, key)| key.to_owned())
                .collect();
            keys.extend(need.keys.iter().map(ToString::to_string));
            if keys.is_empty() {
                keys.insert(DEFAULT_KEY.to_owned());
            }
            keys
        });
        (secret.clone(), Bound::Found(SecretBinding { secret_name, keys }))
    });
    bound.collect()
}

fn containers<'v, 'a>(pod: &'v PodView<'a>) -> impl Iterator<Item = &'v ContainerView<'a>> {
    [&pod.spec.containers, &pod.spec.init_containers].into_iter().flat_map(|list| list.iter().flatten())
}

fn lacks(plan: &ContainerPlan) -> String {
    let whole = plan.env_from.iter().map(|(_, secret)| secret.as_str());
    let single = plan.env_before.iter().chain(&plan.env_after).map(|entry| entry.secret.as_str());
    let secrets: BTreeSet<&str> = whole.chain(single).collect();
    let secrets: Vec<String> = secrets.into_iter().map(|secret| format!("\"{secret}\"")).collect();
    let word = if secrets.len() == 1 { "secret" } else { "secrets" };
    format!("{} \"{}\" runs without {word} {}", plan.list, plan.name, secrets.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judged(annotations: &Value, containers: &Value) -> Vec<String> {
        let text = json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}}).to_string();
        let view: PodView<'_> = serde_json::from_str(&text).unwrap();
        let sources = Sources { object: view.annotations(), ..Sources::default() };
        pod("jobs", &view, &sources, &["istio-proxy".parse().unwrap()])
    }

    fn variable(name: &str, key: &str) -> Value {
        json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "db", "key": key}}})
    }

    #[test]
    fn what_the_plan_would_add_is_missing() {
        let bulk = json!({"secrets.floe.dev/env-from": "db s3", "secrets.floe.dev/refs": "db/k"});
        let bare = json!([{"name": "main"}, {"name": "istio-proxy"}]);
        assert_eq!(judged(&bulk, &bare), ["container \"main\" runs without secrets \"db\", \"s3\""]);
        assert_eq!(judged(&json!({}), &bare), [""; 0]);
        assert_eq!(judged(&json!({"secrets.floe.dev/inject": "false"}), &bare), [""; 0]);
    }

    #[test]
    fn our_label_and_record_prove_nothing() {
        let forged = json!({
            "secrets.floe.dev/env-from": "db",
            "secrets.floe.dev/injected": "{\"containers\":{\"main\":{\"envFrom\":[\"db\"]}}}",
        });
        assert_eq!(judged(&forged, &json!([{"name": "main"}])), ["container \"main\" runs without secret \"db\""]);
        let there = json!([{"name": "main", "envFrom": [{"secretRef": {"name": "db"}}]}, {"name": "late"}]);
        assert_eq!(judged(&forged, &there), [""; 0], "a container that came later is no drift");
    }

    #[test]
    fn an_expansion_is_judged_by_what_the_pod_carries() {
        let all = json!({"secrets.floe.dev/refs": "db/*"});
        assert_eq!(judged(&all, &json!([{"name": "main"}])), ["container \"main\" runs without secret \"db\""]);
        let there = json!([{"name": "main", "env": [variable("FLOE_SECRET_DB_A", "a")]}]);
        assert_eq!(judged(&all, &there), [""; 0], "keys that came later are no drift");
    }

    #[test]
    fn a_mistake_is_what_the_webhook_would_say() {
        let said = judged(&json!({"secrets.floe.dev/env_from": "db"}), &json!([{"name": "main"}]));
        assert!(said.len() == 1 && said[0].starts_with("the webhook would refuse it: annotation"), "{said:?}");
    }

    #[test]
    fn a_workload_lacks_what_its_template_does_not_carry() {
        let own = Annotations::from_pairs([
            ("secrets.floe.dev/env-from", "db"),
            ("secrets.floe.dev/reload", "off"),
            ("secrets.floe.dev/injected", "{}"),
        ]);
        let template = Annotations::from_pairs([("secrets.floe.dev/reload", "auto")]);
        let said = workload(&[&own], Some(&template));
        assert_eq!(
            said,
            ["its pod template does not carry secrets.floe.dev/env-from, so its pods ask for nothing by it"]
        );
        assert!(workload(&[&own], Some(&own)).is_empty() && workload(&[], None).is_empty());
    }
}
