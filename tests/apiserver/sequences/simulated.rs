//! API server simulated as far as these steps need it: three-way apply, server-side apply with owners by field, and the
//! webhook called in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floe_secrets_webhook::admission::event::metrics::AdmissionMetrics;
use floe_secrets_webhook::admission::handler::{Handler, Received};
use floe_secrets_webhook::admission::pipeline::Pipeline;
use floe_secrets_webhook::admission::policy::Policy;
use floe_secrets_webhook::admission::sources::{Source, Sources};
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::backend::static_binder::StaticBinder;
use floe_secrets_webhook::defaults::Defaults;
use floe_secrets_webhook::telemetry::span::Span;
use injection::SecretSource;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::apply::{self, Form, configuration};
use super::author::{CONTAINER, Field, Manifest, PREFIX, Step, object, template_path};
use super::check::{ApiServer, Checker, Revision};
use testbed::in_process::NoDefaults;

/// Owner of a field: any update, or one of the two managers that apply server-side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Update,
    Manager(usize),
}

/// Webhook of all sequences.
pub struct Webhook {
    handler: Handler,
}

impl Webhook {
    pub fn new(inject_template: bool) -> Self {
        let mut secrets = StaticBinder::default();
        for name in ["a", "b", "c"] {
            secrets.insert("ns", name, ["k".to_owned()]);
        }
        let binder = Source {
            binder: Arc::new(secrets),
            recent_names: None,
        };
        let sources = Sources::from([(SecretSource::Kubernetes, binder)]);
        let policy = Policy {
            inject_template,
            ..Policy::default()
        };
        let pipeline = Pipeline::new(
            sources,
            Arc::new(Defaults::new(Arc::new(NoDefaults))),
            policy,
        );
        let handler = Handler::new(
            Arc::new(pipeline),
            AdmissionMetrics::register(&mut Registry::default()),
        );
        Self { handler }
    }

    /// Stored object and warnings. An object without annotations of the webhook is not sent to it.
    async fn admit(
        &self,
        surface: Surface,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(Value, Vec<String>), String> {
        if ![Some(object), old].into_iter().flatten().any(asks) {
            return Ok((object.clone(), Vec::new()));
        }
        let kind = object["kind"].as_str().unwrap_or("Pod");
        let group = object["apiVersion"]
            .as_str()
            .and_then(|version| version.split_once('/'))
            .map_or("", |(g, _)| g);
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "namespace": "ns", "userInfo": {"username": "somebody"},
                "resource": {"group": group, "version": "v1", "resource": format!("{}s", kind.to_lowercase())},
                "operation": if old.is_some() { "UPDATE" } else { "CREATE" }, "object": object, "oldObject": old,
            },
        });
        let bytes = review.to_string().into_bytes();
        let received = Received::in_process(Some("timeout=5s"));
        let answer = self
            .handler
            .handle(surface, received, &bytes, Span::off())
            .await;
        let answer = serde_json::to_value(answer.expect("a review")).expect("a response is JSON");
        let response = &answer["response"];
        if response["allowed"] != true {
            return Err(format!("refused: {}", response["status"]["message"]));
        }
        let mut after = object.clone();
        if let Some(patch) = response["patch"].as_str() {
            use base64::Engine as _;
            let patch = base64::engine::general_purpose::STANDARD
                .decode(patch)
                .expect("base64");
            let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
            json_patch::patch(&mut after, &patch).expect("the patch fits");
        }
        let warnings = response["warnings"].as_array().into_iter().flatten();
        Ok((
            after,
            warnings
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        ))
    }
}

/// One workload on the simulated API server.
pub struct Simulated<'w> {
    webhook: &'w Webhook,
    stored: Value,
    owners: BTreeMap<Field, BTreeSet<Owner>>,
    /// Step of each manager's last apply.
    times: [usize; 2],
    steps: usize,
}

/// Whether an object has an annotation of the webhook.
fn asks(object: &Value) -> bool {
    let places = [
        "",
        "/spec/template",
        "/spec/jobTemplate",
        "/spec/jobTemplate/spec/template",
    ];
    let annotations = places
        .iter()
        .filter_map(|place| object.pointer(&format!("{place}/metadata/annotations")));
    annotations
        .filter_map(Value::as_object)
        .flatten()
        .any(|(name, _)| name.starts_with(PREFIX))
}

/// Key under which a field's owners are kept: where the list of containers is one value, one key for all of it.
fn owned(kind: &str, field: &Field) -> Field {
    if Form::of(kind) == Form::Merge && field.is_of_container() {
        Field::Image
    } else {
        field.clone()
    }
}

