//! Admission as in the handler, without its IO: annotations and a pod in, a pod and warnings out.
//!
//! Every outcome is checked for invariants: a second pass adds nothing, and entries of the author are not changed.

use std::collections::BTreeMap;

use injection::{
    AnnotationLayers, Annotations, BindOutcome, Decision, PlanInput, PlanTarget, PodView,
    SecretBinding, SecretId, SecretName, SecretSource, Sidecar, SkipReason, parse, plan, render,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::additive::difference;

pub(crate) const PREFIX: &str = "secrets.floe.dev/";
pub(crate) const NAMESPACE: &str = "floe-jobs";

/// A pod to admit, with defaults, bindings and sidecars.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) pod: Value,
    pub(crate) target: PlanTarget,
    bindings: BTreeMap<SecretId, BindOutcome>,
    service_account: Option<(String, Vec<(String, String)>)>,
    namespace: Option<Vec<(String, String)>>,
    sidecars: Vec<Sidecar>,
}

/// Outcome of an admission.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Refused(Vec<String>),
    Skipped(SkipReason),
    Admitted(Admitted),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted {
    pub(crate) pod: Value,
    pub(crate) warnings: Vec<String>,
    pub(crate) patch: String,
}

/// A pod with one container `app` and these annotations of the contract.
pub(crate) fn pod(annotations: &[(&str, &str)]) -> Value {
    pod_with(
        annotations,
        json!({ "containers": [{ "name": "app", "image": "app:1" }] }),
    )
}

/// A pod with this spec and these annotations of the contract.
pub(crate) fn pod_with(annotations: &[(&str, &str)], spec: Value) -> Value {
    let annotations: BTreeMap<String, &str> = annotations
        .iter()
        .map(|(k, v)| (format!("{PREFIX}{k}"), *v))
        .collect();
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "run-", "annotations": annotations }, "spec": spec })
}

impl Admission {
    pub(crate) fn of(pod: Value) -> Self {
        Self {
            pod,
            target: PlanTarget::Pod,
            bindings: BTreeMap::new(),
            service_account: None,
            namespace: None,
            sidecars: [
                "istio-proxy",
                "linkerd-*",
                "wait@workflows.argoproj.io/workflow",
            ]
            .map(|sidecar| sidecar.parse().unwrap())
            .to_vec(),
        }
    }

    /// Adds a Secret with these keys. Other Secrets exist, with keys that were not queried.
    pub(crate) fn secret(self, name: &str, keys: &[&str]) -> Self {
        let keys = keys.iter().map(ToString::to_string).collect();
        self.bound(
            name,
            BindOutcome::Found(SecretBinding {
                secret_name: bare(name),
                keys: Some(keys),
            }),
        )
    }

    pub(crate) fn missing(self, name: &str) -> Self {
        self.bound(
            name,
            BindOutcome::Missing {
                backend: "kubernetes",
                near: None,
            },
        )
    }

    pub(crate) fn bound(mut self, name: &str, bound: BindOutcome) -> Self {
        self.bindings.insert(id(name), bound);
        self
    }

    pub(crate) fn service_account(mut self, name: &str, annotations: &[(&str, &str)]) -> Self {
        self.service_account = Some((name.to_owned(), prefixed(annotations)));
        self
    }

    pub(crate) fn namespace(mut self, annotations: &[(&str, &str)]) -> Self {
        self.namespace = Some(prefixed(annotations));
        self
    }

    pub(crate) fn target(mut self, target: PlanTarget) -> Self {
        self.target = target;
        self
    }

    pub(crate) fn admit(&self) -> Outcome {
        let outcome = self.once();
        if let Outcome::Admitted(admitted) = &outcome {
            assert_eq!(
                difference(&self.pod, &admitted.pod),
                Ok(()),
                "{:#}\n{:#}",
                self.pod,
                admitted.pod
            );
            let again = Self {
                pod: admitted.pod.clone(),
                ..self.clone()
            };
            let Outcome::Admitted(second) = again.once() else {
                panic!("the second pass does not admit: {again:?}")
            };
            assert_eq!(
                second.patch, "[]",
                "the second pass adds to {:#}",
                admitted.pod
            );
            assert_eq!(
                self.once(),
                outcome,
                "the same input gives the same outcome"
            );
        }
        outcome
    }

    /// # Panics
    /// If the pod is rejected or skipped.
    pub(crate) fn injects(&self) -> Admitted {
        match self.admit() {
            Outcome::Admitted(admitted) => admitted,
            other => panic!("not admitted: {other:#?}"),
        }
    }

    /// # Panics
    /// If the pod is not rejected.
    pub(crate) fn rejects(&self) -> Vec<String> {
        match self.admit() {
            Outcome::Refused(sentences) => sentences,
            other => panic!("not rejected: {other:#?}"),
        }
    }

