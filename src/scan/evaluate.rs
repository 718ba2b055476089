//! The judgement, pure: does an object run without what its annotations ask for?
//!
//! By content and with the planner that admission uses: whatever the plan would add is missing. Our own label proves
//! nothing. No secret is looked at: a reference that is there was injected, whatever became of the secret since.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::error::AdmissionError;
use crate::admission::error::sentences;
use injection::{
    self, AnnotationLayers, BindOutcome, ContainerPlan, ContainerView, DEFAULT_KEY, Decision,
    InjectionRequest, PREFIX, PlanInput, PlanTarget, PodView, SecretBinding, SecretId, Sidecar,
    Unreached, Warning, WorkloadKind, WorkloadUpdate, WorkloadView,
};

/// What is thought of a pod, in sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// What it lacks; none when it has everything.
    pub problems: Vec<String>,
    /// What its admission had to say about a pod that has everything, as far as that rests on the pod alone: no secret
    /// is looked at here.
    pub warnings: Vec<String>,
}

/// Judges a running pod.
#[must_use]
pub fn pod(
    namespace: &str,
    pod: &PodView<'_>,
    sources: &AnnotationLayers<'_>,
    sidecars: &[Sidecar],
) -> Evaluation {
    let wrong = |problems| Evaluation {
        problems,
        ..Evaluation::default()
    };
    let request = match injection::parse(sources) {
        Ok(Decision::Skip(_)) => return Evaluation::default(),
        Ok(Decision::Inject(request)) => request,
        Err(mistakes) => return wrong(refused(&AdmissionError::Annotations(mistakes))),
    };
    let bindings = carried(pod, &request);
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
                .filter(|warning| rests_on_the_pod(warning))
                .map(ToString::to_string);
            Evaluation {
                warnings: warnings.collect(),
                ..Evaluation::default()
            }
        }
        Ok(plan) => wrong(plan.containers.iter().map(lacks).collect()),
        Err(errors) => wrong(refused(&AdmissionError::Plan(errors))),
    }
}

fn rests_on_the_pod(warning: &Warning) -> bool {
    match warning {
        Warning::NoSuchContainer(_)
        | Warning::OnlySidecars(_)
        | Warning::NoContainer
        | Warning::LeftAlone { .. }
        | Warning::OverSources { .. }
        | Warning::Unmatched { .. } => true,
        Warning::Missing(_)
        | Warning::Awaited(_)
        | Warning::TakenBack { .. }
        | Warning::NoRestart(_)
        | Warning::SharedKeys { .. }
        | Warning::NothingToExpand { .. } => false,
    }
}

