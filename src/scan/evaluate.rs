//! Evaluates whether an object runs without the secrets of its annotations. Pure.
//!
//! Uses the planner of admission: whatever the plan would add is missing. Neither the webhook's label nor its record
//! counts as a proof. No secret is read: an existing reference counts as injected, even if the secret was deleted
//! later.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::error::AdmissionError;
use crate::admission::error::sentences;
use injection::{
    self, AnnotationLayers, BindOutcome, ContainerPlan, ContainerView, DEFAULT_KEY, Decision,
    InjectionRequest, PREFIX, PlanInput, PlanTarget, PodView, SecretBinding, SecretId, Sidecar,
    Unreached, Warning, WorkloadKind, WorkloadUpdate, WorkloadView,
};

/// Sentences about an evaluated object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Missing secrets; none if everything was injected.
    pub problems: Vec<String>,
    /// Admission warnings about a pod without problems, as far as they depend only on the pod: no secret is read here.
    pub warnings: Vec<String>,
}

/// Evaluates a running pod.
#[must_use]
pub fn pod(
    namespace: &str,
    pod: &PodView<'_>,
    layers: &AnnotationLayers<'_>,
    sidecars: &[Sidecar],
) -> Evaluation {
    let with_problems = |problems| Evaluation {
        problems,
        ..Evaluation::default()
    };
    let request = match injection::parse(layers) {
        Ok(Decision::Skip(_)) => return Evaluation::default(),
        Ok(Decision::Inject(request)) => request,
        Err(mistakes) => return with_problems(refusals(&AdmissionError::Annotations(mistakes))),
    };
    let bindings = assumed_bindings(pod, &request);
    let input = PlanInput {
        target: PlanTarget::Pod,
        pod,
        namespace,
        request: &request,
        bindings: &bindings,
        sidecars,
        discloses: true,
    };
    match injection::plan(&input) {
        Ok(plan) if plan.is_empty() => {
            let warnings = plan
                .warnings
                .iter()
                .filter(|warning| depends_only_on_pod(warning))
                .map(ToString::to_string);
            Evaluation {
                warnings: warnings.collect(),
                ..Evaluation::default()
            }
        }
        Ok(plan) => with_problems(plan.containers.iter().map(missing_secrets).collect()),
        Err(errors) => with_problems(refusals(&AdmissionError::Plan(errors))),
    }
}

fn depends_only_on_pod(warning: &Warning) -> bool {
    match warning {
        Warning::NoSuchContainer(_)
        | Warning::OnlySidecars(_)
        | Warning::NoContainer
        | Warning::AlreadySet { .. }
        | Warning::OverridesSources { .. }
        | Warning::Unmatched { .. } => true,
        Warning::Missing(_)
        | Warning::Awaited(_)
        | Warning::EntriesRemoved { .. }
        | Warning::NoRestart(_)
        | Warning::SharedKeys { .. }
        | Warning::NoKeys { .. }
        | Warning::NameConvention(_) => false,
    }
}

