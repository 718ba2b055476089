//! Evaluation of a pod: its uses of a Secret, and the age of the values that its containers have. Pure.

use std::collections::BTreeSet;

use injection::{AnnotationLayers, Decision};

use super::found::{ConsumerUse, ContainerUse, Effect, PodConsumer, UseKind};
use super::limits::{MAX_CONTAINERS, MAX_USES};
use super::pod_object::PodObject;
use super::secret_head::DataChange;
use super::staleness::value_age;

/// Use by an annotation, if one of the layers requests the Secret.
pub(super) fn annotation_use(layers: &AnnotationLayers<'_>, secret: &str) -> Option<ConsumerUse> {
    // Pods with invalid annotations are refused, so nothing is known about them.
    let Ok(Decision::Inject(request)) = injection::parse(layers) else {
        return None;
    };
    let queries = request.key_queries();
    let id = queries.keys().find(|id| id.name.as_str() == secret)?;
    Some(ConsumerUse {
        kind: UseKind::Annotation,
        container: None,
        annotation: request.site_of(id).map(ToString::to_string),
    })
}

/// Uses of a Secret by a pod that has not ended. A pod whose annotations request a Secret that no container has, was
/// not injected.
pub(super) fn pod_uses(
    pod: &PodObject<'_>,
    layers: &AnnotationLayers<'_>,
    secret: &str,
) -> Vec<ConsumerUse> {
    let uses = pod.spec.uses_of(secret);
    let has_references = uses
        .iter()
        .any(|used| used.kind != UseKind::ImagePull && used.kind != UseKind::VolumeDriver);
    let requested = annotation_use(layers, secret).filter(|_| !has_references);
    uses.into_iter().chain(requested).collect()
}

/// The pod as a consumer. `owner` is its workload, and `effect` that of the workload.
pub(super) fn pod_consumer(
    pod: PodObject<'_>,
    mut uses: Vec<ConsumerUse>,
    owner: Option<String>,
    effect: Effect,
    change: DataChange,
) -> PodConsumer {
    let keeping: BTreeSet<&str> = uses
        .iter()
        .filter(|used| used.kind.keeps_value())
        .filter_map(|used| used.container.as_deref())
        .collect();
    let mut containers: Vec<ContainerUse> = pod
        .running()
        .filter(|(name, _)| keeping.contains(name))
        .map(|(name, started)| ContainerUse {
            name: name.to_owned(),
            started,
            value: value_age(pod.metadata.creation_timestamp, started, change),
        })
        .collect();
    containers.sort_by(|one, other| (one.value, &one.name).cmp(&(other.value, &other.name)));
    containers.truncate(MAX_CONTAINERS);
    let effect = effect_on_pod(&uses, effect);
    // Further uses are evaluated, and not listed.
    uses.truncate(MAX_USES);
    PodConsumer {
        value: containers.first().map(|container| container.value),
        containers,
        owner,
        effect,
        being_deleted: pod.metadata.deletion_timestamp.is_some(),
        name: pod.metadata.name,
        uses,
    }
}

/// Effect on a pod: that of its workload, unless nothing in it keeps a value.
pub(super) fn effect_on_pod(uses: &[ConsumerUse], of_workload: Effect) -> Effect {
    match of_workload {
        Effect::KeepsOldValue | Effect::Unknown if uses.iter().all(|used| follows(used.kind)) => {
            Effect::Follows
        }
        effect => effect,
    }
}

