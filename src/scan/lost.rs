//! References to Secrets that containers lost in the latest revision of their workload, together with the annotation
//! that requested them. Pure.
//!
//! An annotation counts as removed if its key is neither on the workload, nor on its template, nor on the latest
//! revision. An annotation with another value was edited on purpose. A reference counts as lost if the container had it
//! in the previous revision (in its template, or because the pods were injected), and has it neither in the latest
//! revision nor in the workload's template.

mod sentence;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::sentence::LostReferences;
use super::evaluate::assumed_bindings;
use injection::{
    self, AnnotationLayers, Annotations, ContainerList, ContainerView, Decision, InjectionRequest,
    PlanInput, PlanTarget, PodView, Sidecar, SkipReason,
};

/// Limit of Kubernetes on the length of a container name. A stored revision is not validated.
const MAX_CONTAINER_NAME_LENGTH: usize = 63;

/// Two revisions of a workload, and its current state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison<'r, 'a> {
    pub namespace: &'r str,
    /// Template of the previous revision.
    pub previous: &'r PodView<'a>,
    /// Template of the latest revision.
    pub latest: &'r PodView<'a>,
    /// Template of the workload.
    pub template: &'r PodView<'a>,
    /// Annotations that authors wrote on the workload and its template.
    pub authored: &'r Annotations<'static>,
    /// Defaults that apply to the workload's pods; `object` is not used.
    pub defaults: AnnotationLayers<'r>,
    pub sidecars: &'r [Sidecar],
}

type References<'p> = BTreeMap<(ContainerList, &'p str), BTreeSet<&'p str>>;

impl Comparison<'_, '_> {
    /// Returns the lost references; `None` if there are none, or if they cannot be determined.
    pub fn lost(&self) -> Option<LostReferences> {
        let request = self.previous_request()?;
        let removed = self.removed_annotations(&request)?;
        let secrets: BTreeSet<&str> = removed.keys().map(String::as_str).collect();
        let injected = self.injected(&request);
        let mut before = references(self.previous, &secrets);
        for ((list, container), names) in &injected {
            let names = names
                .iter()
                .map(String::as_str)
                .filter(|name| secrets.contains(name));
            before
                .entry((*list, container.as_str()))
                .or_default()
                .extend(names);
        }
        let [latest, template] = [self.latest, self.template].map(|pod| references(pod, &secrets));
        let (mut containers, mut annotations) = (BTreeMap::new(), BTreeSet::new());
        for (container, names) in before {
            // A container that was removed did not lose references.
            let Some(present) = latest.get(&container) else {
                continue;
            };
            let pending = template.get(&container);
            let is_lost = |name: &&str| {
                !present.contains(name) && pending.is_none_or(|pending| !pending.contains(name))
            };
            let names: BTreeSet<&str> = names.into_iter().filter(is_lost).collect();
            if !names.is_empty() {
                annotations.extend(
                    names
                        .iter()
                        .filter_map(|name| removed.get(*name))
                        .flatten()
                        .cloned(),
                );
                let names = names.into_iter().map(str::to_owned).collect();
                containers.insert((container.0, container.1.to_owned()), names);
            }
        }
        (!containers.is_empty()).then_some(LostReferences {
            containers,
            annotations,
        })
    }

    /// Request of the pods of the previous revision.
    fn previous_request(&self) -> Option<Box<InjectionRequest>> {
        let object = self.previous.annotations()?;
        match injection::parse(&AnnotationLayers {
            object: Some(object),
            ..self.defaults
        }) {
            Ok(Decision::Inject(request)) => Some(request),
            // Pods with invalid annotations were refused, so their references are unknown.
            Ok(Decision::Skip(_)) | Err(_) => None,
        }
    }

