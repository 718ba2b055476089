//! References to Secrets that containers lost in the latest revision of their workload together with the annotation that
//! asked for them. Pure.
//!
//! The annotation counts as removed if its key stands neither on the workload, nor on its template, nor on the latest
//! revision. An annotation that is still there with another value was edited by its author, who knows. A reference
//! counts as lost if the container had it in the previous revision (in its template, or because the pods were injected)
//! and has it neither in the latest revision nor in the workload's template.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::evaluate::carried;
use injection::{
    self, AnnotationLayers, Annotations, ContainerList, ContainerView, Decision, InjectionRequest,
    MAX_LISTED, PlanInput, PlanTarget, PodView, Sidecar, SkipReason,
};

/// The longest name of a container that Kubernetes allows. A stored revision may have any.
const MAX_CONTAINER_NAME: usize = 63;

/// Two revisions of a workload, and the workload as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison<'r, 'a> {
    pub namespace: &'r str,
    /// The template of the previous revision.
    pub previous: &'r PodView<'a>,
    /// The template of the latest revision.
    pub latest: &'r PodView<'a>,
    /// The template of the workload.
    pub template: &'r PodView<'a>,
    /// The annotations that authors wrote on the workload and its template.
    pub authored: &'r Annotations<'static>,
    /// The defaults that apply to the workload's pods; `object` is not used.
    pub defaults: AnnotationLayers<'r>,
    pub sidecars: &'r [Sidecar],
}

/// References that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// By list and name of the container, the Secrets.
    containers: BTreeMap<(ContainerList, String), BTreeSet<String>>,
    /// The whole names of the annotations that asked for them.
    annotations: BTreeSet<String>,
}

type References<'p> = BTreeMap<(ContainerList, &'p str), BTreeSet<&'p str>>;

impl Comparison<'_, '_> {
    /// The lost references; `None` if there are none, or if it cannot be told.
    pub fn lost(&self) -> Option<Lost> {
        let asked = self.asked_before()?;
        let gone = self.gone(&asked)?;
        let secrets: BTreeSet<&str> = gone.keys().map(String::as_str).collect();
        let injected = self.injected(&asked);
        let mut had = references(self.previous, &secrets);
        for ((list, container), names) in &injected {
            let names = names
                .iter()
                .map(String::as_str)
                .filter(|name| secrets.contains(name));
            had.entry((*list, container.as_str()))
                .or_default()
                .extend(names);
        }
        let [latest, wanted] = [self.latest, self.template].map(|pod| references(pod, &secrets));
        let (mut containers, mut annotations) = (BTreeMap::new(), BTreeSet::new());
        for (container, names) in had {
            // A container that was removed lost nothing.
            let Some(has) = latest.get(&container) else {
                continue;
            };
            let will_have = wanted.get(&container);
            let is_lost = |name: &&str| {
                !has.contains(name) && will_have.is_none_or(|will_have| !will_have.contains(name))
            };
            let names: BTreeSet<&str> = names.into_iter().filter(is_lost).collect();
            if !names.is_empty() {
                annotations.extend(
                    names
                        .iter()
                        .filter_map(|name| gone.get(*name))
                        .flatten()
                        .cloned(),
                );
                let names = names.into_iter().map(str::to_owned).collect();
                containers.insert((container.0, container.1.to_owned()), names);
            }
        }
        (!containers.is_empty()).then_some(Lost {
            containers,
            annotations,
        })
    }

    /// What the pods of the previous revision asked for.
    fn asked_before(&self) -> Option<Box<InjectionRequest>> {
        let object = self.previous.annotations()?;
        match injection::parse(&AnnotationLayers {
            object: Some(object),
            ..self.defaults
        }) {
            Ok(Decision::Inject(request)) => Some(request),
            // Pods with mistakes in their annotations were refused, so what they had is unknown.
            Ok(Decision::Skip(_)) | Err(_) => None,
        }
    }

