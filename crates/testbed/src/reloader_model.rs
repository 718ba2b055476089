//! Model of Stakater Reloader with its default flags, for machines without the real one. It watches Secrets and sends
//! the requests of the real one; `tests/apiserver/reloader.rs` describes both.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt as _;
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::namespace::Identity;
use super::objects::{ApiResponse, send, send_as};
use super::reloader_rules::{ReloadDecision, container, hash, marker, reload_decision};

/// Limit of retries of a change after a rejected request.
const RETRIES: u32 = 5;

/// Running model. Stopped on drop.
pub struct Model {
    // Runtime of the model's own: a client's worker lives in the runtime that created it, and tests end earlier.
    runtime: Option<Runtime>,
}

/// Secret whose data changed.
#[derive(Debug, Clone)]
struct Change {
    namespace: String,
    name: String,
    annotations: Value,
    hash: String,
    tries: u32,
}

/// Kinds, in the order in which they are reloaded.
const KINDS: [Kind; 5] = [
    Kind {
        api: "apps/v1",
        plural: "deployments",
        name: "Deployment",
    },
    Kind {
        api: "batch/v1",
        plural: "cronjobs",
        name: "CronJob",
    },
    Kind {
        api: "batch/v1",
        plural: "jobs",
        name: "Job",
    },
    Kind {
        api: "apps/v1",
        plural: "daemonsets",
        name: "DaemonSet",
    },
    Kind {
        api: "apps/v1",
        plural: "statefulsets",
        name: "StatefulSet",
    },
];

struct Kind {
    api: &'static str,
    plural: &'static str,
    name: &'static str,
}

impl Model {
    /// Starts the model with the permissions of `identity`.
    pub fn start(identity: &Identity) -> Self {
        let builder = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = builder.expect("a runtime");
        let identity = identity.clone();
        runtime.spawn(async move {
            let client = identity.client();
            let (queue, changes) = unbounded_channel();
            tokio::join!(watch(&client, &queue), work(&client, &queue, changes));
        });
        Self {
            runtime: Some(runtime),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.runtime
            .take()
            .expect("taken only on drop")
            .shutdown_background();
    }
}

/// Watches all Secrets, and queues those whose data changed.
async fn watch(client: &Client, queue: &UnboundedSender<Change>) {
    let secrets: Api<Secret> = Api::all(client.clone());
    let mut hashes = HashMap::new();
    loop {
        // Permissions take effect with a delay, and watches end: both are retried.
        follow(&secrets, &mut hashes, queue).await.ok();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn follow(
    secrets: &Api<Secret>,
    hashes: &mut HashMap<(String, String), String>,
    queue: &UnboundedSender<Change>,
) -> kube::Result<()> {
    let list = secrets.list(&ListParams::default()).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let before = std::mem::take(hashes);
    for secret in list.items {
        let previous = before.get(&key(&secret)).cloned();
        observe(&secret, previous, hashes, queue);
    }
    let mut events = std::pin::pin!(secrets.watch(&WatchParams::default(), &version).await?);
    while let Some(event) = events.try_next().await? {
        match event {
            // A new Secret changes nothing, even if one of its name existed before.
            WatchEvent::Added(secret) => observe(&secret, None, hashes, queue),
            WatchEvent::Modified(secret) => {
                let previous = hashes.remove(&key(&secret));
                observe(&secret, previous, hashes, queue);
            }
            WatchEvent::Deleted(secret) => {
                hashes.remove(&key(&secret));
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => break,
        }
    }
    Ok(())
}

fn key(secret: &Secret) -> (String, String) {
    (secret.namespace().unwrap_or_default(), secret.name_any())
}

fn observe(
    secret: &Secret,
    previous: Option<String>,
    hashes: &mut HashMap<(String, String), String>,
    queue: &UnboundedSender<Change>,
) {
    let hash = hash(
        secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key, value.0.as_slice())),
    );
    if previous.is_some_and(|previous| previous != hash) {
        let (namespace, name) = key(secret);
        let annotations = json!(secret.annotations());
        queue
            .send(Change {
                namespace,
                name,
                annotations,
                hash: hash.clone(),
                tries: 0,
            })
            .ok();
    }
    hashes.insert(key(secret), hash);
}

/// Processes one change after the other.
async fn work(
    client: &Client,
    queue: &UnboundedSender<Change>,
    mut changes: UnboundedReceiver<Change>,
) {
    while let Some(mut change) = changes.recv().await {
        if reload(client, &change).await.is_err() && change.tries < RETRIES {
            change.tries += 1;
            let queue = queue.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5 << (change.tries - 1))).await;
                queue.send(change).ok();
            });
        }
    }
}