/// Describes the annotations of a workload, or of a CronJob's jobTemplate, that do not reach its pods, each in a
/// sentence.
#[must_use]
pub fn workload(kind: WorkloadKind, object: &WorkloadView<'_>) -> Vec<String> {
    let Some(update) = WorkloadUpdate::stored(kind, object) else {
        return Vec::new();
    };
    let Unreached { absent, stale } = update.unreached();
    let names = |keys: Vec<String>| {
        keys.iter()
            .map(|key| format!("{PREFIX}{key}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut problems = Vec::new();
    if !absent.is_empty() {
        let names = names(absent);
        problems.push(format!(
            "its pod template does not carry {names}, so its pods ask for nothing by it"
        ));
    }
    if !stale.is_empty() {
        let names = names(stale);
        problems
            .push(format!("its pod template carries {names} as it was, so its pods ask for what was asked for then"));
    }
    problems
}

fn refusals(error: &AdmissionError) -> Vec<String> {
    sentences(error)
        .into_iter()
        .map(|sentence| format!("the webhook would refuse it: {sentence}"))
        .collect()
}

/// Binds every secret under its own name. A reference `name/*` was expanded to the keys at the pod's creation, so the
/// keys in the pod are assumed to be all of them. A pod with none of them is missing the secret.
pub(crate) fn assumed_bindings(
    pod: &PodView<'_>,
    request: &InjectionRequest,
) -> BTreeMap<SecretId, BindOutcome> {
    let bound = request.key_queries().into_iter().map(|(secret, query)| {
        let secret_name = secret.name.to_string();
        let keys = query.all.then(|| {
            let mut keys: BTreeSet<String> = containers(pod)
                .flat_map(|container| container.env.iter().flatten())
                .filter_map(|entry| entry.secret_key())
                .filter(|(name, _)| *name == secret_name)
                .map(|(_, key)| key.to_owned())
                .collect();
            keys.extend(query.keys.iter().map(ToString::to_string));
            if keys.is_empty() {
                keys.insert(DEFAULT_KEY.to_owned());
            }
            keys
        });
        (
            secret.clone(),
            BindOutcome::Found(SecretBinding { secret_name, keys }),
        )
    });
    bound.collect()
}

fn containers<'v, 'a>(pod: &'v PodView<'a>) -> impl Iterator<Item = &'v ContainerView<'a>> {
    [&pod.spec.containers, &pod.spec.init_containers]
        .into_iter()
        .flat_map(|list| list.iter().flatten())
}

fn missing_secrets(plan: &ContainerPlan) -> String {
    let bulk = plan.env_from.iter().map(|(_, secret)| secret.as_str());
    let variables = plan
        .env_before
        .iter()
        .chain(&plan.env_after)
        .map(|entry| entry.secret.as_str());
    let secrets: BTreeSet<&str> = bulk.chain(variables).collect();
    let secrets: Vec<String> = secrets
        .into_iter()
        .map(|secret| format!("\"{secret}\""))
        .collect();
    let word = if secrets.len() == 1 {
        "secret"
    } else {
        "secrets"
    };
    format!(
        "{} \"{}\" runs without {word} {}",
        plan.list,
        plan.name,
        secrets.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn evaluated(annotations: &Value, containers: &Value) -> Evaluation {
        let text =
            json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}})
                .to_string();
        let view: PodView<'_> = serde_json::from_str(&text).unwrap();
        let layers = AnnotationLayers {
            object: view.annotations(),
            ..AnnotationLayers::default()
        };
        pod("jobs", &view, &layers, &["istio-proxy".parse().unwrap()])
    }

    fn problems(annotations: &Value, containers: &Value) -> Vec<String> {
        evaluated(annotations, containers).problems
    }

    fn variable(name: &str, key: &str) -> Value {
        json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "db", "key": key}}})
    }

    #[test]
    fn planned_additions_are_missing() {
        let bulk = json!({"secrets.floe.dev/env-from": "db s3", "secrets.floe.dev/refs": "db/k"});
        let bare = json!([{"name": "main"}, {"name": "istio-proxy"}]);
        assert_eq!(
            problems(&bulk, &bare),
            ["container \"main\" runs without secrets \"db\", \"s3\""]
        );
        assert_eq!(problems(&json!({}), &bare), [""; 0]);
        assert_eq!(
            problems(&json!({"secrets.floe.dev/inject": "false"}), &bare),
            [""; 0]
        );
    }

    #[test]
    fn forged_record_is_ignored() {
        let forged = json!({
            "secrets.floe.dev/env-from": "db",
            "secrets.floe.dev/injected": "{\"containers\":{\"main\":{\"envFrom\":[\"db\"]}}}",
        });
        assert_eq!(
            problems(&forged, &json!([{"name": "main"}])),
            ["container \"main\" runs without secret \"db\""]
        );
        let injected =
            json!([{"name": "main", "envFrom": [{"secretRef": {"name": "db"}}]}, {"name": "late"}]);
        assert_eq!(
            problems(&forged, &injected),
            [""; 0],
            "a container that was added later is not drift"
        );
    }

    #[test]
    fn expansion_is_evaluated_by_keys_in_the_pod() {
        let all = json!({"secrets.floe.dev/refs": "db/*"});
        assert_eq!(
            problems(&all, &json!([{"name": "main"}])),
            ["container \"main\" runs without secret \"db\""]
        );
        let injected = json!([{"name": "main", "env": [variable("FLOE_SECRET_DB_A", "a")]}]);
        assert_eq!(
            problems(&all, &injected),
            [""; 0],
            "keys that were added later are not drift"
        );
    }

    #[test]
    fn invalid_annotation_is_reported_as_a_refusal() {
        let problems = problems(
            &json!({"secrets.floe.dev/env_from": "db"}),
            &json!([{"name": "main"}]),
        );
        assert!(
            problems.len() == 1
                && problems[0].starts_with("the webhook would refuse it: annotation"),
            "{problems:?}"
        );
    }

    #[test]
    fn admission_warnings_about_the_pod_are_repeated() {
        let annotations =
            json!({"secrets.floe.dev/refs": "db/k", "secrets.floe.dev/containers": "main, job-*"});
        let authored =
            json!([{"name": "main", "env": [{"name": "FLOE_SECRET_DB_K", "value": "mine"}]}]);
        let Evaluation { problems, warnings } = evaluated(&annotations, &authored);
        assert_eq!(problems, [""; 0]);
        let expected = [
            "container \"main\" already sets FLOE_SECRET_DB_K; it was left as it is",
            "\"job-*\" (annotation secrets.floe.dev/containers) matches no container",
        ];
        assert_eq!(warnings, expected);
        let sidecar = json!([{"name": "istio-proxy"}]);
        let evaluation = evaluated(&json!({"secrets.floe.dev/refs": "db/k"}), &sidecar);
        assert!(
            evaluation.problems[0]
                .starts_with("the webhook would refuse it: the secrets that annotation"),
            "{evaluation:?}"
        );
    }

    fn workload_problems(own: &Value, template: &Value) -> Vec<String> {
        let metadata = json!({"metadata": {"annotations": template}, "spec": {"containers": []}});
        let text =
            json!({"metadata": {"annotations": own}, "spec": {"template": metadata}}).to_string();
        let view: WorkloadView<'_> = serde_json::from_str(&text).unwrap();
        workload(WorkloadKind::Deployment, &view)
    }

    #[test]
    fn workload_is_missing_what_its_template_does_not_carry() {
        let own = json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/reload": "off"});
        let expected =
            "its pod template does not carry secrets.floe.dev/env-from, so its pods ask for nothing by it".to_owned();
        assert_eq!(
            workload_problems(&own, &json!({"secrets.floe.dev/reload": "auto"})),
            [expected]
        );
        assert_eq!(workload_problems(&own, &own), [""; 0]);
        assert_eq!(workload_problems(&json!({}), &own), [""; 0]);
    }

    #[test]
    fn outdated_copy_of_an_annotation_is_stale() {
        let recorded = r#"{"copied":{"env-from":"old","refs":"a/b"}}"#;
        let own =
            json!({"secrets.floe.dev/env-from": "new", "secrets.floe.dev/injected": recorded});
        let stale = "its pod template carries secrets.floe.dev/env-from, secrets.floe.dev/refs as it was, so its pods \
                     ask for what was asked for then";
        let template = json!({"secrets.floe.dev/env-from": "old", "secrets.floe.dev/refs": "a/b"});
        assert_eq!(workload_problems(&own, &template), [stale]);
        let authored = json!({"secrets.floe.dev/env-from": "authors"});
        assert_eq!(
            workload_problems(&own, &authored),
            [""; 0],
            "the template's own annotation wins"
        );
    }
}
