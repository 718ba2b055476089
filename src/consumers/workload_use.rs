//! Evaluation of a workload: its uses of a Secret, and the effect of a change. Pure.

use injection::{
    AnnotationLayers, Annotations, RestartMechanism, RestartQuery, WorkloadKind, restart_mechanism,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::found::{ConsumerUse, Effect, UseKind, WorkloadConsumer};
use super::kinds::WorkloadList;
use super::limits::MAX_USES;
use super::pod_object::{PodOwnerReference, controller_of};
use super::pod_spec::SpecReferences;
use super::pod_use::{annotation_use, effect_on_pod};
use super::secret_head::SecretHead;

/// A workload, as far as consumers need it.
#[derive(Debug, Deserialize)]
pub(super) struct WorkloadObject<'a> {
    #[serde(borrow)]
    pub metadata: WorkloadHead<'a>,
    #[serde(borrow, default)]
    spec: WorkloadSpec<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadHead<'a> {
    pub name: String,
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    #[serde(default)]
    owner_references: Option<Vec<PodOwnerReference>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec<'a> {
    #[serde(borrow)]
    template: Option<&'a RawValue>,
    #[serde(borrow)]
    job_template: Option<JobTemplate<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobTemplate<'a> {
    #[serde(borrow)]
    spec: JobTemplateSpec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobTemplateSpec<'a> {
    #[serde(borrow)]
    template: Option<&'a RawValue>,
}

/// A pod template.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkloadTemplate<'a> {
    #[serde(borrow)]
    metadata: TemplateHead<'a>,
    #[serde(borrow)]
    spec: SpecReferences<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateHead<'a> {
    #[serde(borrow)]
    annotations: Option<Annotations<'a>>,
}

impl WorkloadObject<'_> {
    /// Pod template; `None` if there is none that can be read.
    pub fn template(&self) -> Option<WorkloadTemplate<'_>> {
        let of_jobs = self.spec.job_template.as_ref();
        let raw = self
            .spec
            .template
            .or_else(|| of_jobs.and_then(|jobs| jobs.spec.template))?;
        serde_json::from_str(raw.get()).ok()
    }

    /// Whether it is a Job of a `CronJob`, which is listed by itself.
    pub fn is_of_a_cron_job(&self) -> bool {
        controller_of(self.metadata.owner_references.as_ref())
            .is_some_and(|owner| owner.kind == "CronJob")
    }
}

impl WorkloadTemplate<'_> {
    pub fn annotations(&self) -> Option<&Annotations<'_>> {
        self.metadata.annotations.as_ref()
    }

    pub fn service_account(&self) -> &str {
        self.spec.service_account()
    }
}

/// The workload as a consumer; `None` if neither its template nor an annotation that applies to its pods refers to the
/// Secret.
pub(super) fn workload_consumer(
    list: WorkloadList,
    object: &WorkloadObject<'_>,
    template: &WorkloadTemplate<'_>,
    layers: &AnnotationLayers<'_>,
    secret: &SecretHead,
) -> Option<WorkloadConsumer> {
    let mut uses = template.spec.uses_of(&secret.name);
    let in_template = is_watched(&uses);
    uses.extend(annotation_use(layers, &secret.name));
    if uses.is_empty() {
        return None;
    }
    let query = RestartQuery {
        secret: &secret.name,
        secret_annotations: Some(&secret.annotations),
        metadata: object.metadata.annotations.as_ref(),
        template: template.annotations(),
        in_template,
    };
    let effect = effect_on_pod(&uses, effect_on_workload(list.kind, &query));
    // Further uses are evaluated, and not listed.
    uses.truncate(MAX_USES);
    Some(WorkloadConsumer {
        kind: list.title,
        name: object.metadata.name.clone(),
        uses,
        effect,
    })
}

/// Effect of a change of a Secret on the pods of a stored workload; `None` if it is not one that can be read.
pub(crate) fn effect_on_stored(
    kind: WorkloadKind,
    body: &[u8],
    secret: &SecretHead,
) -> Option<Effect> {
    let object: WorkloadObject<'_> = serde_json::from_slice(body).ok()?;
    let template = object.template()?;
    let query = RestartQuery {
        secret: &secret.name,
        secret_annotations: Some(&secret.annotations),
        metadata: object.metadata.annotations.as_ref(),
        template: template.annotations(),
        in_template: is_watched(&template.spec.uses_of(&secret.name)),
    };
    Some(effect_on_workload(kind, &query))
}

/// Whether programs that watch a template find the Secret in it. They read the fields of containers and volumes of
/// Secrets, and neither `imagePullSecrets` nor the fields of volume drivers.
fn is_watched(uses: &[ConsumerUse]) -> bool {
    uses.iter()
        .any(|used| !matches!(used.kind, UseKind::ImagePull | UseKind::VolumeDriver))
}