/// Reloads all workloads of the namespace. The first rejected request ends it.
async fn reload(client: &Client, change: &Change) -> Result<(), ApiResponse> {
    for kind in KINDS {
        let collection = format!(
            "/apis/{}/namespaces/{}/{}",
            kind.api, change.namespace, kind.plural
        );
        // A rejected list counts as an empty one.
        let list = send(client, Method::GET, &collection, None).await.body;
        for item in list["items"].as_array().into_iter().flatten() {
            if let Some((index, name)) = container_to_mark(&kind, item, change) {
                restart(
                    client,
                    &kind,
                    &collection,
                    item.clone(),
                    change,
                    index,
                    &name,
                )
                .await?;
            }
        }
    }
    Ok(())
}

/// JSON pointer of the pod template.
fn template(kind: &Kind) -> &'static str {
    if kind.name == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    }
}

/// Index and name of the container that gets the marker; `None` if this workload is not reloaded.
fn container_to_mark(kind: &Kind, item: &Value, change: &Change) -> Option<(usize, String)> {
    let template = item.pointer(template(kind))?;
    let (own, inner) = (
        &item["metadata"]["annotations"],
        &template["metadata"]["annotations"],
    );
    let reload_decision = reload_decision(&change.name, &change.annotations, own, inner);
    if reload_decision == ReloadDecision::No {
        return None;
    }
    let index = container(&template["spec"], &change.name, reload_decision)?;
    let container = &template["spec"]["containers"][index];
    let marked = json!(marker(&change.name));
    let previous = container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|variable| variable["name"] == marked);
    let up_to_date = previous.is_some_and(|variable| variable["value"] == change.hash.as_str());
    (!up_to_date).then(|| {
        (
            index,
            container["name"].as_str().unwrap_or_default().to_owned(),
        )
    })
}

async fn restart(
    client: &Client,
    kind: &Kind,
    collection: &str,
    mut item: Value,
    change: &Change,
    index: usize,
    container: &str,
) -> Result<(), ApiResponse> {
    let variable = json!({"name": marker(&change.name), "value": change.hash});
    let name = item["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let own = format!("{collection}/{name}");
    let response = match kind.name {
        "CronJob" => {
            set_variable(
                &mut item["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][index],
                variable,
            );
            let jobs = collection.replace("/cronjobs", "/jobs");
            send(client, Method::POST, &managed(&jobs), Some(&job_of(&item))).await
        }
        "Job" => {
            set_variable(
                &mut item["spec"]["template"]["spec"]["containers"][index],
                variable,
            );
            let background = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
            accepted_or_error(send(client, Method::DELETE, &own, Some(&background)).await)?;
            send(
                client,
                Method::POST,
                &managed(collection),
                Some(&recreated(item)),
            )
            .await
        }
        _ => {
            let containers = json!([{"name": container, "env": [variable]}]);
            let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
            let strategic = "application/strategic-merge-patch+json";
            send_as(
                client,
                Method::PATCH,
                &managed(&own),
                Some(&patch),
                strategic,
            )
            .await
        }
    };
    accepted_or_error(response)
}

fn managed(path: &str) -> String {
    format!("{path}?fieldManager=Reloader")
}

fn accepted_or_error(response: ApiResponse) -> Result<(), ApiResponse> {
    if response.is_accepted() {
        Ok(())
    } else {
        Err(response)
    }
}

/// Sets the variable on a container.
fn set_variable(container: &mut Value, variable: Value) {
    if !container["env"].is_array() {
        container["env"] = json!([]);
    }
    let env = container["env"].as_array_mut().expect("a new list");
    match env
        .iter_mut()
        .find(|previous| previous["name"] == variable["name"])
    {
        Some(previous) => *previous = variable,
        None => env.push(variable),
    }
}

/// Job as `kubectl create job --from` creates it.
fn job_of(cronjob: &Value) -> Value {
    let (metadata, template) = (&cronjob["metadata"], &cronjob["spec"]["jobTemplate"]);
    let name = metadata["name"].as_str().unwrap_or_default();
    let mut annotations = Map::from_iter([(
        "cronjob.kubernetes.io/instantiate".to_owned(),
        json!("manual"),
    )]);
    annotations.extend(
        template["metadata"]["annotations"]
            .as_object()
            .cloned()
            .unwrap_or_default(),
    );
    let owner = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": metadata["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": metadata["namespace"],
            "annotations": annotations,
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    })
}

/// Job without the fields that the API server adds.
fn recreated(mut job: Value) -> Value {
    job["apiVersion"] = json!("batch/v1");
    job["kind"] = json!("Job");
    let without = |object: &mut Value, keys: &[&str]| {
        if let Some(object) = object.as_object_mut() {
            for key in keys {
                object.remove(*key);
            }
        }
    };
    without(
        &mut job["metadata"],
        &["resourceVersion", "uid", "creationTimestamp"],
    );
    without(&mut job["spec"], &["selector"]);
    let added = [
        "controller-uid",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "job-name",
    ];
    without(&mut job["spec"]["template"]["metadata"]["labels"], &added);
    without(&mut job, &["status"]);
    job
}