    /// Secrets that are no longer requested, each with the removed annotations that requested it before. `None` if
    /// there are none, if the author opted out, or if the current annotations are invalid.
    fn removed_annotations(
        &self,
        previous: &InjectionRequest,
    ) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let layers = [
            Some(self.authored),
            self.template.annotations(),
            self.latest.annotations(),
        ];
        let (mut requested, mut present) = (BTreeSet::new(), BTreeSet::new());
        for object in layers {
            match injection::parse(&AnnotationLayers {
                object,
                ..self.defaults
            }) {
                Err(_) | Ok(Decision::Skip(SkipReason::OptedOut)) => return None,
                Ok(Decision::Skip(_)) => {}
                Ok(Decision::Inject(request)) => {
                    let sites = requested_secrets(&request).inspect(|(secret, ..)| {
                        requested.insert((*secret).to_owned());
                    });
                    present.extend(
                        sites
                            .filter(|(.., own)| *own)
                            .map(|(_, key, _)| key.to_owned()),
                    );
                }
            }
        }
        let is_present = |key: &str| {
            present.contains(key)
                || layers
                    .iter()
                    .flatten()
                    .any(|annotations| annotations.get(key).is_some())
        };
        let mut removed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (secret, key, own) in requested_secrets(previous) {
            if own && !requested.contains(secret) && !is_present(key) {
                let annotation = format!("{}{key}", injection::PREFIX);
                removed
                    .entry(secret.to_owned())
                    .or_default()
                    .insert(annotation);
            }
        }
        (!removed.is_empty()).then_some(removed)
    }

    /// References that the webhook adds to pods of the previous revision.
    fn injected(
        &self,
        request: &InjectionRequest,
    ) -> BTreeMap<(ContainerList, String), BTreeSet<String>> {
        let bindings = assumed_bindings(self.previous, request);
        let plan = injection::plan(&PlanInput {
            target: PlanTarget::Manifest,
            pod: self.previous,
            namespace: self.namespace,
            request,
            bindings: &bindings,
            sidecars: self.sidecars,
            discloses: false,
        });
        // Pods without a plan were refused.
        let containers = plan.map(|plan| plan.containers).unwrap_or_default();
        let additions = containers.into_iter().map(|plan| {
            let variables = plan
                .env_before
                .into_iter()
                .chain(plan.env_after)
                .map(|entry| entry.secret);
            let secrets = plan
                .env_from
                .into_iter()
                .map(|(_, secret)| secret)
                .chain(variables)
                .collect();
            ((plan.list, plan.name), secrets)
        });
        additions.collect()
    }
}

/// Returns each requested Secret, the key of an annotation that requests it, and whether the annotation is the
/// workload's own and not a default.
fn requested_secrets(request: &InjectionRequest) -> impl Iterator<Item = (&str, &str, bool)> {
    let bulk = request.bulk.iter().map(|bulk| (&bulk.secret, &bulk.site));
    let variables = request
        .variables
        .iter()
        .map(|variable| (&variable.reference.secret, &variable.site));
    bulk.chain(variables).map(|(secret, site)| {
        (
            secret.name.as_str(),
            site.key.as_str(),
            !site.origin.is_default(),
        )
    })
}

/// Returns for each container those of `secrets` that it refers to in `env` or `envFrom`.
fn references<'p>(pod: &'p PodView<'_>, secrets: &BTreeSet<&str>) -> References<'p> {
    let lists = [
        (ContainerList::Containers, &pod.spec.containers),
        (ContainerList::InitContainers, &pod.spec.init_containers),
    ];
    let containers = lists
        .into_iter()
        .flat_map(|(list, containers)| containers.iter().flatten().map(move |c| (list, c)));
    containers
        .filter(|(_, container)| container.name.as_str().len() <= MAX_CONTAINER_NAME_LENGTH)
        .map(|(list, container)| {
            let names = referred_secrets(container)
                .filter(|name| secrets.contains(name))
                .collect();
            ((list, container.name.as_str()), names)
        })
        .collect()
}

