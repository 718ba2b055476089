//! Invariants after every step: the next pod gets exactly what the nearest annotation in the stored object requests,
//! and no author's statement is lost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::apply::{self, Form};
use super::author::{self, Field, LAST_APPLIED, LIST, Manifest, PREFIX, Step, template_path};

/// API server that steps are applied to, simulated or real.
pub trait ApiServer {
    /// Applies a step, with the revision of an undo; returns the warnings of the request.
    async fn apply_step(
        &mut self,
        step: &Step,
        earlier: Option<&Revision>,
    ) -> Result<Vec<String>, String>;
    /// Stored object.
    async fn object(&self) -> Value;
    /// Whether the time of a server-side apply differs from the manager's last one.
    fn tells_applies_apart(&self) -> bool;
    /// Container of a pod that is created from the stored template.
    async fn container(&self) -> Result<Value, String>;
}

/// Stored template, and the state that `kubectl rollout undo` restores with it.
#[derive(Clone, Debug)]
pub struct Revision {
    pub template: Value,
    /// Annotations of a Deployment's ReplicaSet: all that its Deployment had while the template was this one.
    annotations: Map<String, Value>,
    /// Statements of authors at that time.
    claims: Manifest,
}

impl Revision {
    /// Annotations of a Deployment after an undo.
    pub fn annotations_after(&self, object: &Value) -> Value {
        let stays =
            |name: &str| name == LAST_APPLIED || name.starts_with("deployment.kubernetes.io/");
        let own = object["metadata"]["annotations"]
            .as_object()
            .into_iter()
            .flatten();
        let own = own.filter(|(name, _)| stays(name));
        let earlier = self.annotations.iter().filter(|(name, _)| !stays(name));
        own.chain(earlier)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// State of one sequence.
pub struct Checker {
    /// Last statements of authors, by field.
    pub claims: Manifest,
    /// Fields that a manager no longer applies server-side, and that may stay nevertheless.
    leftovers: Manifest,
    /// Templates that were stored so far.
    pub revisions: Vec<Revision>,
    pub latest: [Option<Manifest>; 3],
}

fn keys(annotations: Option<&Value>) -> BTreeMap<String, String> {
    let all = annotations.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, value)| {
        Some((
            name.strip_prefix(PREFIX)?.to_owned(),
            value.as_str()?.to_owned(),
        ))
    })
    .filter(|(key, _)| key != "injected" && key != "inherited")
    .collect()
}

/// Nearest annotation to the pods in the stored object, by key.
fn nearest(object: &Value) -> BTreeMap<String, String> {
    let template = object
        .pointer(template_path(object["kind"].as_str().expect("a kind")))
        .expect("a template");
    let mut keys_of_template = keys(template["metadata"].get("annotations"));
    let record = object["metadata"]["annotations"][format!("{PREFIX}injected")]
        .as_str()
        .unwrap_or("{}");
    let record: Value = serde_json::from_str(record).expect("a record");
    keys_of_template.retain(|key, value| record["copied"][key] != **value);
    let mut nearest = keys(object["metadata"].get("annotations"));
    nearest.extend(keys(
        object.pointer("/spec/jobTemplate/metadata/annotations"),
    ));
    nearest.extend(keys_of_template);
    nearest
}

fn names(list: &Value) -> BTreeSet<String> {
    let entries = list.as_array().into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry["secretRef"]["name"].as_str()?.to_owned()))
        .collect()
}

fn items(list: &Value) -> BTreeSet<&str> {
    list.as_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .collect()
}

fn is_of_template(field: &Field) -> bool {
    !matches!(field, Field::Metadata(_) | Field::Job(_))
}

impl Checker {
    pub fn new(object: &Value, manifest: Manifest, author: usize) -> Self {
        let mut latest = [None, None, None];
        latest[author] = Some(manifest.clone());
        let mut checker = Self {
            claims: manifest,
            leftovers: Manifest::new(),
            revisions: Vec::new(),
            latest,
        };
        checker.remember(object);
        checker
    }