fn follows(kind: UseKind) -> bool {
    matches!(kind, UseKind::Volume | UseKind::ImagePull)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::consumers::ValueAge;

    const CHANGED: &str = "2026-11-28T12:00:00Z";

    fn consumer(pod: &Value) -> PodConsumer {
        let text = pod.to_string();
        let pod: PodObject<'_> = serde_json::from_str(&text).unwrap();
        let layers = AnnotationLayers {
            object: pod.metadata.annotations.as_ref(),
            ..AnnotationLayers::default()
        };
        let uses = pod_uses(&pod, &layers, "db");
        let changed = CHANGED.parse().unwrap();
        let change = DataChange {
            earliest: changed,
            latest: changed,
        };
        pod_consumer(pod, uses, None, Effect::KeepsOldValue, change)
    }

    fn running(name: &str, started: &str) -> Value {
        json!({"name": name, "state": {"running": {"startedAt": started}}})
    }

    fn pod(containers: &Value, statuses: &Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers},
            "status": {"phase": "Running", "containerStatuses": statuses}})
    }

    fn with_secret(name: &str) -> Value {
        json!({"name": name, "envFrom": [{"secretRef": {"name": "db"}}]})
    }

    #[test]
    fn containers_are_compared_by_their_own_start() {
        let both = json!([with_secret("a"), with_secret("b"), {"name": "c"}]);
        let statuses = json!([
            running("a", "2026-11-28T12:00:11Z"),
            running("b", "2026-11-28T11:59:59Z"),
            running("c", "2026-11-28T11:00:00Z"),
        ]);
        let found = consumer(&pod(&both, &statuses));
        let ages: Vec<(&str, ValueAge)> = found
            .containers
            .iter()
            .map(|container| (container.name.as_str(), container.value))
            .collect();
        assert_eq!(ages, [("b", ValueAge::Old), ("a", ValueAge::Current)]);
        assert!(found.is_stale());
    }

    #[test]
    fn container_that_does_not_run_has_no_value() {
        let waiting = json!([{"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"startedAt": "2026-11-28T11:00:00Z"}}}]);
        let found = consumer(&pod(&json!([with_secret("a")]), &waiting));
        assert_eq!((found.value, found.is_stale()), (None, false));
    }

    #[test]
    fn mounted_volume_follows_and_one_file_does_not() {
        let mount = |sub_path: &str| {
            let mut pod = pod(
                &json!([{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": sub_path}]}]),
                &json!([running("a", "2026-11-28T11:00:00Z")]),
            );
            pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "db"}}]);
            consumer(&pod)
        };
        let follows = mount("");
        assert_eq!((follows.value, follows.effect), (None, Effect::Follows));
        let kept = mount("password");
        assert_eq!(
            (kept.value, kept.effect),
            (Some(ValueAge::Old), Effect::KeepsOldValue)
        );
    }

    #[test]
    fn annotation_counts_only_without_references() {
        let mut requesting = pod(&json!([{"name": "a"}]), &json!([]));
        requesting["metadata"]["annotations"] = json!({"secrets.floe.dev/refs": "db/password"});
        let found = consumer(&requesting);
        assert_eq!(found.uses.len(), 1);
        assert_eq!(
            found.uses[0].annotation.as_deref(),
            Some("annotation secrets.floe.dev/refs")
        );
        requesting["spec"]["containers"] = json!([with_secret("a")]);
        assert_eq!(consumer(&requesting).uses[0].kind, UseKind::EnvFrom);
        requesting["metadata"]["annotations"] = json!({"secrets.floe.dev/refs": "env:db/password"});
        requesting["spec"]["containers"] = json!([{"name": "a"}]);
        assert!(consumer(&requesting).uses.is_empty());
    }

    #[test]
    fn containers_are_kept_up_to_the_limit() {
        let names: Vec<String> = (0..=MAX_CONTAINERS).map(|n| format!("c{n}")).collect();
        let containers: Vec<Value> = names.iter().map(|name| with_secret(name)).collect();
        let statuses: Vec<Value> = names.iter().map(|name| running(name, CHANGED)).collect();
        let found = consumer(&pod(&json!(containers), &json!(statuses)));
        assert_eq!(found.containers.len(), MAX_CONTAINERS);
        assert_eq!(found.uses.len(), MAX_USES);
    }

    #[test]
    fn container_whose_use_is_not_listed_counts() {
        let names: Vec<String> = (0..=MAX_USES).map(|n| format!("c{n}")).collect();
        let containers: Vec<Value> = names.iter().map(|name| with_secret(name)).collect();
        let last = running(&names[MAX_USES], "2026-11-28T11:00:00Z");
        let found = consumer(&pod(&json!(containers), &json!([last])));
        assert_eq!(
            (found.uses.len(), found.value),
            (MAX_USES, Some(ValueAge::Old))
        );
    }
}
