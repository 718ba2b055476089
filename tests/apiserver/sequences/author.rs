//! Authors: manifests by their fields, and the steps that change them.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Map, Value, json};

pub const PREFIX: &str = "secrets.floe.dev/";
pub const LIST: &str = "secret.reloader.stakater.com/reload";
pub const INFISICAL: &str = "secrets.infisical.com/auto-reload";
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
pub const CONTAINER: &str = "main";

/// Field of a workload that an author may own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Annotation of the workload.
    Metadata(String),
    /// Annotation of a `CronJob`'s jobTemplate.
    Job(String),
    /// Annotation of the pod template.
    Template(String),
    /// `envFrom` of the container, which is owned as one value.
    EnvFrom,
    /// Variable of the container.
    Env(String),
    /// Image of the container.
    Image,
}

/// Statements of one author, by field.
pub type Manifest = BTreeMap<Field, Value>;

/// Kinds of workloads whose annotations can change.
pub const KINDS: [(&str, &str); 5] = [
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("CronJob", "batch/v1"),
    ("Rollout", "argoproj.io/v1alpha1"),
];

/// JSON pointer of a kind's pod template.
pub fn template_path(kind: &str) -> &'static str {
    if kind == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    }
}

impl Field {
    fn annotations(&self, kind: &str) -> Option<(String, &str)> {
        match self {
            Self::Metadata(name) => Some(("/metadata/annotations".to_owned(), name)),
            Self::Job(name) => Some(("/spec/jobTemplate/metadata/annotations".to_owned(), name)),
            Self::Template(name) => Some((
                format!("{}/metadata/annotations", template_path(kind)),
                name,
            )),
            Self::EnvFrom | Self::Env(_) | Self::Image => None,
        }
    }

    pub fn is_of_container(&self) -> bool {
        matches!(self, Self::EnvFrom | Self::Env(_) | Self::Image)
    }

    /// Value of the field in an object.
    pub fn get(&self, object: &Value) -> Option<Value> {
        let kind = object["kind"].as_str()?;
        if let Some((path, name)) = self.annotations(kind) {
            return object.pointer(&path)?.get(name).cloned();
        }
        let container = object.pointer(template_path(kind))?["spec"]["containers"].get(0)?;
        match self {
            Self::EnvFrom => container
                .get("envFrom")
                .filter(|list| *list != &json!([]))
                .cloned(),
            Self::Env(name) => container["env"]
                .as_array()?
                .iter()
                .find(|entry| entry["name"] == **name)
                .cloned(),
            _ => container.get("image").cloned(),
        }
    }

    /// Writes the field into an object, or removes it.
    pub fn set(&self, object: &mut Value, value: Option<&Value>) {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        if let Some((path, name)) = self.annotations(&kind) {
            let map = make(object, &path);
            match value {
                Some(value) => drop(map.insert(name.to_owned(), value.clone())),
                None => drop(map.remove(name)),
            }
            return;
        }
        let template = object
            .pointer_mut(template_path(&kind))
            .expect("a template");
        let container = template["spec"]["containers"][0]
            .as_object_mut()
            .expect("a container");
        match (self, value) {
            (Self::EnvFrom, Some(value)) => {
                drop(container.insert("envFrom".to_owned(), value.clone()));
            }
            (Self::EnvFrom, None) => drop(container.remove("envFrom")),
            (Self::Env(name), value) => {
                let list = container
                    .entry("env")
                    .or_insert_with(|| json!([]))
                    .as_array_mut()
                    .expect("a list");
                let place = list.iter().position(|entry| entry["name"] == **name);
                match (place, value) {
                    (Some(place), Some(value)) => list[place] = value.clone(),
                    (None, Some(value)) => list.push(value.clone()),
                    (Some(place), None) => drop(list.remove(place)),
                    (None, None) => {}
                }
            }
            (_, value) => drop(container.insert(
                "image".to_owned(),
                value.cloned().unwrap_or_else(|| json!("none")),
            )),
        }
    }
}

/// Map at a path, created if it is missing.
fn make<'o>(object: &'o mut Value, path: &str) -> &'o mut Map<String, Value> {
    let mut at = object;
    for step in path.split('/').skip(1) {
        at = &mut at[step];
        if at.is_null() {
            *at = json!({});
        }
    }
    at.as_object_mut().expect("a map")
}

/// Object of a kind with these fields and no others.
pub fn object(kind: &str, name: &str, manifest: &Manifest) -> Value {
    let version = KINDS
        .into_iter()
        .find_map(|(known, version)| (known == kind).then_some(version))
        .expect("a kind");
    let labels = json!({"app": name});
    let pod = json!({
        "metadata": {"labels": labels}, "spec": {"containers": [{"name": CONTAINER, "image": "none"}]},
    });
    let spec = match kind {
        "CronJob" => {
            let mut pod = pod;
            pod["spec"]["restartPolicy"] = json!("Never");
            json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": pod}}})
        }
        "StatefulSet" => {
            json!({"replicas": 0, "serviceName": name, "selector": {"matchLabels": labels}, "template": pod})
        }
        "DaemonSet" => json!({"selector": {"matchLabels": labels}, "template": pod}),
        _ => json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}),
    };
    let mut object =
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    for (field, value) in manifest {
        field.set(&mut object, Some(value));
    }
    object
}

/// Whole Secret as a source.
pub fn source(name: &str) -> Value {
    json!({"secretRef": {"name": name}})
}