    fn remember(&mut self, object: &Value) {
        let template = object
            .pointer(template_path(object["kind"].as_str().expect("a kind")))
            .expect("a template");
        let annotations = object["metadata"]["annotations"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        if let Some(known) = self
            .revisions
            .iter_mut()
            .find(|known| known.template == *template)
        {
            known.annotations.extend(annotations);
            let claims = self
                .claims
                .iter()
                .filter(|(field, _)| !is_of_template(field));
            known
                .claims
                .extend(claims.map(|(field, claim)| (field.clone(), claim.clone())));
            return;
        }
        self.revisions.push(Revision {
            template: template.clone(),
            annotations,
            claims: self.claims.clone(),
        });
    }

    fn claim(&mut self, kind: &str, author: usize, manifest: &Manifest) {
        // Where the list of containers is one value, every apply states all of it.
        if Form::of(kind) == Form::Merge {
            self.claims.retain(|field, _| !field.is_of_container());
            self.leftovers.retain(|field, _| !field.is_of_container());
        }
        for field in self.latest[author].iter().flat_map(Manifest::keys) {
            // A field that another manager owns too stays when one no longer applies it.
            if let Some(claim) = self.claims.remove(field).filter(|_| author > 0) {
                self.leftovers.insert(field.clone(), claim);
            }
        }
        self.claims.extend(manifest.clone());
        self.latest[author] = Some(manifest.clone());
    }

    /// Statements of the step.
    fn note(&mut self, step: &Step, before: &Value) {
        let kind = before["kind"].as_str().expect("a kind");
        match step {
            Step::Apply(manifest) => {
                self.claim(kind, 0, manifest);
                // A manager that applies no more of a map removes all of it, including others' fields.
                let name = before["metadata"]["name"].as_str().expect("a name");
                let (mut sent, patch) = (
                    before.clone(),
                    apply::patch(&author::object(kind, name, manifest), before),
                );
                apply::merge(Form::of(kind), &mut sent, &patch);
                self.claims.retain(|field, _| field.get(&sent).is_some());
            }
            Step::ServerApply(manager, manifest) => self.claim(kind, 1 + manager, manifest),
            Step::Replace(manifest) => {
                self.claims = manifest.clone();
                // Nothing of the last applied configuration is left: a later `kubectl apply` removes nothing. Fields
                // that a manager applied server-side and that are replaced by the same value stay the manager's.
                self.latest[0] = None;
            }
            // Writing an equal value does not change the owner.
            Step::Annotate(field, Some(value)) if field.get(before).as_ref() == Some(value) => {}
            Step::Annotate(field, Some(value)) => {
                drop(self.claims.insert(field.clone(), value.clone()));
            }
            Step::Annotate(field, None) => drop(self.claims.remove(field)),
            Step::Undo(revision) => {
                let Revision {
                    mut claims,
                    annotations,
                    ..
                } = self.revisions[*revision].clone();
                let of_metadata = kind == "Deployment";
                claims.retain(|field, claim| match field {
                    Field::Metadata(name) if name == LIST => {
                        of_metadata
                            && annotations
                                .get(name)
                                .is_some_and(|list| items(claim).is_subset(&items(list)))
                    }
                    Field::Metadata(name) => of_metadata && annotations.get(name) == Some(claim),
                    field => is_of_template(field),
                });
                self.claims
                    .retain(|field, _| !is_of_template(field) && !of_metadata);
                self.claims.extend(claims);
            }
            Step::SetImage(image) => drop(self.claims.insert(Field::Image, json!(image))),
            Step::Restart | Step::Label => {}
        }
    }

    /// Applies a step and checks the invariants after it.
    pub async fn step(
        &mut self,
        api_server: &mut impl ApiServer,
        step: &Step,
    ) -> Result<(), String> {
        let earlier = match step {
            Step::Undo(revision) => Some(self.revisions[*revision].clone()),
            _ => None,
        };
        let before = api_server.object().await;
        let warnings = api_server.apply_step(step, earlier.as_ref()).await?;
        let object = api_server.object().await;
        self.note(step, &before);
        self.check_claims(&object, step, &warnings, api_server.tells_applies_apart())?;
        self.check_list(&object)?;
        self.check_pod(&object, &api_server.container().await?)?;
        self.remember(&object);
        Ok(())
    }

    fn check_claims(
        &mut self,
        object: &Value,
        step: &Step,
        warnings: &[String],
        applies_are_told: bool,
    ) -> Result<(), String> {
        // If the author is unknown, an injected field is removed although its author wrote it, and a warning says so.
        let untold = match step {
            Step::Replace(_) | Step::Annotate(..) | Step::Undo(_) => true,
            Step::ServerApply(..) => !applies_are_told,
            _ => false,
        };
        let mut lost = Vec::new();
        for (field, claimed) in &self.claims {
            let there = field.get(object);
            let missing: Vec<String> = match field {
                Field::EnvFrom => names(claimed)
                    .difference(&there.as_ref().map(names).unwrap_or_default())
                    .cloned()
                    .collect(),
                Field::Metadata(name) if name == LIST => {
                    let there = there.as_ref().map(items).unwrap_or_default();
                    items(claimed)
                        .difference(&there)
                        .map(|item| (*item).to_owned())
                        .collect()
                }
                Field::Env(name) => {
                    if there.is_none() {
                        vec![name.clone()]
                    } else {
                        Vec::new()
                    }
                }
                Field::Metadata(name) | Field::Job(name) | Field::Template(name) => {
                    if there.as_ref() == Some(claimed) {
                        Vec::new()
                    } else {
                        vec![name.clone()]
                    }
                }
                Field::Image => {
                    if there.as_ref() == Some(claimed) {
                        Vec::new()
                    } else {
                        vec!["image".to_owned()]
                    }
                }
            };
            let is_told = |name: &String| {
                warnings.iter().any(|text| {
                    text.contains(&format!("\"{name}\"")) && text.contains("removed from")
                })
            };
            if let Some(name) = missing.iter().find(|name| !untold || !is_told(name)) {
                return Err(format!(
                    "{name} is gone, which an author states in {field:?}: {claimed}; warnings {warnings:?}"
                ));
            }
            if !missing.is_empty() {
                lost.push(field.clone());
            }
        }
        for field in lost {
            let left = field.get(object).filter(|_| field == Field::EnvFrom);
            match left {
                Some(left) => drop(self.claims.insert(field, left)),
                None => drop(self.claims.remove(&field)),
            }
        }
        Ok(())
    }

    /// Whether the workload is restarted only for requested secrets and for those that an author lists.
    fn check_list(&self, object: &Value) -> Result<(), String> {
        let field = Field::Metadata(LIST.to_owned());
        let Some(listed) = field.get(object) else {
            return Ok(());
        };
        let requested = nearest(object);
        let asked_for = requested
            .get("env-from")
            .into_iter()
            .flat_map(|list| list.split(','));
        let asked_for: BTreeSet<&str> = asked_for
            .chain(
                requested
                    .get("env.USER")
                    .and_then(|reference| reference.split('/').next()),
            )
            .collect();
        let stated = self
            .latest
            .iter()
            .flatten()
            .chain([&self.claims, &self.leftovers]);
        let stated: Vec<&Value> = stated.filter_map(|manifest| manifest.get(&field)).collect();
        let is_known = |item: &&str| {
            asked_for.contains(item) || stated.iter().any(|list| items(list).contains(item))
        };
        match items(&listed).into_iter().find(|item| !is_known(item)) {
            Some(item) => Err(format!(
                "{item} restarts the workload without a request: {requested:?} {listed}"
            )),
            None => Ok(()),
        }
    }

    fn check_pod(&self, object: &Value, container: &Value) -> Result<(), String> {
        let requested = nearest(object);
        let wanted: BTreeSet<String> = requested
            .get("env-from")
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::to_owned)
            .collect();
        let stated = self
            .latest
            .iter()
            .flatten()
            .filter_map(|manifest| manifest.get(&Field::EnvFrom));
        let stated: BTreeSet<String> = stated
            .chain(
                [&self.claims, &self.leftovers]
                    .into_iter()
                    .filter_map(|of| of.get(&Field::EnvFrom)),
            )
            .flat_map(names)
            .collect();
        let sources = names(&container["envFrom"]);
        if let Some(name) = wanted.difference(&sources).next() {
            return Err(format!(
                "the pod lacks {name}, which {requested:?} asks for: {container}"
            ));
        }
        if let Some(name) = sources
            .iter()
            .find(|name| !wanted.contains(*name) && !stated.contains(*name))
        {
            return Err(format!(
                "the pod gets {name} without a request: {requested:?} {container}"
            ));
        }
        let variable = container["env"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|entry| entry["name"] == "USER");
        let field = Field::Env("USER".to_owned());
        let stated = self.claims.contains_key(&field)
            || self.leftovers.contains_key(&field)
            || self.latest.iter().flatten().any(|m| m.contains_key(&field));
        match (requested.get("env.USER"), variable) {
            (Some(reference), None) => {
                Err(format!("the pod lacks USER of {reference}: {container}"))
            }
            (Some(reference), Some(entry)) if !stated => {
                let from = &entry["valueFrom"]["secretKeyRef"];
                let is = format!(
                    "{}/{}",
                    from["name"].as_str().unwrap_or(""),
                    from["key"].as_str().unwrap_or("")
                );
                if is == **reference {
                    Ok(())
                } else {
                    Err(format!("USER is {is} and not {reference}"))
                }
            }
            (None, Some(entry)) if !stated => {
                Err(format!("the pod gets USER, which nobody asks for: {entry}"))
            }
            _ => Ok(()),
        }
    }
}