    /// Reason for which the pod is accepted as it is.
    ///
    /// # Panics
    /// If the pod is rejected or injected.
    pub(crate) fn accepts(&self) -> SkipReason {
        match self.admit() {
            Outcome::Skipped(reason) => reason,
            other => panic!("not accepted as it is: {other:#?}"),
        }
    }

    fn once(&self) -> Outcome {
        let view = PodView::deserialize(&self.pod).unwrap();
        let service_account = self
            .service_account
            .as_ref()
            .map(|(name, pairs)| (name.as_str(), annotations(pairs)));
        let namespace = self.namespace.as_ref().map(|pairs| annotations(pairs));
        let sources = AnnotationLayers {
            object: view.annotations(),
            service_account: service_account
                .as_ref()
                .map(|(name, annotations)| (*name, annotations)),
            namespace: namespace
                .as_ref()
                .map(|annotations| (NAMESPACE, annotations)),
        };
        let request = match parse(&sources) {
            Err(mistakes) => {
                return Outcome::Refused(mistakes.iter().map(ToString::to_string).collect());
            }
            Ok(Decision::Skip(reason)) => return Outcome::Skipped(reason),
            Ok(Decision::Inject(request)) => request,
        };
        let mut bindings = self.bindings.clone();
        for secret in request.key_queries().into_keys() {
            bindings.entry(secret.clone()).or_insert_with(|| {
                BindOutcome::Found(SecretBinding {
                    secret_name: secret.name.to_string(),
                    keys: None,
                })
            });
        }
        let input = PlanInput {
            target: self.target,
            pod: &view,
            namespace: NAMESPACE,
            request: &request,
            bindings: &bindings,
            sidecars: &self.sidecars,
            discloses: true,
        };
        match plan(&input) {
            Err(errors) => Outcome::Refused(errors.iter().map(ToString::to_string).collect()),
            Ok(plan) => {
                let patch = render(&plan, &[]);
                assert_eq!(plan.is_empty(), patch.0.is_empty());
                let mut pod = self.pod.clone();
                json_patch::patch(&mut pod, &json_patch::Patch::from(patch.clone())).unwrap();
                let warnings = plan.warnings.iter().map(ToString::to_string).collect();
                Outcome::Admitted(Admitted {
                    pod,
                    warnings,
                    patch: serde_json::to_string(&patch).unwrap(),
                })
            }
        }
    }
}

impl Admitted {
    /// Sources of a container, in order: Secrets by name, and config maps as `configmap:<name>`.
    pub(crate) fn env_from(&self, container: &str) -> Vec<String> {
        let sources = self.container(container)["envFrom"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let name = |source: &Value| match source["secretRef"]["name"].as_str() {
            Some(secret) => secret.to_owned(),
            None => format!(
                "configmap:{}",
                source["configMapRef"]["name"].as_str().unwrap_or_default()
            ),
        };
        sources.iter().map(name).collect()
    }

    /// Entries of a container, in order: `NAME=secret/key`, `NAME='literal'`.
    pub(crate) fn env(&self, container: &str) -> Vec<String> {
        let entries = self.container(container)["env"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entry = |entry: &Value| {
            let from = &entry["valueFrom"]["secretKeyRef"];
            if from.is_null() {
                format!("{}='{}'", text(&entry["name"]), text(&entry["value"]))
            } else {
                format!(
                    "{}={}/{}",
                    text(&entry["name"]),
                    text(&from["name"]),
                    text(&from["key"])
                )
            }
        };
        entries.iter().map(entry).collect()
    }

    /// # Panics
    /// If neither list has a container of this name.
    pub(crate) fn container(&self, name: &str) -> &Value {
        let lists = ["containers", "initContainers"];
        let all = lists
            .into_iter()
            .filter_map(|list| self.pod["spec"][list].as_array())
            .flatten();
        all.into_iter()
            .find(|container| container["name"] == name)
            .unwrap_or_else(|| panic!("no container {name}"))
    }

    /// The record of the admitted pod.
    pub(crate) fn record(&self) -> Value {
        let record = &self.pod["metadata"]["annotations"]["secrets.floe.dev/injected"];
        record
            .as_str()
            .map_or(Value::Null, |record| serde_json::from_str(record).unwrap())
    }
}

/// Parses `[source:]name`.
pub(crate) fn id(name: &str) -> SecretId {
    let (source, name) = name.split_once(':').unwrap_or(("kubernetes", name));
    SecretId {
        source: source.parse::<SecretSource>().unwrap(),
        name: name.parse::<SecretName>().unwrap(),
    }
}

fn bare(name: &str) -> String {
    id(name).name.to_string()
}

fn prefixed(annotations: &[(&str, &str)]) -> Vec<(String, String)> {
    annotations
        .iter()
        .map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned()))
        .collect()
}

fn annotations(pairs: &[(String, String)]) -> Annotations<'_> {
    Annotations::from_pairs(
        pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    )
}