    /// The Secrets that nothing asks for any more, each with the removed annotations that asked for it before. `None` if
    /// there are none, if the author opted out, or if today's annotations cannot be read.
    fn gone(&self, asked: &InjectionRequest) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let layers = [
            Some(self.authored),
            self.template.annotations(),
            self.latest.annotations(),
        ];
        let (mut still_asked, mut standing) = (BTreeSet::new(), BTreeSet::new());
        for object in layers {
            match injection::parse(&AnnotationLayers {
                object,
                ..self.defaults
            }) {
                Err(_) | Ok(Decision::Skip(SkipReason::OptedOut)) => return None,
                Ok(Decision::Skip(_)) => {}
                Ok(Decision::Inject(request)) => {
                    let sites = asking(&request).inspect(|(secret, ..)| {
                        still_asked.insert((*secret).to_owned());
                    });
                    standing.extend(
                        sites
                            .filter(|(.., own)| *own)
                            .map(|(_, key, _)| key.to_owned()),
                    );
                }
            }
        }
        let stands = |key: &str| {
            standing.contains(key)
                || layers
                    .iter()
                    .flatten()
                    .any(|annotations| annotations.get(key).is_some())
        };
        let mut gone: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (secret, key, own) in asking(asked) {
            if own && !still_asked.contains(secret) && !stands(key) {
                let annotation = format!("{}{key}", injection::PREFIX);
                gone.entry(secret.to_owned())
                    .or_default()
                    .insert(annotation);
            }
        }
        (!gone.is_empty()).then_some(gone)
    }

    /// The references that the webhook adds to pods of the previous revision.
    fn injected(
        &self,
        asked: &InjectionRequest,
    ) -> BTreeMap<(ContainerList, String), BTreeSet<String>> {
        let bindings = carried(self.previous, asked);
        let plan = injection::plan(&PlanInput {
            target: PlanTarget::Manifest,
            pod: self.previous,
            namespace: self.namespace,
            request: asked,
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

/// Each Secret that is asked for, the key of an annotation that asks for it, and whether it is the workload's own and
/// not a default.
fn asking(request: &InjectionRequest) -> impl Iterator<Item = (&str, &str, bool)> {
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

/// Of each container, which of `secrets` it refers to in `env` or `envFrom`.
fn references<'p>(pod: &'p PodView<'_>, secrets: &BTreeSet<&str>) -> References<'p> {
    let lists = [
        (ContainerList::Containers, &pod.spec.containers),
        (ContainerList::InitContainers, &pod.spec.init_containers),
    ];
    let containers = lists
        .into_iter()
        .flat_map(|(list, containers)| containers.iter().flatten().map(move |c| (list, c)));
    containers
        .filter(|(_, container)| container.name.as_str().len() <= MAX_CONTAINER_NAME)
        .map(|(list, container)| {
            let referred = referred(container)
                .filter(|name| secrets.contains(name))
                .collect();
            ((list, container.name.as_str()), referred)
        })
        .collect()
}

fn referred<'c>(container: &'c ContainerView<'_>) -> impl Iterator<Item = &'c str> {
    let whole = container
        .env_from
        .iter()
        .flatten()
        .filter_map(|source| source.secret_ref.as_ref());
    let single = container
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.secret_key());
    whole
        .map(|secret| secret.name.as_str())
        .chain(single.map(|(secret, _)| secret))
}

impl Lost {
    /// The sentence about a revision of a workload: what was lost, why, and what to do.
    pub fn sentence(&self, kind: &str, name: &str, revision: i64) -> String {
        let Self {
            containers,
            annotations,
        } = self;
        let lost = Listed(containers.iter().map(|((list, container), secrets)| {
            let word = if secrets.len() == 1 {
                "secret"
            } else {
                "secrets"
            };
            format!(
                "{list} {container:?} lost {word} {}",
                Listed(secrets.iter().map(|secret| format!("{secret:?}")))
            )
        }));
        let word = if annotations.len() == 1 {
            "annotation"
        } else {
            "annotations"
        };
        let annotations = Listed(annotations.iter());
        format!(
            "{lost} in revision {revision} of {kind} {name:?}, which no longer has the {word} {annotations}. Restore the {word}, or write the references into the pod template. If they are not needed, do nothing: only the latest revision is compared, and the next one ends this finding"
        )
    }
}

/// A list of at most [`MAX_LISTED`] parts, and how many more there are.
struct Listed<I>(I);

impl<I: Iterator<Item: fmt::Display> + ExactSizeIterator + Clone> fmt::Display for Listed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.clone().take(MAX_LISTED).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            part.fmt(f)?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
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

    /// The sentence about revision 2, in which the workload's template is that of the latest revision unless another is
    /// given.
    fn judged(
        own: &Value,
        previous: &Value,
        latest: &Value,
        pending: Option<&Value>,
    ) -> Option<String> {
        let wanted = pending.unwrap_or(latest);
        let workload =
            json!({"metadata": {"annotations": own}, "spec": {"template": wanted}}).to_string();
        let workload: WorkloadView<'_> = serde_json::from_str(&workload).unwrap();
        let review = WorkloadUpdate::stored(WorkloadKind::Deployment, &workload).unwrap();
        let [previous, latest] = [previous, latest].map(Value::to_string);
        let comparison = Comparison {
            namespace: "jobs",
            previous: &serde_json::from_str(&previous).unwrap(),
            latest: &serde_json::from_str(&latest).unwrap(),
            template: review.pod(),
            authored: review.annotations(),
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

    fn asks() -> Value {
        json!({"secrets.floe.dev/env-from": "db"})
    }

    fn inherits() -> Value {
        json!({"secrets.floe.dev/inherited": r#"{"env-from":"db"}"#})
    }

    #[test]
    fn sentence_names_everything_and_what_to_do() {
        let expected = "container \"main\" lost secret \"db\" in revision 2 of Deployment \"web\", which no longer has the annotation secrets.floe.dev/env-from. Restore the annotation, or write the references into the pod template. If they are not needed, do nothing: only the latest revision is compared, and the next one ends this finding";
        let said = judged(
            &json!({}),
            &template(&inherits(), &with_reference("db")),
            &template(&json!({}), &bare()),
            None,
        );
        assert_eq!(said.as_deref(), Some(expected));
    }

    #[rstest]
    #[case::in_the_template(&inherits(), &with_reference("db"), &bare())]
    #[case::into_the_pods(&inherits(), &bare(), &bare())]
    #[case::by_the_templates_own_annotation(&asks(), &bare(), &bare())]
    #[case::a_key(
        &json!({"secrets.floe.dev/env.A": "db/k"}),
        &json!([{"name": "main", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}]),
        &json!([{"name": "main", "env": [{"name": "A", "value": "canary"}]}]),
    )]
    #[case::another_secret_instead(&inherits(), &with_reference("db"), &with_reference("db2"))]
    fn lost_references_are_found(
        #[case] asked: &Value,
        #[case] before: &Value,
        #[case] now: &Value,
    ) {
        let said = judged(
            &json!({}),
            &template(asked, before),
            &template(&json!({}), now),
            None,
        )
        .unwrap();
        assert!(said.starts_with(LOST) && !said.contains("canary"), "{said}");
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
    #[case::by_the_workloads_annotation(&asks(), &template(&json!({}), &bare()))]
    #[case::by_the_templates_annotation(&json!({}), &template(&asks(), &bare()))]
    #[case::by_another_annotation(&json!({}), &template(&json!({"secrets.floe.dev/refs": "db/k"}), &bare()))]
    #[case::or_replaced_in_the_annotation(&json!({}), &template(&json!({"secrets.floe.dev/env-from": "db2"}), &bare()))]
    #[case::or_refused_by_the_author(&json!({"secrets.floe.dev/inject": "false"}), &template(&json!({}), &bare()))]
    #[case::or_the_annotations_are_mistaken(&json!({"secrets.floe.dev/env_from": "db"}), &template(&json!({}), &bare()))]
    #[case::or_the_container_is_gone(&json!({}), &template(&json!({}), &json!([{"name": "other"}])))]
    fn references_that_are_kept_are_not_lost(#[case] own: &Value, #[case] latest: &Value) {
        assert_eq!(
            judged(
                own,
                &template(&inherits(), &with_reference("db")),
                latest,
                None
            ),
            None
        );
    }

    #[rstest]
    #[case::that_asked_for_nothing(&json!({}), &with_reference("db"))]
    #[case::whose_author_opted_out(&json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/inject": "false"}), &with_reference("db"))]
    #[case::with_a_mistake(&json!({"secrets.floe.dev/env-from": "d b", "secrets.floe.dev/x": ""}), &bare())]
    #[case::whose_pods_were_refused(&json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/containers": "other"}), &bare())]
    #[case::in_which_a_sidecar_got_nothing(&asks(), &json!([{"name": "istio-proxy"}, {"name": "app"}]))]
    fn nothing_is_lost_from_a_revision(#[case] asked: &Value, #[case] before: &Value) {
        let latest = template(
            &json!({}),
            &json!([{"name": "main"}, {"name": "istio-proxy"}]),
        );
        assert_eq!(
            judged(&json!({}), &template(asked, before), &latest, None),
            None
        );
    }

    #[test]
    fn a_template_that_is_not_rolled_out_yet_counts() {
        let (before, now) = (
            template(&inherits(), &with_reference("db")),
            template(&json!({}), &bare()),
        );
        let own = template(&json!({}), &with_reference("db"));
        assert_eq!(
            judged(&json!({}), &before, &now, Some(&own)),
            None,
            "the author's own reference is on its way"
        );
        assert_eq!(
            judged(&json!({}), &before, &now, Some(&template(&asks(), &bare()))),
            None
        );
        assert_eq!(
            judged(&json!({}), &before, &before, Some(&now)),
            None,
            "the loss is not rolled out yet"
        );
    }

    #[test]
    fn defaults_that_ask_for_the_secret_end_the_finding() {
        let (before, now) = (
            template(&inherits(), &with_reference("db")),
            template(&json!({}), &bare()),
        );
        let [previous, latest] = [before.to_string(), now.to_string()];
        let latest: PodView<'_> = serde_json::from_str(&latest).unwrap();
        let lost = |default: &str| {
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
        assert!(!lost("db"));
        assert!(
            lost("s3"),
            "a default that asks for another secret replaces nothing"
        );
    }

    #[test]
    fn containers_and_secrets_are_listed_up_to_a_bound() {
        let asked: Vec<String> = (0..12).map(|number| format!("s{number:02}")).collect();
        let containers: Vec<Value> = (0..12)
            .map(|number| json!({"name": format!("c{number:02}")}))
            .collect();
        let mut previous = template(
            &json!({"secrets.floe.dev/env-from": asked.join(","), "secrets.floe.dev/init-containers": "*"}),
            &json!(containers),
        );
        previous["spec"]["initContainers"] = json!([{"name": "init"}]);
        let mut latest = template(&json!({}), &json!(containers));
        latest["spec"]["initContainers"] = previous["spec"]["initContainers"].clone();
        let said = judged(&json!({}), &previous, &latest, None).unwrap();
        assert!(
            said.starts_with("container \"c00\" lost secrets \"s00\", \"s01\", "),
            "{said}"
        );
        assert!(
            said.contains("\"s09\" and 2 more, container \"c01\" lost"),
            "{said}"
        );
        assert!(
            said.contains(" and 3 more in revision 2 of Deployment"),
            "11th and 12th, and the init container: {said}"
        );
        let hostile = json!([{"name": "x".repeat(64), "envFrom": [{"secretRef": {"name": "db"}}]}]);
        let said = judged(
            &json!({}),
            &template(&inherits(), &hostile),
            &template(&json!({}), &json!([{"name": "x".repeat(64)}])),
            None,
        );
        assert_eq!(said, None, "no container has a name as long");
    }

    #[test]
    fn values_are_not_shown() {
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