fn referred_secrets<'c>(container: &'c ContainerView<'_>) -> impl Iterator<Item = &'c str> {
    let bulk = container
        .env_from
        .iter()
        .flatten()
        .filter_map(|source| source.secret_ref.as_ref());
    let variables = container
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.secret_key());
    bulk.map(|secret| secret.name.as_str())
        .chain(variables.map(|(secret, _)| secret))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use injection::{WorkloadKind, WorkloadUpdate, WorkloadView};

    const LOST: &str = "container \"main\" lost secret \"db\"";

    fn template(annotations: &Value, containers: &Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}})
    }

    /// Sentence about revision 2. The workload's template is that of the latest revision, unless `pending` is given.
    fn compared(
        own: &Value,
        previous: &Value,
        latest: &Value,
        pending: Option<&Value>,
    ) -> Option<String> {
        let current = pending.unwrap_or(latest);
        let workload =
            json!({"metadata": {"annotations": own}, "spec": {"template": current}}).to_string();
        let workload: WorkloadView<'_> = serde_json::from_str(&workload).unwrap();
        let update = WorkloadUpdate::stored(WorkloadKind::Deployment, &workload).unwrap();
        let [previous, latest] = [previous, latest].map(Value::to_string);
        let comparison = Comparison {
            namespace: "jobs",
            previous: &serde_json::from_str(&previous).unwrap(),
            latest: &serde_json::from_str(&latest).unwrap(),
            template: update.pod(),
            authored: update.annotations(),
            defaults: AnnotationLayers::default(),
            sidecars: &["istio-proxy".parse().unwrap()],
        };
        comparison
            .lost()
            .map(|lost| lost.sentence("Deployment", "web", 2))
    }

    fn with_reference(secret: &str) -> Value {
        json!([{"name": "main", "envFrom": [{"secretRef": {"name": secret}}]}])
    }

    fn bare() -> Value {
        json!([{"name": "main"}])
    }

    fn requesting() -> Value {
        json!({"secrets.floe.dev/env-from": "db"})
    }

    fn inheriting() -> Value {
        json!({"secrets.floe.dev/inherited": r#"{"env-from":"db"}"#})
    }

    #[test]
    fn sentence_names_references_annotation_and_remedy() {
        let expected = "container \"main\" lost secret \"db\" in revision 2 of Deployment \"web\", which no longer has the annotation secrets.floe.dev/env-from. Restore the annotation, or write the references into the pod template. If they are not needed, do nothing: only the latest revision is compared, and the next one ends this finding";
        let sentence = compared(
            &json!({}),
            &template(&inheriting(), &with_reference("db")),
            &template(&json!({}), &bare()),
            None,
        );
        assert_eq!(sentence.as_deref(), Some(expected));
    }

    #[rstest]
    #[case::in_the_template(&inheriting(), &with_reference("db"), &bare())]
    #[case::into_the_pods(&inheriting(), &bare(), &bare())]
    #[case::by_the_templates_own_annotation(&requesting(), &bare(), &bare())]
    #[case::a_key(
        &json!({"secrets.floe.dev/env.A": "db/k"}),
        &json!([{"name": "main", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}]),
        &json!([{"name": "main", "env": [{"name": "A", "value": "canary"}]}]),
    )]
    #[case::another_secret_instead(&inheriting(), &with_reference("db"), &with_reference("db2"))]
    fn lost_references_are_found(
        #[case] annotations: &Value,
        #[case] before: &Value,
        #[case] now: &Value,
    ) {
        let sentence = compared(
            &json!({}),
            &template(annotations, before),
            &template(&json!({}), now),
            None,
        )
        .unwrap();
        assert!(
            sentence.starts_with(LOST) && !sentence.contains("canary"),
            "{sentence}"
        );
    }

    #[rstest]
    #[case::by_the_author(&json!({}), &template(&json!({}), &with_reference("db")))]
    #[case::as_a_key(
        &json!({}),
        &template(&json!({}), &json!([{"name": "main", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}])),
    )]
    #[case::with_a_prefix(
        &json!({}),
        &template(&json!({}), &json!([{"name": "main", "envFrom": [{"prefix": "P_", "secretRef": {"name": "db"}}]}])),
    )]
    #[case::by_the_workloads_annotation(&requesting(), &template(&json!({}), &bare()))]
    #[case::by_the_templates_annotation(&json!({}), &template(&requesting(), &bare()))]
    #[case::by_another_annotation(&json!({}), &template(&json!({"secrets.floe.dev/refs": "db/k"}), &bare()))]
    #[case::replaced_in_the_annotation(&json!({}), &template(&json!({"secrets.floe.dev/env-from": "db2"}), &bare()))]
    #[case::author_opted_out(&json!({"secrets.floe.dev/inject": "false"}), &template(&json!({}), &bare()))]
    #[case::invalid_annotations(&json!({"secrets.floe.dev/env_from": "db"}), &template(&json!({}), &bare()))]
    #[case::container_removed(&json!({}), &template(&json!({}), &json!([{"name": "other"}])))]
    fn kept_references_are_not_lost(#[case] own: &Value, #[case] latest: &Value) {
        assert_eq!(
            compared(
                own,
                &template(&inheriting(), &with_reference("db")),
                latest,
                None
            ),
            None
        );
    }

    #[rstest]
    #[case::without_a_request(&json!({}), &with_reference("db"))]
    #[case::whose_author_opted_out(&json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/inject": "false"}), &with_reference("db"))]
    #[case::with_invalid_annotations(&json!({"secrets.floe.dev/env-from": "d b", "secrets.floe.dev/x": ""}), &bare())]
    #[case::whose_pods_were_refused(&json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/containers": "other"}), &bare())]
    #[case::with_a_sidecar_that_got_nothing(&requesting(), &json!([{"name": "istio-proxy"}, {"name": "app"}]))]
    fn no_reference_is_lost_from_a_revision(#[case] annotations: &Value, #[case] before: &Value) {
        let latest = template(
            &json!({}),
            &json!([{"name": "main"}, {"name": "istio-proxy"}]),
        );
        assert_eq!(
            compared(&json!({}), &template(annotations, before), &latest, None),
            None
        );
    }

    #[test]
    fn template_that_is_not_rolled_out_counts() {
        let (before, now) = (
            template(&inheriting(), &with_reference("db")),
            template(&json!({}), &bare()),
        );
        let own = template(&json!({}), &with_reference("db"));
        assert_eq!(
            compared(&json!({}), &before, &now, Some(&own)),
            None,
            "the author's own reference is not rolled out yet"
        );
        assert_eq!(
            compared(
                &json!({}),
                &before,
                &now,
                Some(&template(&requesting(), &bare()))
            ),
            None
        );
        assert_eq!(
            compared(&json!({}), &before, &before, Some(&now)),
            None,
            "the loss is not rolled out yet"
        );
    }

    #[test]
    fn defaults_that_request_the_secret_end_the_finding() {
        let (before, now) = (
            template(&inheriting(), &with_reference("db")),
            template(&json!({}), &bare()),
        );
        let [previous, latest] = [before.to_string(), now.to_string()];
        let latest: PodView<'_> = serde_json::from_str(&latest).unwrap();
        let is_lost = |default: &str| {
            let namespace =
                Annotations::from_pairs([("secrets.floe.dev/env-from", default.to_owned())]);
            let comparison = Comparison {
                namespace: "jobs",
                previous: &serde_json::from_str(&previous).unwrap(),
                latest: &latest,
                template: &latest,
                authored: &Annotations::default(),
                defaults: AnnotationLayers {
                    namespace: Some(("jobs", &namespace)),
                    ..AnnotationLayers::default()
                },
                sidecars: &[],
            };
            comparison.lost().is_some()
        };
        assert!(!is_lost("db"));
        assert!(
            is_lost("s3"),
            "a default that requests another secret is not a replacement"
        );
    }

    #[test]
    fn listed_containers_and_secrets_are_limited() {
        let secrets: Vec<String> = (0..12).map(|number| format!("s{number:02}")).collect();
        let containers: Vec<Value> = (0..12)
            .map(|number| json!({"name": format!("c{number:02}")}))
            .collect();
        let mut previous = template(
            &json!({"secrets.floe.dev/env-from": secrets.join(","), "secrets.floe.dev/init-containers": "*"}),
            &json!(containers),
        );
        previous["spec"]["initContainers"] = json!([{"name": "init"}]);
        let mut latest = template(&json!({}), &json!(containers));
        latest["spec"]["initContainers"] = previous["spec"]["initContainers"].clone();
        let sentence = compared(&json!({}), &previous, &latest, None).unwrap();
        assert!(
            sentence.starts_with("container \"c00\" lost secrets \"s00\", \"s01\", "),
            "{sentence}"
        );
        assert!(
            sentence.contains("\"s09\" and 2 more, container \"c01\" lost"),
            "{sentence}"
        );
        assert!(
            sentence.contains(" and 3 more in revision 2 of Deployment"),
            "11th and 12th, and the init container: {sentence}"
        );
        let hostile = json!([{"name": "x".repeat(64), "envFrom": [{"secretRef": {"name": "db"}}]}]);
        let sentence = compared(
            &json!({}),
            &template(&inheriting(), &hostile),
            &template(&json!({}), &json!([{"name": "x".repeat(64)}])),
            None,
        );
        assert_eq!(sentence, None, "the name is longer than Kubernetes allows");
    }

    #[test]
    fn debug_output_has_no_values() {
        let now = template(
            &json!({}),
            &json!([{"name": "main", "env": [{"name": "A", "value": "canary-7f3a"}]}]),
        );
        let text = now.to_string();
        let pod: PodView<'_> = serde_json::from_str(&text).unwrap();
        let none = Annotations::default();
        let comparison = Comparison {
            namespace: "jobs",
            previous: &pod,
            latest: &pod,
            template: &pod,
            authored: &none,
            defaults: AnnotationLayers::default(),
            sidecars: &[],
        };
        assert!(!format!("{comparison:?}").contains("canary"));
    }
}