/// Change of a workload by a user.
#[derive(Clone, Debug)]
pub enum Step {
    /// `kubectl apply` of a manifest.
    Apply(Manifest),
    /// `kubectl apply --server-side --force-conflicts` by one of two managers.
    ServerApply(usize, Manifest),
    /// `kubectl replace` by a manifest.
    Replace(Manifest),
    /// `kubectl annotate`, or a patch of the template.
    Annotate(Field, Option<Value>),
    /// `kubectl rollout undo`, to one of the revisions so far.
    Undo(usize),
    /// `kubectl rollout restart`.
    Restart,
    /// `kubectl set image`.
    SetImage(String),
    /// `kubectl label`: the template stays as it is.
    Label,
}

/// Generator of random manifests and steps; the same seed gives the same ones.
pub struct Author {
    pub random: Rng,
    kind: &'static str,
}

impl Author {
    pub fn new(random: Rng, kind: &'static str) -> Self {
        Self { random, kind }
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.usize(..of.len())]
    }

    fn place(&mut self, name: String) -> Field {
        match self.random.u8(..if self.kind == "CronJob" { 5 } else { 4 }) {
            0 | 1 => Field::Metadata(name),
            2 | 3 => Field::Template(name),
            _ => Field::Job(name),
        }
    }

    fn value(&mut self, key: &str) -> Value {
        match key {
            "env-from" => json!(self.one(&["a", "b", "a,b", "c"])),
            "reload" => json!(self.one(&["infisical", "infisical", "reloader", "off"])),
            _ => json!(self.one(&["c/k", "a/k"])),
        }
    }

    fn key(&mut self) -> &'static str {
        self.one(&["env-from", "env-from", "env.USER", "reload"])
    }

    /// First manifest.
    pub fn manifest(&mut self) -> Manifest {
        let mut manifest = Manifest::from([(Field::Image, json!("one"))]);
        for _ in 0..self.random.usize(1..4) {
            let key = self.key();
            let (place, value) = (self.place(format!("{PREFIX}{key}")), self.value(key));
            manifest.insert(place, value);
        }
        self.own_fields(&mut manifest, 20);
        manifest
    }

    /// The author's own fields that equal what the annotations would produce.
    fn own_fields(&mut self, manifest: &mut Manifest, percent: u8) {
        let mut chance = || self.random.u8(..100) < percent;
        let (list, sources, variable, infisical) = (chance(), chance(), chance(), chance());
        if list {
            let value = self.one(&["a", "x", "x, b", "a,b"]);
            manifest.insert(Field::Metadata(LIST.to_owned()), json!(value));
        }
        if sources {
            let names: &[&str] = self.one(&[&["a"][..], &["x"], &["x", "b"], &["a", "b"]]);
            manifest.insert(
                Field::EnvFrom,
                names.iter().map(|name| source(name)).collect(),
            );
        }
        if variable {
            let key = json!({"name": self.one(&["c", "a"]), "key": "k"});
            manifest.insert(
                Field::Env("USER".to_owned()),
                json!({"name": "USER", "valueFrom": {"secretKeyRef": key}}),
            );
        }
        if infisical {
            manifest.insert(Field::Metadata(INFISICAL.to_owned()), json!("true"));
        }
    }

    /// Next version of `manifest`: moves, removes, changes, adds, or adopts.
    fn next(&mut self, manifest: &Manifest) -> Manifest {
        let mut next = manifest.clone();
        let annotation_fields: Vec<Field> = next
            .keys()
            .filter(|field| field.name().starts_with(PREFIX))
            .cloned()
            .collect();
        let field = (!annotation_fields.is_empty())
            .then(|| annotation_fields[self.random.usize(..annotation_fields.len())].clone());
        match (self.random.u8(..6), field) {
            (0 | 1, Some(field)) => {
                let value = next.remove(&field).expect("it is there");
                let place = self.place(field.name().to_owned());
                next.insert(place, value);
            }
            (2, Some(field)) => drop(next.remove(&field)),
            (3, Some(field)) => {
                next.remove(&field);
                self.own_fields(&mut next, 60);
            }
            (4, _) => {
                next.retain(|field, _| field.name().starts_with(PREFIX) || *field == Field::Image);
                self.own_fields(&mut next, 20);
            }
            _ => {
                let key = self.key();
                let (place, value) = (self.place(format!("{PREFIX}{key}")), self.value(key));
                next.insert(place, value);
            }
        }
        if self.random.bool() {
            let image = self.one(&["one", "two", "three"]);
            next.insert(Field::Image, json!(image));
        }
        next
    }

    /// Next step; `latest` are the manifests of the client-side author and of the two managers.
    pub fn step(
        &mut self,
        latest: &[Option<Manifest>; 3],
        claims: &Manifest,
        revisions: usize,
    ) -> Step {
        let from = |author: usize| latest[author].clone().unwrap_or_else(|| claims.clone());
        match self.random.u8(..16) {
            0..=4 => Step::Apply(self.next(&from(0))),
            5..=7 => {
                let manager = self.random.usize(..2);
                Step::ServerApply(manager, self.next(&from(1 + manager)))
            }
            8 => Step::Replace(self.next(&from(0))),
            9 | 10 => {
                let key = self.key();
                let (place, value) = (self.place(format!("{PREFIX}{key}")), self.value(key));
                Step::Annotate(place, self.random.bool().then_some(value))
            }
            11 | 12 if revisions > 0 && self.kind != "CronJob" => {
                Step::Undo(self.random.usize(..revisions))
            }
            13 => Step::Restart,
            14 => Step::SetImage(self.one(&["one", "two", "three"]).to_owned()),
            _ => Step::Label,
        }
    }
}

impl Field {
    fn name(&self) -> &str {
        match self {
            Self::Metadata(name) | Self::Job(name) | Self::Template(name) | Self::Env(name) => name,
            Self::EnvFrom | Self::Image => "",
        }
    }
}