/// What of the annotations beside its pod template (its own, or a CronJob's jobTemplate's) does not reach a workload's
/// pods, each a sentence.
#[must_use]
pub fn workload(kind: WorkloadKind, object: &WorkloadView<'_>) -> Vec<String> {
    let Some(review) = WorkloadUpdate::stored(kind, object) else {
        return Vec::new();
    };
    let Unreached { absent, stale } = review.unreached();
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

fn refused(error: &AdmissionError) -> Vec<String> {
    sentences(error)
        .into_iter()
        .map(|sentence| format!("the webhook would refuse it: {sentence}"))
        .collect()
}

/// Every secret by its own name. The keys of a `name/*` were those of its creation, so what the pod carries of the
/// secret is taken for all; a pod that carries none of it lacks it.
pub(super) fn carried(
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

fn lacks(plan: &ContainerPlan) -> String {
    let whole = plan.env_from.iter().map(|(_, secret)| secret.as_str());
    let single = plan
        .env_before
        .iter()
        .chain(&plan.env_after)
        .map(|entry| entry.secret.as_str());
    let secrets: BTreeSet<&str> = whole.chain(single).collect();
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

    fn judged(annotations: &Value, containers: &Value) -> Evaluation {
        let text =
            json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}})
                .to_string();
        let view: PodView<'_> = serde_json::from_str(&text).unwrap();
        let sources = AnnotationLayers {
            object: view.annotations(),
            ..AnnotationLayers::default()
        };
        pod("jobs", &view, &sources, &["istio-proxy".parse().unwrap()])
    }

    fn problems(annotations: &Value, containers: &Value) -> Vec<String> {
        judged(annotations, containers).problems
    }

    fn variable(name: &str, key: &str) -> Value {
        json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "db", "key": key}}})
    }

    #[test]
    fn what_the_plan_would_add_is_missing() {
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
    fn our_label_and_record_prove_nothing() {
        let forged = json!({
            "secrets.floe.dev/env-from": "db",
            "secrets.floe.dev/injected": "{\"containers\":{\"main\":{\"envFrom\":[\"db\"]}}}",
        });
        assert_eq!(
            problems(&forged, &json!([{"name": "main"}])),
            ["container \"main\" runs without secret \"db\""]
        );
        let there =
            json!([{"name": "main", "envFrom": [{"secretRef": {"name": "db"}}]}, {"name": "late"}]);
        assert_eq!(
            problems(&forged, &there),
            [""; 0],
            "a container that came later is no drift"
        );
    }

    #[test]
    fn an_expansion_is_judged_by_what_the_pod_carries() {
        let all = json!({"secrets.floe.dev/refs": "db/*"});
        assert_eq!(
            problems(&all, &json!([{"name": "main"}])),
            ["container \"main\" runs without secret \"db\""]
        );
        let there = json!([{"name": "main", "env": [variable("FLOE_SECRET_DB_A", "a")]}]);
        assert_eq!(
            problems(&all, &there),
            [""; 0],
            "keys that came later are no drift"
        );
    }

    #[test]
    fn a_mistake_is_what_the_webhook_would_say() {
        let said = problems(
            &json!({"secrets.floe.dev/env_from": "db"}),
            &json!([{"name": "main"}]),
        );
        assert!(
            said.len() == 1 && said[0].starts_with("the webhook would refuse it: annotation"),
            "{said:?}"
        );
    }

    #[test]
    fn what_admission_had_to_say_about_the_pod_is_said_again() {
        let asks =
            json!({"secrets.floe.dev/refs": "db/k", "secrets.floe.dev/containers": "main, job-*"});
        let theirs =
            json!([{"name": "main", "env": [{"name": "FLOE_SECRET_DB_K", "value": "mine"}]}]);
        let Evaluation { problems, warnings } = judged(&asks, &theirs);
        assert_eq!(problems, [""; 0]);
        let said = [
            "container \"main\" already sets FLOE_SECRET_DB_K; it was left as it is",
            "\"job-*\" (annotation secrets.floe.dev/containers) matches no container",
        ];
        assert_eq!(warnings, said);
        let sidecar = json!([{"name": "istio-proxy"}]);
        let none = judged(&json!({"secrets.floe.dev/refs": "db/k"}), &sidecar);
        assert!(
            none.problems[0]
                .starts_with("the webhook would refuse it: the secrets that annotation"),
            "{none:?}"
        );
    }

    fn judged_workload(own: &Value, template: &Value) -> Vec<String> {
        let metadata = json!({"metadata": {"annotations": template}, "spec": {"containers": []}});
        let text =
            json!({"metadata": {"annotations": own}, "spec": {"template": metadata}}).to_string();
        let view: WorkloadView<'_> = serde_json::from_str(&text).unwrap();
        workload(WorkloadKind::Deployment, &view)
    }

    #[test]
    fn a_workload_lacks_what_its_template_does_not_carry() {
        let own = json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/reload": "off"});
        let lacks =
            "its pod template does not carry secrets.floe.dev/env-from, so its pods ask for nothing by it".to_owned();
        assert_eq!(
            judged_workload(&own, &json!({"secrets.floe.dev/reload": "auto"})),
            [lacks]
        );
        assert_eq!(judged_workload(&own, &own), [""; 0]);
        assert_eq!(judged_workload(&json!({}), &own), [""; 0]);
    }

    #[test]
    fn a_copy_that_is_no_longer_what_was_copied_is_stale() {
        let recorded = r#"{"copied":{"env-from":"old","refs":"a/b"}}"#;
        let own =
            json!({"secrets.floe.dev/env-from": "new", "secrets.floe.dev/injected": recorded});
        let stale = "its pod template carries secrets.floe.dev/env-from, secrets.floe.dev/refs as it was, so its pods \
                     ask for what was asked for then";
        let template = json!({"secrets.floe.dev/env-from": "old", "secrets.floe.dev/refs": "a/b"});
        assert_eq!(judged_workload(&own, &template), [stale]);
        let theirs = json!({"secrets.floe.dev/env-from": "authors"});
        assert_eq!(
            judged_workload(&own, &theirs),
            [""; 0],
            "the template's own annotation wins"
        );
    }
}