/// Fields of an object that can be owned here.
fn fields(object: &Value) -> BTreeSet<Field> {
    let kind = object["kind"].as_str().expect("a kind");
    let template = object.pointer(template_path(kind)).expect("a template");
    let names = |annotations: Option<&Value>| -> Vec<String> {
        annotations
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let metadata = names(object["metadata"].get("annotations"))
        .into_iter()
        .map(Field::Metadata);
    let job = names(object.pointer("/spec/jobTemplate/metadata/annotations"))
        .into_iter()
        .map(Field::Job);
    let inner = names(template["metadata"].get("annotations"))
        .into_iter()
        .map(Field::Template);
    let variables = template["spec"]["containers"][0]["env"]
        .as_array()
        .into_iter()
        .flatten();
    let variables =
        variables.filter_map(|entry| Some(Field::Env(entry["name"].as_str()?.to_owned())));
    let all = metadata
        .chain(job)
        .chain(inner)
        .chain(variables)
        .chain([Field::EnvFrom, Field::Image]);
    all.filter(|field| field.get(object).is_some()).collect()
}

/// `fieldsV1` of owned fields.
fn fields_v1<'f>(kind: &str, owned: impl Iterator<Item = &'f Field>) -> Value {
    let mut tree = json!({});
    let template: Vec<String> = template_path(kind)
        .split('/')
        .skip(1)
        .map(|step| format!("f:{step}"))
        .collect();
    let container = [
        "f:spec".to_owned(),
        "f:containers".to_owned(),
        format!(r#"k:{{"name":"{CONTAINER}"}}"#),
    ];
    for field in owned {
        let annotation = |name: &str| {
            [
                "f:metadata".to_owned(),
                "f:annotations".to_owned(),
                format!("f:{name}"),
            ]
        };
        let inside = |more: Vec<String>| {
            let replaces_lists = Form::of(kind) == Form::Merge;
            let more = container
                .iter()
                .cloned()
                .chain(more)
                .take(if replaces_lists { 2 } else { usize::MAX });
            template.iter().cloned().chain(more).collect()
        };
        let path: Vec<String> = match field {
            Field::Metadata(name) => annotation(name).to_vec(),
            Field::Job(name) => ["f:spec", "f:jobTemplate"]
                .map(str::to_owned)
                .into_iter()
                .chain(annotation(name))
                .collect(),
            Field::Template(name) => template.iter().cloned().chain(annotation(name)).collect(),
            Field::EnvFrom => inside(vec!["f:envFrom".to_owned()]),
            Field::Env(name) => inside(vec![
                "f:env".to_owned(),
                format!(r#"k:{{"name":"{name}"}}"#),
            ]),
            Field::Image => inside(vec!["f:image".to_owned()]),
        };
        let mut at = &mut tree;
        for step in path {
            at = &mut at[step];
            if at.is_null() {
                *at = json!({});
            }
        }
    }
    tree
}

impl<'w> Simulated<'w> {
    /// Creates a workload by `kubectl apply`.
    pub async fn create(
        webhook: &'w Webhook,
        kind: &str,
        manifest: &Manifest,
    ) -> Result<(Self, Checker), String> {
        let mut simulated = Self {
            webhook,
            stored: Value::Null,
            owners: BTreeMap::new(),
            times: [0, 0],
            steps: 0,
        };
        let created = configuration(&object(kind, "w", manifest));
        simulated.updated(&object(kind, "w", &Manifest::new()), &created);
        simulated.store(created, None).await?;
        let checker = Checker::new(&simulated.stored, manifest.clone(), 0);
        Ok((simulated, checker))
    }

    /// State after an earlier version: copies under their own names, and a record of them.
    pub fn make_older(&mut self) {
        let template = Field::Template(format!("{PREFIX}inherited"));
        let Some(inherited) = template.get(&self.stored) else {
            return;
        };
        template.set(&mut self.stored, None);
        let copied: BTreeMap<String, String> =
            serde_json::from_str(inherited.as_str().expect("text")).expect("JSON");
        for (key, value) in &copied {
            Field::Template(format!("{PREFIX}{key}")).set(&mut self.stored, Some(&json!(value)));
        }
        let record = Field::Metadata(format!("{PREFIX}injected"));
        let text = record.get(&self.stored).unwrap_or_else(|| json!("{}"));
        let mut written: Value = serde_json::from_str(text.as_str().expect("text")).expect("JSON");
        written["copied"] = json!(copied);
        record.set(&mut self.stored, Some(&json!(written.to_string())));
    }

    /// Transfers changed fields to the update. Repeated values stay with their owners.
    fn updated(&mut self, old: &Value, new: &Value) {
        let kind = new["kind"].as_str().expect("a kind");
        for field in fields(old)
            .union(&fields(new))
            .filter(|field| field.get(old) != field.get(new))
        {
            let field = owned(kind, field);
            match field.get(new) {
                Some(_) => drop(self.owners.insert(field, BTreeSet::from([Owner::Update]))),
                None => drop(self.owners.remove(&field)),
            }
        }
    }

    /// Admits the object and stores it. Fields that the webhook changes get no owner and lose none.
    async fn store(
        &mut self,
        mut object: Value,
        old: Option<&Value>,
    ) -> Result<Vec<String>, String> {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let entries: Vec<Value> = (0..2)
            .filter_map(|manager| {
                let owned = self.owners.iter().filter(|(_, owners)| owners.contains(&Owner::Manager(manager)));
                let owned: Vec<&Field> = owned.map(|(field, _)| field).collect();
                (!owned.is_empty()).then(|| {
                    json!({"manager": format!("m{manager}"), "operation": "Apply", "time": self.times[manager].to_string(), "fieldsType": "FieldsV1",
                        "fieldsV1": fields_v1(&kind, owned.into_iter())})
                })
            })
            .collect();
        object["metadata"]["managedFields"] = json!(entries);
        let (after, warnings) = self.webhook.admit(Surface::Workloads, &object, old).await?;
        self.stored = after;
        Ok(warnings)
    }

    fn server_apply(&mut self, manager: usize, manifest: &Manifest) -> Value {
        let mut object = self.stored.clone();
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let owner = Owner::Manager(manager);
        // A list that is one value is sent as a whole.
        for field in fields(&object)
            .into_iter()
            .filter(|field| owned(&kind, field) != *field)
        {
            if !manifest.contains_key(&field) {
                field.set(&mut object, None);
                self.owners.insert(Field::Image, BTreeSet::new());
            }
        }
        for (field, owners) in &mut self.owners {
            let gone = !manifest.contains_key(field) && owners.remove(&owner) && owners.is_empty();
            if gone {
                field.set(&mut object, None);
            }
        }
        let mut changed = BTreeSet::new();
        for (field, value) in manifest {
            if field.get(&object).as_ref() != Some(value) {
                field.set(&mut object, Some(value));
                changed.insert(owned(&kind, field));
            }
        }
        for field in changed {
            self.owners.insert(field, BTreeSet::new());
        }
        for field in manifest.keys() {
            self.owners
                .entry(owned(&kind, field))
                .or_default()
                .insert(owner);
        }
        self.times[manager] = self.steps;
        object
    }
}

impl ApiServer for Simulated<'_> {
    fn tells_applies_apart(&self) -> bool {
        true
    }

    async fn apply_step(
        &mut self,
        step: &Step,
        earlier: Option<&Revision>,
    ) -> Result<Vec<String>, String> {
        self.steps += 1;
        let old = self.stored.clone();
        let kind = old["kind"].as_str().expect("a kind").to_owned();
        let object = match step {
            Step::Apply(manifest) => {
                let mut object = old.clone();
                let patch = apply::patch(&super::author::object(&kind, "w", manifest), &old);
                if patch.is_empty() {
                    return Ok(Vec::new());
                }
                apply::merge(Form::of(&kind), &mut object, &patch);
                object
            }
            Step::ServerApply(manager, manifest) => self.server_apply(*manager, manifest),
            Step::Replace(manifest) => object(&kind, "w", manifest),
            Step::Annotate(field, value) => {
                let mut object = old.clone();
                field.set(&mut object, value.as_ref());
                object
            }
            Step::Undo(_) => {
                let mut object = old.clone();
                let earlier = earlier.expect("a revision");
                *object
                    .pointer_mut(template_path(&kind))
                    .expect("a template") = earlier.template.clone();
                if kind == "Deployment" {
                    object["metadata"]["annotations"] = earlier.annotations_after(&old);
                }
                object
            }
            Step::Restart => {
                let mut object = old.clone();
                let field = Field::Template("kubectl.kubernetes.io/restartedAt".to_owned());
                let count = field
                    .get(&object)
                    .and_then(|at| at.as_str()?.parse::<u32>().ok())
                    .unwrap_or_default();
                field.set(&mut object, Some(&json!((count + 1).to_string())));
                object
            }
            Step::SetImage(image) => {
                let mut object = old.clone();
                Field::Image.set(&mut object, Some(&json!(image)));
                object
            }
            Step::Label => {
                let mut object = old.clone();
                let touched = object["metadata"]["labels"]["touched"] != "yes";
                object["metadata"]["labels"]["touched"] = json!(if touched { "yes" } else { "no" });
                object
            }
        };
        if !matches!(step, Step::ServerApply(..)) {
            self.updated(&old, &object);
        }
        self.store(object, Some(&old)).await
    }

    async fn object(&self) -> Value {
        self.stored.clone()
    }

    async fn container(&self) -> Result<Value, String> {
        let kind = self.stored["kind"].as_str().expect("a kind");
        let mut pod = self
            .stored
            .pointer(template_path(kind))
            .expect("a template")
            .clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        let (pod, _) = self.webhook.admit(Surface::Pods, &pod, None).await?;
        Ok(pod["spec"]["containers"][0].clone())
    }
}