/// Effect of a change on the pods of a workload that read the Secret only when they start.
fn effect_on_workload(kind: WorkloadKind, query: &RestartQuery<'_>) -> Effect {
    if !kind.is_restartable() {
        return Effect::NextRun;
    }
    let reloader = |annotation, possibly| Effect::Restarts {
        by: "reloader",
        annotation,
        possibly,
    };
    match restart_mechanism(query) {
        RestartMechanism::Reloader(annotation) => reloader(annotation, false),
        RestartMechanism::PossiblyReloader(annotation) => reloader(annotation, true),
        // The operator does not restart Rollouts.
        RestartMechanism::Infisical(annotation) if kind != WorkloadKind::Rollout => {
            Effect::Restarts {
                by: "infisical",
                annotation,
                possibly: false,
            }
        }
        RestartMechanism::Infisical(_) | RestartMechanism::None => Effect::KeepsOldValue,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::consumers::WORKLOAD_LISTS;

    fn consumer(kind: WorkloadKind, object: &Value) -> Option<WorkloadConsumer> {
        let text = object.to_string();
        let object: WorkloadObject<'_> = serde_json::from_str(&text).unwrap();
        let mut lists = WORKLOAD_LISTS.into_iter();
        let list = lists.find(|list| list.kind == kind)?;
        let template = object.template()?;
        let layers = AnnotationLayers {
            object: template.annotations(),
            ..AnnotationLayers::default()
        };
        let secret = SecretHead {
            name: "db".to_owned(),
            created: None,
            keys: Some(BTreeSet::new()),
            changed: None,
            annotations: Annotations::default(),
        };
        workload_consumer(list, &object, &template, &layers, &secret)
    }

    fn workload(metadata: &Value, template: &Value, container: &Value) -> Value {
        let mut metadata = json!({"annotations": metadata});
        metadata["name"] = "w".into();
        json!({"metadata": metadata, "spec": {"template": {
            "metadata": {"annotations": template}, "spec": {"containers": [container]},
        }}})
    }

    const RELOAD: &str = "secret.reloader.stakater.com/reload";

    #[test]
    fn effect_depends_on_kind_annotations_and_use() {
        let env = json!({"name": "c", "envFrom": [{"secretRef": {"name": "db"}}]});
        let named = workload(&json!({RELOAD: "db"}), &json!({}), &env);
        let restarts = Effect::Restarts {
            by: "reloader",
            annotation: RELOAD,
            possibly: false,
        };
        let effect = |kind, object: &Value| consumer(kind, object).map(|found| found.effect);
        assert_eq!(effect(WorkloadKind::Deployment, &named), Some(restarts));
        assert_eq!(effect(WorkloadKind::Job, &named), Some(Effect::NextRun));
        let bare = workload(&json!({}), &json!({}), &env);
        assert_eq!(
            effect(WorkloadKind::StatefulSet, &bare),
            Some(Effect::KeepsOldValue)
        );
        let other = workload(&json!({}), &json!({}), &json!({"name": "c"}));
        assert_eq!(effect(WorkloadKind::Deployment, &other), None);
    }

    #[test]
    fn volume_of_a_driver_is_not_watched_by_reloader() {
        let auto = json!({"reloader.stakater.com/auto": "true"});
        let mut mounted = workload(&auto, &json!({}), &json!({"name": "c"}));
        let csi = json!({"driver": "d", "nodePublishSecretRef": {"name": "db"}});
        mounted["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "csi": csi}]);
        let found = consumer(WorkloadKind::Deployment, &mounted);
        assert_eq!(found.unwrap().effect, Effect::KeepsOldValue);
    }

    #[test]
    fn uses_are_listed_up_to_the_limit() {
        let containers: Vec<Value> = (0..=MAX_USES)
            .map(|n| json!({"name": format!("c{n}"), "envFrom": [{"secretRef": {"name": "db"}}]}))
            .collect();
        let mut large = workload(&json!({}), &json!({}), &json!({}));
        large["spec"]["template"]["spec"]["containers"] = json!(containers);
        let found = consumer(WorkloadKind::Deployment, &large);
        assert_eq!(found.unwrap().uses.len(), MAX_USES);
    }

    #[test]
    fn annotation_of_the_template_is_a_use() {
        let requesting = json!({"secrets.floe.dev/env-from": "db"});
        let found = consumer(
            WorkloadKind::Deployment,
            &workload(&json!({}), &requesting, &json!({"name": "c"})),
        );
        let uses = found.unwrap().uses;
        assert_eq!((uses.len(), uses[0].kind), (1, UseKind::Annotation));
    }

    #[test]
    fn template_of_a_cron_job_is_found() {
        let spec = workload(
            &json!({}),
            &json!({"secrets.floe.dev/env-from": "db"}),
            &json!({"name": "c"}),
        );
        let object =
            json!({"metadata": {"name": "w"}, "spec": {"jobTemplate": {"spec": spec["spec"]}}});
        assert!(consumer(WorkloadKind::CronJob, &object).is_some());
    }
}
